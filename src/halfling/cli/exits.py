"""`halfling exits`: classifiers after chosen layers."""

from pathlib import Path

from halfling.cli.app import STAGES, AsJson, Overrides, app


@app.command(rich_help_panel=STAGES)
def exits(finetuned: Path, data: str, out: Path, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Give FINETUNED exits, trained on the English train split in DATA: task=xnli or task=wikiann."""
    from halfling.cli.one_stage import place, run_one
    from halfling.training.exits import ExitsSettings, train_exits

    run_one(
        train_exits,
        ExitsSettings,
        out,
        overrides,
        {"finetuned": finetuned, "data": place(data)},
        as_json=as_json,
    )
