"""`halfling report`: results.csv, tables, plots and the page."""

from pathlib import Path
from typing import Annotated

import typer

from halfling.cli.app import STAGES, AsJson, Overrides, app


@app.command(rich_help_panel=STAGES)
def report(
    out: Path,
    measured: Annotated[
        list[Path],
        typer.Option("--from", help="A folder of evaluate quality, evaluate costs or calibrate; repeat."),
    ],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Make the report of what was measured."""
    from halfling.cli.one_stage import run_one
    from halfling.report.build import ReportSettings, build_report

    if len({(folder.parent.name, folder.name) for folder in measured}) < len(measured):
        raise typer.BadParameter("two folders of one name: their results would hide each other")
    inputs = {f"{folder.parent.name}/{folder.name}": folder for folder in measured}
    run_one(build_report, ReportSettings, out, overrides, inputs, as_json=as_json)
