"""Running one stage by its own command, with the manifest, skipping and resuming that a whole run gives it."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import typer

from halfling.cli.view import LiveView
from halfling.records import Counts, Settings
from halfling.settings import read_settings
from halfling.stage import Input, Stage, run_stage


def run_one(
    work: Callable[..., Counts],
    kind: type[Settings],
    out: Path,
    overrides: Sequence[str] | None,
    inputs: Mapping[str, Input],
    *,
    as_json: bool,
) -> None:
    """Run a stage into `out` and say where its result lies, or print its manifest."""
    stage = Stage(out.name, work, read_settings(kind, overrides or ()), out, inputs)
    with LiveView() as view:
        manifest = run_stage(stage, view)
    typer.echo(manifest.model_dump_json(indent=1) if as_json else json.dumps(_short(manifest.counts)))
    if not as_json:
        typer.echo(str(out))


def _short(counts: Counts) -> Counts:
    """Leave out what fills a screen: curves, hashes and per-language tables are in the manifest."""
    return {name: value for name, value in counts.items() if not isinstance(value, dict | list)}


def place(value: str) -> Path | str:
    """Return a data source: "hub", or a path."""
    return value if value == "hub" else Path(value)
