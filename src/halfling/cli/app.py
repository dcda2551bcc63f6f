"""The application that commands register with, and what they share."""

from inspect import Parameter
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from halfling import __version__

WHOLE_RUNS, STAGES, SERVING, LOOKING = PANELS = ("Whole runs", "Stages, in their order", "In use", "Looking things up")
"""The panels of `halfling --help`."""


class InOrder(TyperGroup):
    """Commands panel after panel, stages as data flows."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands' names in the order in which one needs them."""
        from halfling.pipeline.stages import KINDS

        commands: Any = self.commands
        panels = {name: PANELS.index(command.rich_help_panel) for name, command in commands.items()}
        return sorted(panels, key=lambda name: (panels[name], [*KINDS, name].index(name), name))


app = typer.Typer(
    cls=InOrder,
    name="halfling",
    help="Distil XLM-R, let easy inputs exit early, and measure that work saved is time saved.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings that differ from their defaults."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def parameter(name: str, annotation: Any, how: Any, default: Any = ...) -> Parameter:
    """Return a parameter of a derived command: `how` is an Argument or Option of typer; `...` makes it required."""
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, how])


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"halfling {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that come before a command."""
