"""`halfling calibrate`: when to leave."""

from pathlib import Path

from halfling.cli.app import STAGES, AsJson, Overrides, app


@app.command(rich_help_panel=STAGES)
def calibrate(model: Path, data: str, out: Path, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Choose the exit threshold of MODEL on English dev in DATA: task=wikiann max_drop=1.0."""
    from halfling.calibrate import CalibrateSettings
    from halfling.calibrate import calibrate as work
    from halfling.cli.one_stage import place, run_one

    run_one(work, CalibrateSettings, out, overrides, {"model": model, "data": place(data)}, as_json=as_json)
