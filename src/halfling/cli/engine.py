"""`halfling engine`: the setting in which an exported model is fastest on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from halfling.cli.app import SERVING, AsJson, app
from halfling.cli.columns import in_columns

if TYPE_CHECKING:
    from halfling.engine.tuning import Tuning

engine = typer.Typer(no_args_is_help=True, help="Choose by measurement how an exported model is run.")
app.add_typer(engine, name="engine", rich_help_panel=SERVING)


@engine.callback()
def about() -> None:
    """Choose by measurement how an exported model is run."""


@engine.command()
def tune(
    folder: Path,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="To try; repeat. Default: all cores, and half of them.")
    ] = None,
    lengths: Annotated[bool, typer.Option(help="Try rows of fixed lengths too, which take more memory.")] = True,
    rounds: Annotated[int, typer.Option(min=2, help="How often everything is timed.")] = 11,
    as_json: AsJson = False,
) -> None:
    """Time every backend that FOLDER holds and this machine has, and write the choice to FOLDER/tuning.json."""
    from rich.console import Console
    from rich.progress import Progress

    from halfling.engine.tune import tune as work
    from halfling.engine.tuning import TUNING

    console = Console(stderr=True, highlight=False)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("loading", total=None)

        def progress(done: int, total: int, note: str = "") -> None:
            bars.update(task, completed=done, total=total, description=f"timing {note}")

        found = work(folder, threads=threads or (), lengths=lengths, rounds=rounds, progress=progress)
    typer.echo(found.model_dump_json(indent=1) if as_json else _table(found))
    if not as_json:
        typer.echo(str(folder / TUNING))


def _table(tuning: "Tuning") -> str:
    """Return a line for each setting, the chosen one marked, and how long its segments take."""
    sizes = [f"{n} tokens" for n in tuning.timed[0].alone_ms]
    lines = [["ms", *sizes, f"{len(tuning.batch_lengths)} sentences", "ratio to the chosen"]]
    for one in tuning.timed:
        mark = "* " if one.setting == tuning.chosen else "  "
        times = [f"{ms:.2f}" for ms in (*one.alone_ms.values(), one.batch_ms)]
        lines.append(
            [f"{mark}{one.setting}", *times, f"{one.ratio.median:.2f} [{one.ratio.lower:.2f}, {one.ratio.upper:.2f}]"]
        )
    segments = [
        f"segments at {n} tokens: {' + '.join(f'{ms:.2f}' for ms in each)} ms"
        for n, each in tuning.segment_times.items()
    ]
    return "\n".join([in_columns(lines), *segments])
