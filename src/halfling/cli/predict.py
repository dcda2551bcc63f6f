"""`halfling predict`: answers from an exported model."""

import dataclasses
import json
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from halfling.cli.app import SERVING, AsJson, app


@app.command(rich_help_panel=SERVING)
def predict(
    folder: Path,
    text: Annotated[list[str] | None, typer.Argument(help="Texts; from standard input if left out.")] = None,
    file: Annotated[Path | None, typer.Option(help="A text a line; a tab parts the two texts of a pair.")] = None,
    backend: Annotated[str, typer.Option(help="openvino, onnx, torch, or auto.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Answer texts with the exported model in FOLDER: a label each, or the entities in it, and the layer it left at."""
    from halfling.engine import AdaptiveEngine
    from halfling.engine.tuning import TuningWarning
    from halfling.errors import HalflingError

    if text and file:
        raise HalflingError(f"{file}: texts were given too: give texts or a file")
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", TuningWarning)
        engine = AdaptiveEngine.from_pretrained(folder, backend)
    for note in notes:
        typer.echo(f"note: {note.message}", err=True)
    lines = text or _lines(file)
    if not any(line.strip() for line in lines):
        raise HalflingError(f"{file or 'predict'}: no text: give texts, --file, or lines on standard input")
    pairs = [
        tuple(line.split("\t", 1)) if "\t" in line and engine.exported.kind == "sequence" else line for line in lines
    ]
    for given, answer in zip(lines, engine.predict(pairs), strict=True):
        if as_json:
            said = {name: value for name, value in dataclasses.asdict(answer).items() if value is not None}
            typer.echo(json.dumps({"text": given, **said}, ensure_ascii=False))
            continue
        if answer.truncated:
            typer.echo(f"note: {given[:40]!r}... is longer than the model reads: its end was cut", err=True)
        if answer.spans is None:
            what = f"{answer.label} {max((answer.scores or {}).values()):.3f}"
        else:
            what = "; ".join(f"{span.text} {span.label} {span.score:.3f}" for span in answer.spans) or "-"
        typer.echo(f"{what}\tlayer {answer.exit_layer}\t{given}")


def _lines(file: Path | None) -> list[str]:
    from halfling.errors import HalflingError

    try:
        content = sys.stdin.read() if file is None else file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise HalflingError(f"{file or 'standard input'}: not UTF-8 (byte {error.start})") from error
    # Not splitlines: U+2028 and its like may stand within a text.
    return content.removesuffix("\n").split("\n")
