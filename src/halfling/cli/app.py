"""The application that commands register with, and what they share."""

from typing import Annotated

import typer

from halfling import __version__

app = typer.Typer(
    name="halfling",
    help="Distil XLM-R, let easy inputs leave early, and measure that work saved is time saved.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

WHOLE_RUNS, STAGES, LOOKING = "Whole runs", "Stages, in their order", "Looking things up"
"""The panels of `halfling --help`."""

Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings that differ from their defaults."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"halfling {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that come before a command."""
