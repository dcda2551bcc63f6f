"""`halfling predict`: answers from an exported model."""

import csv
import dataclasses
import io
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from halfling.cli.app import SERVING, AsJson, app
from halfling.errors import HalflingError
from halfling.files import no_text, opened


class _Plain(csv.excel_tab):
    """A TSV as training reads it: nothing is quoted."""

    quoting = csv.QUOTE_NONE


_TABLES: dict[str, type[csv.Dialect]] = {".csv": csv.excel, ".tsv": _Plain}


@app.command(rich_help_panel=SERVING)
def predict(
    folder: Path,
    text: Annotated[list[str] | None, typer.Argument(help="Texts; from standard input if left out.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="Texts: a .csv or .tsv with a header; else a text a line, pairs with a tab.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Of the text in a .csv or .tsv, and of the second text; repeat.")
    ] = None,
    language: Annotated[
        str | None, typer.Option(help="Of the texts: its own exits and thresholds, where calibration made some.")
    ] = None,
    backend: Annotated[str, typer.Option(help="native, torch, onnx, or auto.")] = "auto",
    in_text: Annotated[bool, typer.Option(help="Show entities where they stand, coloured on a terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """Answer texts with the exported model in FOLDER: a label each, or its entities, and the layer it exited at."""
    from halfling.cli.in_text import show, shown_as
    from halfling.engine import AdaptiveEngine
    from halfling.tasks import read_task

    if text and file:
        raise HalflingError(f"{file}: texts were given too: give texts or a file")
    engine = AdaptiveEngine.from_pretrained(folder, backend)
    pairs = engine.exported.kind == "sequence"
    task = read_task(folder)
    columns = column or [name for name in (task.text, task.text_pair) if name] if task else column
    columns, reads = columns or [], "a text or a pair" if pairs else "one text"
    if len(columns) > (most := 1 + pairs):
        raise HalflingError(f"{folder}: answers {reads}, not {len(columns)} columns: name {most} at most with --column")
    texts = _pairs(text, pairs) if text else _texts(file, columns, pairs)
    if not any(one.strip() if isinstance(one, str) else all(map(str.strip, one)) for one in texts):
        raise HalflingError(f"{file or 'predict'}: no text: give texts, --file, or lines on standard input")
    if language is not None and language not in (known := engine.exported.policies):
        there = f"there are {', '.join(known)}" if known else "this model has one set for all"
        typer.echo(f"note: no thresholds of its own for {language!r} ({there}): the default's hold", err=True)
    for given, answer in zip(texts, engine.predict(texts, language), strict=True):
        shown = given if isinstance(given, str) else "\t".join(given)
        if as_json:
            said = {name: value for name, value in dataclasses.asdict(answer).items() if value is not None}
            said.pop("computed")
            typer.echo(json.dumps({"text": shown, **said}, ensure_ascii=False))
            continue
        if answer.truncated:
            typer.echo(f"note: {shown[:40]!r}... is longer than the model reads: its end was cut", err=True)
        if in_text and isinstance(given, str):
            show(given, answer)
            continue
        if answer.spans is not None:
            what = "; ".join(f"{span.text} {span.label} {span.score:.3f}" for span in answer.spans) or "-"
        else:
            what = f"{answer.label} {max((answer.scores or {}).values()):.3f}" if answer.label else "-"
        typer.echo(shown_as(f"{what}\tlayer {answer.exit_layer}\t{shown}"))


def _texts(file: Path | None, columns: Any, pairs: bool) -> list[Any]:
    """Return the texts of a file or of standard input."""
    try:
        content = sys.stdin.read() if file is None else _content(file)
    except UnicodeDecodeError as error:
        raise HalflingError(f"{file or 'standard input'}: not UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise HalflingError(f"{file or 'standard input'}: cannot be read ({error.strerror})") from error
    if reason := no_text(content[:4096].encode("utf-8", "surrogatepass"), carriage_returns=True):
        raise HalflingError(f"{file or 'standard input'}: {reason}")
    if file is not None and file.suffix in _TABLES:
        return _rows(file, content, columns, pairs)
    if file is not None and file.suffix not in ("", ".txt"):
        raise HalflingError(f"{file}: predict reads .csv, .tsv, and .txt with a text a line: write it as one of these")
    content = content.removeprefix("\ufeff")  # standard input's too is no part of a text
    # Not splitlines: U+2028 and its like may stand within a text.
    return _pairs(content.removesuffix("\n").split("\n"), pairs)


def _content(file: Path) -> str:
    with io.TextIOWrapper(opened(file), encoding="utf-8-sig") as content:
        return content.read()


def _pairs(lines: list[str], pairs: bool) -> list[Any]:
    """Return lines, of a classifier those with a tab as two texts."""
    return [tuple(line.split("\t", 1)) if pairs and "\t" in line else line for line in lines]


def _rows(file: Path, content: str, columns: Any, pairs: bool) -> list[Any]:
    """Return the texts of a table, by the names of its columns; a second text only where there are `pairs`."""
    from halfling.tasks.examples import USUAL

    # Not splitlines: U+2028 and its like may stand within a text.
    rows = csv.DictReader(io.StringIO(content, newline=""), dialect=_TABLES[file.suffix], strict=True)
    try:
        there, table = list(rows.fieldnames or ()), list(rows)
    except csv.Error as error:
        raise HalflingError(f"{file}: malformed after line {rows.line_num} ({error})") from error
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
