"""`halfling pack`: token ids in blocks."""

from pathlib import Path

from halfling.cli.app import STAGES, AsJson, Overrides, app


@app.command(rich_help_panel=STAGES)
def pack(corpus: Path, tokenizer: Path, out: Path, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Tokenise CORPUS with TOKENIZER and pack it into blocks in OUT."""
    from halfling.cli.one_stage import run_one
    from halfling.tokens.pack import PackSettings, pack_corpus

    run_one(pack_corpus, PackSettings, out, overrides, {"corpus": corpus, "tokenizer": tokenizer}, as_json=as_json)
