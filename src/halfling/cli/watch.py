"""`halfling watch`: how far an exported model's answers are from those at full depth, on text as it comes in use."""

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from halfling.cli.app import SERVING, AsJson, app
from halfling.cli.columns import in_columns
from halfling.cli.texts import columns_of, note_of_set, read_texts, reads_pairs, require_table
from halfling.errors import HalflingError

_BROKEN = 3
"""The status where a promise is shown to be broken: 1 and 2 are of what could not be asked."""


@app.command(rich_help_panel=SERVING)
def watch(
    folder: Path,
    unlabelled: Annotated[
        list[str], typer.Option(metavar="LANGUAGE=FILE", help="A text a line, pairs with a tab; or a table; repeat.")
    ],
    texts: Annotated[int, typer.Option(min=1, max=10**6, help="Drawn of each file, at most.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the draw.")] = 0,
    column: Annotated[list[str] | None, typer.Option(help="Of a table's text, and of the second; repeat.")] = None,
    backend: Annotated[str, typer.Option(help="native, torch, onnx, or auto.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Report how far the exported model in FOLDER is from full depth in each language, against what was promised.

    Ends with status 3 where more disagreement than promised is shown, at a confidence of 95 %.
    """
    from halfling.engine import AdaptiveEngine
    from halfling.engine.agreement import disagreements
    from halfling.exits.bound import lower_bound, upper_bound
    from halfling.exits.calibration import CALIBRATED, Calibration
    from halfling.tasks.task import read_task

    files = _files(unlabelled)
    engine = AdaptiveEngine.from_pretrained(folder, backend)
    pairs = reads_pairs(folder, engine.exported)
    for language in files:
        if note := note_of_set(language, engine.exported, "--unlabelled"):
            typer.echo(note, err=True)
    columns = columns_of(folder, column, pairs)
    require_table(column, [*files.values()])
    # A classifier whose task did not come along may be of texts or of pairs.
    wants_pairs = pairs and read_task(folder) is not None
    calibration = Calibration.read(folder / CALIBRATED) if CALIBRATED in engine.exported.files else None
    rows: list[dict[str, Any]] = []
    for language, file in files.items():
        there = [one for one in read_texts(file, columns, pairs) if not isinstance(one, str) or one.strip()]
        if wants_pairs and (number := next((n for n, one in enumerate(there, 1) if not _is_pair(one)), None)):
            raise HalflingError(f"{file}, text {number}: no pair: write both texts in a line, with a tab between")
        drawn = np.random.default_rng([seed, 2]).permutation(len(there))[:texts]
        losses, layers = disagreements(engine, [there[number] for number in drawn.tolist()], language)
        if not len(losses):
            raise HalflingError(f"{file}: no text that the model answers: name other text")
        whose = engine.exported.whose(language)
        promised = calibration.promised(whose) if calibration else None
        bound = 100 * upper_bound(losses)
        row: dict[str, Any] = {
            "language": language,
            "policy": whose,
            "texts": len(losses),
            "layer": round(float(layers.mean()), 2),
            "disagreement": round(100 * float(losses.mean()), 2),
            "bound": round(bound, 2),
            "promised": promised,
            "promise": None,
        }
        if promised is not None:
            is_broken = 100 * lower_bound(losses) > promised
            row["promise"] = "broken" if is_broken else "kept" if bound <= promised else "open: give more text"
        rows.append(row)
    shown = [[*rows[0]], *([_cell(name, value) for name, value in row.items()] for row in rows)]
    typer.echo(json.dumps(rows, indent=1) if as_json else in_columns(shown))
    if any(row["promise"] == "broken" for row in rows):
        raise typer.Exit(_BROKEN)


def _files(given: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for said in given:
        language, equals, file = said.partition("=")
        if not (equals and language and file):
            raise typer.BadParameter(f"{said!r}: expected LANGUAGE=FILE")
        if language in found:
            raise typer.BadParameter(f"{language!r} stands there twice: name each language once")
        if Path(file).is_dir():
            raise HalflingError(f"{file}: is a folder: name a file with a text a line")
        found[language] = Path(file)
    return found


def _is_pair(given: Any) -> bool:
    """Return whether a line has two texts and no more, as calibration takes them."""
    return isinstance(given, tuple) and len(given) == 2 and "\t" not in given[1] and all(map(str.strip, given))


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "default" if name == "policy" else "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
