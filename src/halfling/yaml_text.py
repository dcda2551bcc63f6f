"""YAML, read strictly: every mistake is one line with its place, and no text takes long or much memory.

A date, a time and the words yes, no, on and off are text: `no` is Norwegian.
"""

from pathlib import Path
from typing import Any

import yaml

from halfling.errors import HalflingError
from halfling.files import read_text

_MOST_BYTES = 2**17
_DEEPEST = 32
_MOST_BITS = 64  # of a number
_MOST_VALUES = 10_000
"""Where an anchor is named again, its values count again."""


def read(path: Path) -> Any:
    """Return what a file says.

    Raises:
        HalflingError: The file cannot be read, is larger than 128 KiB, or is not YAML as `parse` takes it.
    """
    return parse(read_text(path, _MOST_BYTES), str(path))


def parse(text: str, where: str) -> Any:
    """Return what a text says: text, numbers, booleans, None, lists and dictionaries of these.

    Raises:
        HalflingError: It is no YAML, names a key twice, has a tag or an anchor that cannot be followed, or is too deep
            or too large. The message begins with `where`, and names line and column.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader, stricter
    except yaml.MarkedYAMLError as error:
        said = " ".join(filter(None, (error.context, error.problem)))
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise HalflingError(f"{where}: not YAML ({place}{said})") from error
    except yaml.YAMLError as error:
        raise HalflingError(f"{where}: not YAML ({' '.join(str(error).split())})") from error
    except RecursionError as error:
        raise HalflingError(f"{where}: not YAML (nested more than {_DEEPEST} deep)") from error


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which refuses what it would lose, and counts what it would grow."""

    yaml_implicit_resolvers: dict[str, Any] = {  # noqa: RUF012 (as PyYAML declares it)
        first: [
            (tag, pattern)
            for tag, pattern in found
            if not tag.endswith(":timestamp") and not (tag.endswith(":bool") and first in "yYnNoO")
        ]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth, self._values = 0, 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return a node, or the one that an alias names; counted, and not too deep."""
        event = self.peek_event()
        before, self._depth = self._values, self._depth + 1
        if self._depth > _DEEPEST:
            raise _refused(f"nested more than {_DEEPEST} deep", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise _refused(f"the anchor {event.anchor} refers to itself", event.start_mark)
            self._values += self._sizes[id(node)]
        else:
            self._values += 1
            self._sizes[id(node)] = self._values - before
        if self._values > _MOST_VALUES:
            raise _refused(f"more than {_MOST_VALUES} values", event.start_mark)
        return node

    def compose_scalar_node(self, anchor: Any) -> Any:
        """Return a node of text, if it is text that can be written down."""
        node = super().compose_scalar_node(anchor)
        try:
            node.value.encode()
        except UnicodeEncodeError:
            raise _refused("half a surrogate pair, which is no character", node.start_mark) from None
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Return a node of keys and values, no key of it twice."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise _refused(f"{key.value!r} is said twice, and the first would be lost", key.start_mark)
                seen.add((key.tag, key.value))
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Return a node's value; a tag that the text does not fit (`!!int many`) is a mistake at its place."""
        if node.tag.endswith((":int", ":float")) and ":" in node.value:
            return str(node.value)  # 24:00:00, which YAML 1.1 reads as 86400
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and value.bit_length() > _MOST_BITS:
                raise OverflowError
            return value
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            kind = node.tag.rpartition(":")[2]
            raise _refused(f"{str(node.value)[:40]!r} is no {kind}", node.start_mark) from error


def _refused(what: str, mark: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=mark)
