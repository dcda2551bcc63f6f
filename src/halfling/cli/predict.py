"""`halfling predict`: answers from an exported model."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from halfling.cli.app import SERVING, AsJson, app
from halfling.cli.texts import as_pairs, columns_of, note_of_set, read_texts, reads_pairs, require_table, shown_as
from halfling.errors import HalflingError
from halfling.files import read_ahead


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
        str | None,
        typer.Option(
            help="Of the texts: its own exits and thresholds, where calibration made some; auto: guessed, text by text."
        ),
    ] = None,
    backend: Annotated[str, typer.Option(help="native, torch, onnx, or auto.")] = "auto",
    in_text: Annotated[bool, typer.Option(help="Show entities where they stand, coloured on a terminal.")] = False,
    as_json: AsJson = False,
) -> None:
    """Answer texts with the exported model in FOLDER: a label each, or its entities, and the layer it exited at."""
    if (folder / "engine.json").is_file():  # an exported model: what knows that name takes as long to import
        read_ahead(folder.glob("native.*"))
    from halfling.engine import AdaptiveEngine
    from halfling.engine.guess import AUTO, unguessable

    if text and file:
        raise HalflingError(f"{file}: texts were given too: give texts or a file")
    engine = AdaptiveEngine.from_pretrained(folder, backend)
    require_table(column, [file])
    # Who gives texts without a tab need not wait for what knows tasks.
    pairs = not (text and "\t" not in "".join(text)) and reads_pairs(folder, engine.exported)
    texts = as_pairs(text, pairs) if text else read_texts(file, columns_of(folder, column, pairs), pairs)
    if not any(one.strip() if isinstance(one, str) else all(map(str.strip, one)) for one in texts):
        raise HalflingError(f"{file or 'predict'}: no text: give texts, --file, or lines on standard input")
    sets = [*engine.exported.policies]
    if language == AUTO:
        if not sets:
            typer.echo("note: this model has one set of thresholds for all languages: none is guessed", err=True)
        elif never := unguessable(sets):
            typer.echo(f"note: no guess is ever {', '.join(never)}: name it where you know it", err=True)
    elif language is not None and (note := note_of_set(language, engine.exported, "--language")):
        typer.echo(note, err=True)
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
            from halfling.cli.in_text import show  # a lone answer need not wait for colours

            show(given, answer)
            continue
        if answer.spans is not None:
            what = "; ".join(f"{span.text} {span.label} {span.score:.3f}" for span in answer.spans) or "-"
        else:
            what = f"{answer.label} {max((answer.scores or {}).values()):.3f}" if answer.label else "-"
        whose = f" ({answer.policy or 'default'})" if language == AUTO else ""
        typer.echo(shown_as(f"{what}\tlayer {answer.exit_layer}{whose}\t{shown}"))
