"""`halfling teacher`: the model to learn from."""

from pathlib import Path

from halfling.cli.app import STAGES, AsJson, Overrides, app


@app.command(rich_help_panel=STAGES)
def teacher(packed: Path, tokenizer: Path, out: Path, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Train a teacher on PACKED, or fetch one (source=FacebookAI/xlm-roberta-large epochs=0)."""
    from halfling.cli.one_stage import run_one
    from halfling.pipeline.stages import source_folder
    from halfling.settings import read_settings
    from halfling.training.pretrain import TeacherSettings, build_teacher

    source = source_folder(read_settings(TeacherSettings, overrides or ()).source)
    inputs = {"packed": packed, "tokenizer": tokenizer, **source}
    run_one(build_teacher, TeacherSettings, out, overrides, inputs, as_json=as_json)
