"""`halfling sample`: the data that halfling brings."""

from pathlib import Path

from halfling.cli.app import STAGES, AsJson, Overrides, app


@app.command(rich_help_panel=STAGES)
def sample(out: Path, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Write the embedded sample to OUT, in the form of the real data."""
    from halfling.cli.one_stage import run_one
    from halfling.sample.write import SampleSettings, write_sample

    run_one(write_sample, SampleSettings, out, overrides, {}, as_json=as_json)
