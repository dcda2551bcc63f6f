"""`halfling run`: a whole recipe."""

import json
from pathlib import Path
from typing import Annotated

import typer

from halfling.cli.app import WHOLE_RUNS, AsJson, Overrides, app


@app.command(rich_help_panel=WHOLE_RUNS)
def run(
    recipe: Annotated[Path, typer.Argument(help="For instance recipes/demo.yaml.")],
    overrides: Overrides = None,
    runs: Annotated[Path, typer.Option(help="The run's folder is RUNS/{name of the recipe}.")] = Path("runs"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Resolve the recipe and list the stages, no more.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a recipe: finished stages are skipped, an interrupted one goes on.

    Example: halfling run recipes/real.yaml data=../shared/data teacher.epochs=2
    """
    from rich.console import Console

    from halfling.cli.view import LiveView
    from halfling.pipeline.plan import plan
    from halfling.pipeline.recipe import read_recipe
    from halfling.records import Result
    from halfling.report.tables import print_table
    from halfling.stage import run_stages

    resolved = read_recipe(recipe, overrides or ())
    folder = runs / resolved.name
    stages = plan(resolved, folder)
    if dry_run:
        listed = [
            {"stage": stage.name, "out": str(stage.out), "settings": stage.settings.model_dump(mode="json")}
            for stage in stages
        ]
        lines = [f"{number:>3}  {stage.name:<40} {stage.out}" for number, stage in enumerate(stages, start=1)]
        typer.echo(json.dumps(listed, indent=1) if as_json else "\n".join(lines))
        return
    with LiveView(len(stages)) as view:
        run_stages(stages, view)
    report = stages[-1].out
    rows = (report / "results.jsonl").read_text(encoding="utf-8").splitlines()
    if as_json:
        typer.echo(json.dumps([json.loads(row) for row in rows], indent=1))
    else:
        Console().print(print_table([Result.model_validate_json(row) for row in rows]))
        typer.echo(f"The page: {(report / 'index.html').resolve()}")
