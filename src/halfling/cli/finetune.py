"""`halfling finetune`: one task, in English."""

from pathlib import Path
from typing import Annotated

import typer

from halfling.cli.app import STAGES, AsJson, Overrides, app


@app.command(rich_help_panel=STAGES)
def finetune(
    encoder: Path,
    data: str,
    out: Path,
    overrides: Overrides = None,
    teacher: Annotated[Path | None, typer.Option(help="A fine-tuned model to imitate, with soft_share=0.5.")] = None,
    packed: Annotated[
        Path | None, typer.Option(help="A packed corpus to imitate it on, with text_sequences=6000.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune ENCODER on the English train split in DATA (a folder, or hub): task=xnli or task=wikiann."""
    from halfling.cli.one_stage import place, run_one
    from halfling.training.finetune import FinetuneSettings
    from halfling.training.finetune import finetune as work

    inputs = {"encoder": encoder, "data": place(data)}
    inputs |= {name: folder for name, folder in {"teacher": teacher, "packed": packed}.items() if folder}
    run_one(work, FinetuneSettings, out, overrides, inputs, as_json=as_json)
