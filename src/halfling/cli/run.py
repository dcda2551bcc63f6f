"""`halfling run`: a whole recipe."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halfling import processes
from halfling.cli.app import WHOLE_RUNS, AsJson, Overrides, app
from halfling.errors import HalflingError
from halfling.stage import Stage

if TYPE_CHECKING:  # torch takes seconds
    from halfling.pipeline.recipe import Recipe


@app.command(rich_help_panel=WHOLE_RUNS)
def run(
    recipe: Annotated[Path, typer.Argument(help="For instance recipes/demo.yaml.")],
    overrides: Overrides = None,
    runs: Annotated[Path, typer.Option(help="The run's folder is RUNS/{name of the recipe}.")] = Path("runs"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say of each stage whether it is done and what it will take, no more.")
    ] = False,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Stages at the same time, each on its share of the cores.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Run a recipe: finished stages are skipped, an interrupted one goes on.

    Example: halfling run recipes/real.yaml data=../shared/data teacher.epochs=2

    Hours of a dry run: estimate.chip=h100 estimate.of_peak=0.1, or stages that are done here.
    """
    from rich.console import Console

    from halfling.cli.view import LiveView
    from halfling.pipeline.plan import plan
    from halfling.pipeline.recipe import changes, read_recipe
    from halfling.pipeline.side_by_side import run_side_by_side
    from halfling.report.tables import print_table
    from halfling.results import Result
    from halfling.stage import run_stages

    resolved = read_recipe(recipe, overrides or ())
    folder = runs / resolved.name
    stages = plan(resolved, folder)
    if dry_run:
        if processes.follows():  # one of them says it
            return
        _list(stages, resolved, folder, [] if as_json else changes(resolved, recipe, overrides or ()), as_json=as_json)
        return
    with LiveView(len(stages)) as view:
        run_side_by_side(stages, view, jobs) if jobs > 1 else run_stages(stages, view)
    if processes.follows():
        return
    report = folder / "report"
    found = sorted(folder.glob("quality/*/quality.jsonl")) if resolved.report is None else [report / "results.jsonl"]
    rows = [row for file in found for row in file.read_text(encoding="utf-8").splitlines()]
    if as_json:
        typer.echo(json.dumps([json.loads(row) for row in rows], indent=1))
    elif resolved.report is None:
        typer.echo(f"The scores: {folder / 'quality'}")
    else:
        Console().print(print_table([Result.model_validate_json(row) for row in rows]))
        typer.echo(f"The page: {(report / 'index.html').resolve()}")


def _list(stages: Sequence[Stage], recipe: "Recipe", folder: Path, changed: Sequence[str], *, as_json: bool) -> None:
    """Print of each stage what is done and what it will take, and which settings are not those of the recipe.

    Raises:
        HalflingError: An input is missing that no stage makes.
    """
    from halfling.cli.dry_run import ESTIMATES, dry_run_table
    from halfling.pipeline.estimate import estimates
    from halfling.stage import states

    found = states(stages)
    sentences = recipe.sample.train_sentences if recipe.data == "sample" else None
    taken, rates = estimates(stages, found, recipe.estimate, sentences)
    if as_json:
        listed = [
            {
                "stage": stage.name,
                "state": state,
                "out": str(stage.out),
                "settings": stage.settings.model_dump(mode="json"),
                "estimate": one.model_dump(mode="json"),
            }
            for stage, state, one in zip(stages, found, taken, strict=True)
        ]
        typer.echo(json.dumps(listed, indent=1))
    else:
        typer.echo(dry_run_table([stage.name for stage in stages], found, taken, recipe.estimate.devices))
        for line in changed:
            typer.echo(f"set: {line}")
        typer.echo(f"{ESTIMATES}\ndevice-hours: {rates.said()}")
        numbers = Counter(state.split()[0] if state.startswith("missing") else state for state in found)
        typer.echo(f"{folder}: {', '.join(f'{number} {state}' for state, number in numbers.items())}")
    for stage, state in zip(stages, found, strict=True):
        if state.startswith("missing"):
            raise HalflingError(f"{stage.name}: {state}: mend the path, or make it first")
