"""`halfling corpus`: build it, and prove that it is whole."""

import json
from pathlib import Path
from typing import Annotated

import typer

from halfling.cli.app import STAGES, AsJson, Overrides, app

corpus = typer.Typer(no_args_is_help=True, help="Build the distillation corpus, or prove that it is whole.")
app.add_typer(corpus, name="corpus", rich_help_panel=STAGES)


@corpus.command()
def build(source: str, out: Path, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Draw documents from SOURCE, a folder of CC100's files or a URL, into language-aligned chunks in OUT."""
    from halfling.cli.one_stage import run_one
    from halfling.corpus.build import CorpusSettings, build_corpus

    run_one(
        build_corpus,
        CorpusSettings,
        out,
        overrides,
        {"source": source if "://" in source else Path(source)},
        as_json=as_json,
    )


@corpus.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="CORPUS")],
    packed: Annotated[Path | None, typer.Option(help="The packed corpus made of it, to be checked as well.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prove that chunks are disjoint, complete and aligned; each fault is a line, and status 1."""
    from halfling.corpus.verify import verify as find_faults

    faults = find_faults(folder, packed)
    if as_json:
        typer.echo(json.dumps({"faults": faults}, ensure_ascii=False, indent=1))
    for fault in [] if as_json else faults:
        typer.echo(f"fault: {fault}", err=True)
    if faults:
        raise typer.Exit(1)
    if not as_json:
        typer.echo(f"{folder}: whole")
