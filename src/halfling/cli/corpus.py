"""`halfling corpus`: plan it, prove that it is whole; building it is a stage."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halfling.cli.app import STAGES, AsJson, app
from halfling.cli.columns import in_columns

if TYPE_CHECKING:
    from halfling.corpus.plan import Budget

corpus = typer.Typer(no_args_is_help=True, help="Plan the distillation corpus, build it, prove that it is whole.")
app.add_typer(corpus, name="corpus", rich_help_panel=STAGES)


CC100_HOST = "https://data.statmt.org/cc-100/"


@corpus.command()
def plan(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE] [KEY=VALUE]...", help="A recipe, or settings of the corpus alone."),
    ] = None,
    source: Annotated[str | None, typer.Option(help="A folder of CC100's files, or a URL.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a corpus will take of each language, and what has to be fetched for it; nothing is fetched.

    Example: halfling corpus plan languages=xlmr-100 total_bytes=27GB selection=head
    """
    from halfling.corpus.build import CorpusSettings
    from halfling.corpus.plan import plan_corpus
    from halfling.settings import check, read_settings, read_yaml

    given = list(words or ())
    if given and "=" not in given[0]:
        recipe = Path(given.pop(0))
        raw = read_yaml(recipe, given)
        settings = check(CorpusSettings, raw.get("corpus") or {}, f"{recipe}, corpus")
        place = source or str(raw.get("text", CC100_HOST))
    else:
        settings, place = read_settings(CorpusSettings, given), source or CC100_HOST
    budget = plan_corpus(settings, place if "://" in place else Path(place))
    typer.echo(budget.model_dump_json(indent=1) if as_json else _table(budget))


@corpus.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="CORPUS")],
    packed: Annotated[Path | None, typer.Option(help="The packed corpus made of it, to be checked as well.")] = None,
    as_json: AsJson = False,
) -> None:
    """Prove that chunks are disjoint, complete and aligned; each fault is a line, and status 1."""
    from halfling.corpus.verify import verify as find_faults
    from halfling.tokens.verify import verify_packed

    faults = find_faults(folder)
    if packed is not None:
        faults = [*dict.fromkeys([*faults, *verify_packed(packed, folder)])]
    if as_json:
        typer.echo(json.dumps({"faults": faults}, ensure_ascii=False, indent=1))
    for fault in [] if as_json else faults:
        typer.echo(f"fault: {fault}", err=True)
    if faults:
        raise typer.Exit(1)
    if not as_json:
        typer.echo(f"{folder}: whole")


def _table(budget: "Budget") -> str:
    """Return a plan as lines: exact bytes, so that they can be added up."""
    head = ("language", "quota bytes", "per chunk", "tokens", "download bytes")
    rows = [
        (each.code, each.quota_bytes, each.chunk_bytes, each.tokens, each.download_bytes) for each in budget.languages
    ]
    per_chunk = sum(row[2] for row in rows)
    rows.append((f"{len(rows)} languages", budget.quota_bytes, per_chunk, budget.tokens, budget.download_bytes))
    table = [head, *((code, *(f"{cell:,}" for cell in cells)) for code, *cells in rows)]
    return f"{in_columns(table)}\n{budget.selection} of {budget.source}; tokens and downloads are estimates"
