"""The live view of stages: bars in a terminal, elsewhere a line for each stage and one a minute of it."""

import time
from collections.abc import Sequence
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from halfling import records
from halfling.errors import one_line
from halfling.stage import Stage, View

console = Console(stderr=True, highlight=False)
"""Progress and errors go to stderr; stdout is for results."""

SECONDS_BETWEEN_LINES = 60.0
"""Where there is no terminal."""


class LiveView(View):
    """Shows every stage: what is done, what was skipped, how far the present one is, what time is left."""

    def __init__(self, num_stages: int = 1) -> None:
        self.num_stages = num_stages
        self.shown: dict[str, tuple[int, TaskID]] = {}
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> "LiveView":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def start(self, stage: Stage) -> records.Progress:
        """Show that a stage begins."""
        number = len(self.shown) + 1
        task = self.bars.add_task(self._title(stage, number), total=None, note="")
        self.shown[stage.name] = number, task
        began = said = time.monotonic()

        def progress(done: int, total: int, note: str = "") -> None:
            nonlocal said
            self.bars.update(task, completed=done, total=total, note=note)
            now = time.monotonic()
            if self.bars.disable and done < total and now - said >= SECONDS_BETWEEN_LINES:
                said = now
                console.print(
                    f"{self._title(stage)}  {done:,} of {total:,} in {now - began:.0f} s  {note}", markup=False
                )

        return progress

    def made_anew(self, stage: Stage, why: Sequence[str]) -> None:
        """Show what changed since the folder was made."""
        more = f" and {len(why) - 3} more" if why[3:] else ""
        console.print(f"{self._title(stage)}  made anew: {'; '.join(why[:3])}{more}", markup=False, soft_wrap=True)

    def end(self, stage: Stage, how: Literal["done", "skipped"], seconds: float) -> None:
        """Show that a stage is over."""
        self.bars.remove_task(self.shown[stage.name][1])
        mark = "[green]done[/]" if how == "done" else "[dim]as it was[/]"
        took = f"{seconds:7.1f} s" if how == "done" else ""
        # A folder's name may hold what reads as markup.
        console.print(f"{escape(self._title(stage))}  {mark} {took}")

    def _title(self, stage: Stage, number: int = 0) -> str:
        name, number = one_line(stage.name), number or self.shown[stage.name][0]
        return f"[{number:>{len(str(self.num_stages))}}/{self.num_stages}] {name:<36}"
