"""`halfling publish`: a model to give away."""

from pathlib import Path
from typing import Annotated

import typer

from halfling.cli.app import STAGES, AsJson, Overrides, app


@app.command(rich_help_panel=STAGES)
def publish(
    model: Path,
    out: Path,
    overrides: Overrides = None,
    measured: Annotated[
        list[Path] | None,
        typer.Option("--from", help="A folder of evaluate quality or evaluate masked-lm; repeat."),
    ] = None,
    policy: Annotated[
        Path | None, typer.Option(help="A calibration's folder: where inputs of an early-exit model exit by default.")
    ] = None,
    notes: Annotated[Path | None, typer.Option(help="Markdown on data and licences, for the card.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write MODEL, of any training stage, in half precision with its tokenizer and a card: title=NAME."""
    from halfling.cli.one_stage import run_one
    from halfling.report.publish import PublishSettings, publish

    inputs = {"model": model} | {f"{folder.parent.name}/{folder.name}": folder for folder in measured or ()}
    inputs |= {name: path for name, path in (("notes", notes), ("policy", policy)) if path}
    run_one(publish, PublishSettings, out, overrides, inputs, as_json=as_json)
