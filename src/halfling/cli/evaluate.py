"""`halfling evaluate`: quality in every language, loss on held-out text, and cost."""

from pathlib import Path
from typing import Annotated

import typer

from halfling.cli.app import STAGES, AsJson, Overrides, app

evaluate = typer.Typer(no_args_is_help=True, help="Measure a model's quality in every language, or what models cost.")
app.add_typer(evaluate, name="evaluate", rich_help_panel=STAGES)

Policy = Annotated[Path | None, typer.Option(help="The calibration of an early-exit model.")]


@evaluate.command()
def quality(
    model: Path,
    data: str,
    out: Path,
    overrides: Overrides = None,
    policy: Policy = None,
    as_json: AsJson = False,
) -> None:
    """Write MODEL's scores on the dev splits in DATA: task=wikiann model=NAME."""
    from halfling.cli.one_stage import place, run_one
    from halfling.evaluate.quality import QualitySettings, measure_quality

    # As in a whole run, which gives a plain model no policy: the same work has the same fingerprint.
    inputs = {"model": model, "data": place(data)} | ({"policy": policy} if policy else {})
    run_one(measure_quality, QualitySettings, out, overrides, inputs, as_json=as_json)


@evaluate.command("masked-lm")
def masked_lm(model: Path, packed: Path, out: Path, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Write the masked-language-model loss of MODEL on the last chunk of PACKED, by language: model=NAME."""
    from halfling.cli.one_stage import run_one
    from halfling.evaluate.masked_lm import MaskedLMSettings, measure_masked_lm

    run_one(measure_masked_lm, MaskedLMSettings, out, overrides, {"model": model, "packed": packed}, as_json=as_json)


@evaluate.command()
def costs(
    data: str,
    out: Path,
    model: Annotated[list[str], typer.Option(help="NAME=FOLDER, or NAME=FOLDER:POLICY for early exit; repeat.")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Measure time and memory of several models side by side on sentences of DATA: task=wikiann."""
    from halfling.cli.one_stage import place, run_one
    from halfling.evaluate.costs import CostSettings, measure_costs

    models: dict[str, Path] = {}
    policies: dict[str, Path] = {}
    for given in model:
        name, equals, folders = given.partition("=")
        if not equals:
            raise typer.BadParameter(f"{given!r}: expected NAME=FOLDER or NAME=FOLDER:POLICY")
        if name in models:
            raise typer.BadParameter(f"{name!r} stands there twice: name each model once")
        folder, colon, policy = folders.partition(":")
        models[name] = Path(folder)
        if colon:
            policies[name] = Path(policy)
    inputs = {"models": models, "policies": policies, "data": place(data)}
    run_one(measure_costs, CostSettings, out, overrides, inputs, as_json=as_json)
