"""The commands of stages, derived from their declarations when one is called: torch is not loaded for the others."""

import json
from collections.abc import Mapping, Sequence
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from halfling import processes
from halfling.cli import maps
from halfling.cli.app import STAGES, AsJson, Overrides, app, parameter
from halfling.cli.corpus import corpus
from halfling.cli.inputs import ask
from halfling.cli.settings import overrides_in, setting_options
from halfling.pipeline.stages import KINDS, Kind
from halfling.records import Counts
from halfling.stage import Input, run_stage

_GROUPS = {"": app, "corpus": corpus}
_BESIDE = {("distill", "maps"): maps.alone}
"""Commands that look something up for a stage: the stage's name and a first word that is none of its inputs."""


def command_of(kind: Kind) -> Any:
    """Return the whole command of a kind of stage: its inputs, OUT, its settings."""
    asked = ask(kind)

    def call(**given: Any) -> None:
        inputs = {role: value for one in asked for role, value in one.read(given).items()}
        overrides = [*(given["overrides"] or ()), *overrides_in(given, kind.settings)]
        _run(kind, overrides, given["out"], inputs, as_json=given["as_json"])

    call.__signature__ = Signature(  # type: ignore[attr-defined]
        [
            *(each for one in asked for each in one.parameters),
            parameter("out", Path, typer.Argument(metavar="OUT", help="The folder to make.")),
            Parameter("overrides", Parameter.KEYWORD_ONLY, default=None, annotation=Overrides),
            Parameter("as_json", Parameter.KEYWORD_ONLY, default=False, annotation=AsJson),
            *setting_options(kind.settings),
        ]
    )
    alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
    alone.command(help=kind.says)(call)
    return typer.main.get_command(alone)


def _run(kind: Kind, overrides: Sequence[str], out: Path, inputs: Mapping[str, Input], *, as_json: bool) -> None:
    """Run a stage into `out` and say where its result lies, or print its manifest."""
    # `halfling predict` must do without what these import.
    from halfling.cli.view import LiveView
    from halfling.settings import read_settings

    stage = kind.stage(out.name, read_settings(kind.settings, overrides), out, inputs)
    with LiveView() as view:
        manifest = run_stage(stage, view)
    if processes.follows():  # one of them says it
        return
    typer.echo(manifest.model_dump_json(indent=1) if as_json else json.dumps(_short(manifest.counts)))
    if not as_json:
        for line in manifest.counts.get("says", ()):
            typer.echo(line)
        typer.echo(str(out))


def _short(counts: Counts) -> Counts:
    """Leave out what fills a screen: curves, hashes and per-language tables are in the manifest."""
    # Tuples are lists once they have been read from a manifest.
    few = {name: value for name, value in counts.items() if not isinstance(value, dict)}
    return {
        name: value
        for name, value in few.items()
        if not isinstance(value, list | tuple) or (value and all(isinstance(one, int | float) for one in value))
    }


def _announce(kind: Kind) -> None:
    """Register a command that `halfling --help` lists, and that becomes whole when it is called."""

    class Derived(TyperCommand):
        def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
            if args and (beside := _BESIDE.get((kind.name, args[0]))):
                return typer.main.get_command(beside).make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
            return command_of(kind).make_context(info_name, args, parent, **extra)

    group, _, name = (kind.command or kind.name).rpartition(" ")
    panel = None if group else STAGES
    _GROUPS[group].command(name, cls=Derived, help=kind.says, rich_help_panel=panel)(lambda: None)


for _kind in KINDS.values():
    _announce(_kind)
