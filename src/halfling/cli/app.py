"""The application that commands register with, and what they share."""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from halfling import __version__

ORDER = (
    "run",
    "sample",
    "corpus",
    "tokenizer",
    "pack",
    "teacher",
    "distill",
    "finetune",
    "exits",
    "calibrate",
    "export",
    "masked-lm",
    "quality",
    "costs",
    "evaluate",
    "report",
    "publish",
    "tasks",
    "predict",
    "flops",
    # of `halfling corpus`
    "plan",
    "build",
    "verify",
    "push",
)
"""Of the commands in `halfling --help`: as data flows."""


class InOrder(TyperGroup):
    """Commands in the order in which one needs them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands' names in the order in which one needs them."""
        names = list(self.commands)
        return sorted(names, key=lambda name: (*ORDER, *names).index(name))


app = typer.Typer(
    cls=InOrder,
    name="halfling",
    help="Distil XLM-R, let easy inputs leave early, and measure that work saved is time saved.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

WHOLE_RUNS, STAGES, SERVING, LOOKING = "Whole runs", "Stages, in their order", "In use", "Looking things up"
"""The panels of `halfling --help`."""

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Settings that differ from their defaults."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


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
