"""`halfling tokenizer`: trained here, or XLM-R's own."""

from pathlib import Path

from halfling.cli.app import STAGES, AsJson, Overrides, app


@app.command(rich_help_panel=STAGES)
def tokenizer(corpus: Path, out: Path, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Train a tokenizer of XLM-R's kind on CORPUS, or fetch one (source=FacebookAI/xlm-roberta-large)."""
    from halfling.cli.one_stage import run_one
    from halfling.pipeline.stages import source_folder
    from halfling.settings import read_settings
    from halfling.tokens.tokenizer import TokenizerSettings, build_tokenizer

    source = source_folder(read_settings(TokenizerSettings, overrides or ()).source)
    run_one(build_tokenizer, TokenizerSettings, out, overrides, {"corpus": corpus, **source}, as_json=as_json)
