"""JSON, read strictly: what Python's reader lets pass and loses silently is a mistake of one line."""

import json
import math
from pathlib import Path
from typing import Any

from halfling.errors import HalflingError
from halfling.files import read_text

_MOST_BYTES = 16 * 2**20
_DEEPEST = 64


class _MisreadError(ValueError):
    """What JSON allows and nobody can mean."""


def read(path: Path, most_bytes: int = _MOST_BYTES) -> Any:
    """Return what a file says.

    Raises:
        HalflingError: The file cannot be read, is larger than `most_bytes`, or is not JSON as `parse` takes it.
    """
    return parse(read_text(path, most_bytes), str(path))


def parse(text: str, where: str) -> Any:
    """Return what a text says.

    Raises:
        HalflingError: It is no JSON, names a key twice, holds NaN, an infinite number or half a character, or is
            nested more than 64 deep. The message begins with `where`.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once)
        _require_plain(value)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise HalflingError(f"{where}: not JSON ({place}: {error.msg})") from error
    except UnicodeEncodeError as error:
        raise HalflingError(f"{where}: not JSON (half a surrogate pair, which is no character)") from error
    except RecursionError as error:
        raise HalflingError(f"{where}: nested more than {_DEEPEST} deep") from error
    except ValueError as error:  # ours, or a number of thousands of digits
        said = str(error) if isinstance(error, _MisreadError) else "a number has too many digits"
        raise HalflingError(f"{where}: {said}") from error
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise _MisreadError(f"two values named {twice!r}: the first would be lost: delete one")
    return found


def _require_plain(value: Any) -> None:
    """Refuse numbers that are none, and depths that nobody means."""
    level = [("the value", value)]
    for _ in range(_DEEPEST):
        for name, each in level:
            if isinstance(each, float) and not math.isfinite(each):
                raise _MisreadError(f"{name}={each}, which is no number")
        level = [
            (str(key), inner)
            for name, outer in level
            if isinstance(outer, dict | list)
            for key, inner in (outer.items() if isinstance(outer, dict) else ((name, one) for one in outer))
        ]
        if not level:
            return
    raise _MisreadError(f"nested more than {_DEEPEST} deep")
