"""`halfling distill`: the student."""

from pathlib import Path

from halfling.cli.app import STAGES, AsJson, Overrides, app


@app.command(rich_help_panel=STAGES)
def distill(teacher: Path, packed: Path, out: Path, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Distil TEACHER into a student on PACKED; OUT holds it after epochs 1, 3 and 5."""
    from halfling.cli.one_stage import run_one
    from halfling.training.distill import DistillSettings
    from halfling.training.distill import distill as work

    run_one(work, DistillSettings, out, overrides, {"teacher": teacher, "packed": packed}, as_json=as_json)
