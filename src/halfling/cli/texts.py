"""Texts for a model, as a command is given them: lines, tables, standard input."""

import csv
import io
import re
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfling.errors import HalflingError
from halfling.files import PACKED, no_text, opened
from halfling.languages import CODE

if TYPE_CHECKING:  # the engine takes as long to import as a command to say how it is used
    from halfling.engine.exported import Exported


class _Plain(csv.excel_tab):
    """A TSV as training reads it: nothing is quoted."""

    quoting = csv.QUOTE_NONE


_TABLES: dict[str, type[csv.Dialect]] = {".csv": csv.excel, ".tsv": _Plain}
_LARGEST = 2**31
"""Bytes of a compressed file once unpacked: more would fill memory."""


def reads_pairs(folder: Path, exported: "Exported") -> bool:
    """Return whether a tab stands between the two texts of a pair: for a classifier whose task says no other kind."""
    if exported.kind != "sequence":
        return False
    from halfling.tasks.task import read_task

    task = read_task(folder)
    return task is None or task.kind == "pair_classification"


def columns_of(folder: Path, named: Sequence[str] | None, pairs: bool) -> list[str]:
    """Return the columns of a table that an exported model's texts stand in: those named, else its task's.

    Raises:
        HalflingError: There are more than it reads.
    """
    from halfling.tasks.task import read_task

    task = read_task(folder)
    columns = [*(named or [name for name in (task.text, task.text_pair) if name] if task else named or [])]
    if len(columns) > (most := 1 + pairs):
        reads = "a text or a pair" if pairs else "one text"
        raise HalflingError(f"{folder}: answers {reads}, not {len(columns)} columns: name {most} at most with --column")
    return columns


def require_table(columns: Sequence[str] | None, files: Sequence[Path | None]) -> None:
    """Raise where columns are named and no file has any.

    Raises:
        HalflingError: So it is.
    """
    if columns and not any(file is not None and _ending(file) in _TABLES for file in files):
        raise HalflingError(f"--column {columns[0]}: columns are of a .csv or .tsv, and there is none: leave it out")


def note_of_set(language: str, exported: "Exported", option: str) -> str | None:
    """Return what is said where a model has no thresholds of its own for a language; None where it has.

    Raises:
        HalflingError: It cannot be a language.
    """
    if exported.whose(language):
        return None
    known = [*exported.policies]
    if not re.fullmatch(CODE, language):
        there = f": the model has thresholds for {', '.join(known)}" if known else ""
        raise HalflingError(f"{option} {language}: no code of a language, as sw or zh-Hant{there}")
    there = f"there are {', '.join(known)}" if known else "this model has one set for all"
    return f"note: no thresholds of its own for {language!r} ({there}): the default's hold"


def read_texts(file: Path | None, columns: Sequence[str], pairs: bool) -> list[Any]:
    """Return the texts of a file or of standard input."""
    try:
        content = sys.stdin.read() if file is None else _content(file)
    except UnicodeDecodeError as error:
        raise HalflingError(f"{file or 'standard input'}: not UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise HalflingError(f"{file or 'standard input'}: cannot be read ({error.strerror})") from error
    if reason := no_text(content[:4096].encode("utf-8", "surrogatepass"), carriage_returns=True):
        raise HalflingError(f"{file or 'standard input'}: {reason}")
    if file is not None and _ending(file) in _TABLES:
        return _rows(file, content, columns, pairs)
    if file is not None and _ending(file) not in ("", ".txt"):
        raise HalflingError(
            f"{file}: texts are read from .csv, .tsv, and .txt with a text a line: write it as one of these"
        )
    content = content.removeprefix("\ufeff")  # standard input's too is no part of a text
    # Not splitlines: U+2028 and its like may stand within a text.
    return as_pairs(content.removesuffix("\n").split("\n"), pairs)


def _ending(file: Path) -> str:
    """Return what a file is by its name, compressed or not."""
    name = Path(file.name.lower())
    return Path(name.stem).suffix if name.suffix in PACKED else name.suffix


def _content(file: Path) -> str:
    ending = file.suffix.lower()
    if ending in PACKED:
        with opened(file) as packed, io.TextIOWrapper(_unpacked(file, packed, ending), encoding="utf-8-sig") as content:
            return content.read()
    with io.TextIOWrapper(opened(file), encoding="utf-8-sig") as content:
        return content.read()


def _unpacked(file: Path, packed: Any, ending: str) -> io.BytesIO:
    from halfling.compressed import CorruptError, unpacked

    content = io.BytesIO()
    try:
        for piece in unpacked(packed, ending):
            if content.write(piece) and content.tell() > _LARGEST:
                raise HalflingError(f"{file}: unpacks to more than {_LARGEST} bytes: cut it into smaller files")
    except EOFError as error:
        raise HalflingError(f"{file}: truncated: fetch the file again") from error
    except CorruptError as error:
        raise HalflingError(f"{file}: broken, or not an {ending[1:]} file ({error})") from error
    content.seek(0)
    return content


def as_pairs(lines: list[str], pairs: bool) -> list[Any]:
    """Return lines, of a classifier those with a tab as two texts."""
    return [tuple(line.split("\t", 1)) if pairs and "\t" in line else line for line in lines]


def _rows(file: Path, content: str, columns: Sequence[str], pairs: bool) -> list[Any]:
    """Return the texts of a table, by the names of its columns; a second text only where there are `pairs`."""
    from halfling.tasks.examples import USUAL

    # Not splitlines: U+2028 and its like may stand within a text.
    rows = csv.DictReader(io.StringIO(content, newline=""), dialect=_TABLES[_ending(file)], strict=True)
    try:
        there, table = list(rows.fieldnames or ()), list(rows)
    except csv.Error as error:
        raise HalflingError(f"{file}: malformed after line {rows.line_num} ({error})") from error
    if not there:
        raise HalflingError(f"{file}: is empty: a table has a header, and a text a row")
    if twice := next((name for number, name in enumerate(there) if name in there[:number]), None):
        raise HalflingError(f"{file}: two columns are named {twice!r}: the first would be lost: rename one")
    for number, row in enumerate(table, start=1):
        if None in row:
            raise HalflingError(f"{file}, row {number}: malformed: more fields than the header has")
    usual = [next((name for name in USUAL[what] if name in there), None) for what in ("text", "text_pair")[: 1 + pairs]]
    chosen = [*columns] or [name for name in usual if name]
    missing = [name for name in chosen if name not in there]
    if missing or not chosen:
        what = f"no column {missing[0]!r}" if missing else "no column of the text"
        raise HalflingError(f"{file}: {what}: there are {', '.join(there)}: say which with --column NAME")
    found = [tuple(row[name] or "" for name in chosen) for row in table]
    return [row if len(chosen) > 1 else row[0] for row in found]


def shown_as(text: str) -> str:
    """Return a text without what steers a terminal, and without halves of characters; tabs and line ends stay."""
    return "".join(each for each in text if each in "\t\n" or unicodedata.category(each) not in ("Cc", "Cs"))
