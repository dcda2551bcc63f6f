"""`halfling finetune`: one task, in English."""

from pathlib import Path

from halfling.cli.app import STAGES, AsJson, Overrides, app


@app.command(rich_help_panel=STAGES)
def finetune(encoder: Path, data: str, out: Path, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Fine-tune ENCODER on the English train split in DATA (a folder, or hub): task=xnli or task=wikiann."""
    from halfling.cli.one_stage import place, run_one
    from halfling.tasks.finetune import FinetuneSettings
    from halfling.tasks.finetune import finetune as work

    run_one(work, FinetuneSettings, out, overrides, {"encoder": encoder, "data": place(data)}, as_json=as_json)
