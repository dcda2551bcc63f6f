"""Running stages: a finished one is skipped, an interrupted one goes on, and a folder is whole or not there."""

import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from halfling import cores, processes
from halfling.errors import HalflingError
from halfling.files import CHECKPOINTS, beside
from halfling.fingerprint import Input as Input
from halfling.fingerprint import added, changes, contents, fingerprint, finished, manifest_of, paths_in, seal
from halfling.folders import alone, begin, begun, put
from halfling.records import Counts, Manifest, Progress, Settings, silent

_FULL = 2**18
"""Bytes; a disk with less to spare is full."""


@dataclass(frozen=True)
class Stage:
    """One piece of work: settings and inputs in, a folder out.

    Attributes:
        name: As the view shows it; unique in a run.
        work: The stage's function, called with `settings`, `out`, `progress` and the inputs by role.
        settings: What it is told.
        out: The folder that it makes.
        inputs: Role -> what it reads.
    """

    name: str
    work: Callable[..., Counts]
    settings: Settings
    out: Path
    inputs: Mapping[str, Input] = field(default_factory=dict)


class View:
    """Somebody who watches stages; this one shows nothing."""

    def start(self, stage: Stage) -> Progress:
        """Show that a stage begins, and return what it reports its progress to."""
        return silent

    def made_anew(self, stage: Stage, why: Sequence[str]) -> None:
        """Say what changed since a finished folder was made, before it is made again."""

    def end(self, stage: Stage, how: Literal["done", "skipped"], seconds: float) -> None:
        """Show that a stage is over."""


def run_stages(stages: Sequence[Stage], view: View | None = None) -> None:
    """Run stages in order, each of them once.

    Raises:
        HalflingError: A stage could not do its work, or another process is at it.
    """
    refuse_unmakeable(stages)
    for stage in stages:
        run_stage(stage, view)


def refuse_unmakeable(stages: Sequence[Stage]) -> None:
    """Refuse stages of which one cannot be made, before the first of them begins.

    Raises:
        HalflingError: Something would be replaced that is not to be, or an input is missing that none before it makes.
    """
    for place, stage in enumerate(stages):
        _out(stage)
        _refuse_missing(stage, [earlier.out for earlier in stages[:place]])


def run_stage(stage: Stage, view: View | None = None) -> Manifest:
    """Run one stage, or skip it, and return its manifest.

    The work is done in a hidden folder beside `out`, and takes the name `out` when it is whole. An `out` that other
    settings or inputs made, or that was edited since, is replaced then, not before; files that somebody added stay.
    Work that a killed process left is gone on from when settings and inputs are the same, and thrown away when
    they are not.

    Of several processes that torchrun started, the first does all this; the others join in its work where that is for
    several, and wait otherwise.

    Raises:
        HalflingError: The stage could not do its work, or another process is at it.
    """
    if processes.follows():
        return _follow(stage)
    manifest = _lead(stage, view)
    processes.told(None)
    return manifest


def _follow(stage: Stage) -> Manifest:
    """Join in the leader's work until it says that there is no more, and return the manifest that it wrote."""
    while (partial := processes.told(None)) is not None:
        stage.work(settings=stage.settings, out=partial, progress=silent, **stage.inputs)
        cores.give_memory_back()
    if manifest := manifest_of(stage.out):
        return manifest
    raise HalflingError(f"{stage.out}: another process made it and it is not here: name a place that all see")


def _lead(stage: Stage, view: View | None) -> Manifest:
    out = _out(stage)
    _refuse_missing(stage)
    watch = view or View()
    progress = watch.start(stage)
    inputs = _contents(stage)
    wanted = fingerprint(stage.work.__name__, stage.settings, inputs)
    manifest = finished(out, wanted)
    if manifest and not beside(out).exists():  # nothing is written for what is done
        watch.end(stage, "skipped", 0.0)
        return manifest
    began = time.monotonic()
    with _disk_said(out), alone(out) as aside:
        skipped = finished(out, wanted)
        # What another try left is not needed then.
        partial = begin(aside, "" if skipped else wanted)
        # Killed between the manifest and the renaming: the work is whole.
        manifest = skipped or finished(partial, wanted)
        if not manifest:
            if before := manifest_of(out):
                watch.made_anew(stage, changes(before, stage.settings, inputs))
            manifest = _make(stage, partial, inputs, wanted, progress)
            cores.give_memory_back()  # a process runs many stages
        if not skipped:
            # Not sooner: of what is not whole they are all there is to go on from.
            shutil.rmtree(partial / CHECKPOINTS, ignore_errors=True)
            put(out, aside, added(out))
    watch.end(stage, "skipped" if skipped else "done", time.monotonic() - began)
    return manifest


def states(stages: Sequence[Stage]) -> list[str]:
    """Return the `state` of every stage of a plan, each told what those before it have still to make."""
    found: list[str] = []
    for stage in stages:
        unmade = [earlier.out for earlier, how in zip(stages, found, strict=False) if how != "done"]
        found.append(state(stage, unmade))
    return found


def state(stage: Stage, unmade: Sequence[Path] = ()) -> str:
    """Return what running a stage would meet; nothing is changed.

    Args:
        stage: The stage.
        unmade: Folders that are to be made before it, or made again.

    Returns:
        "done"; "interrupted", a try can be gone on from; "changed", made from something else or edited since, so
        made again; "to do"; or "missing ROLE at PATH", an input that is not there and that nobody makes.

    Raises:
        HalflingError: The stage would be refused for what lies at its `out`.
    """
    out = _out(stage)
    if missing := _missing(stage, unmade):
        return "missing {} at {}".format(*missing)
    if not any(_within(path, unmade) for _, path in paths_in(stage.inputs)):
        wanted = fingerprint(stage.work.__name__, stage.settings, _contents(stage))
        if finished(out, wanted):
            return "done"
        if begun(beside(out)) == wanted:
            return "interrupted"
    return "changed" if manifest_of(out) else "to do"


def _out(stage: Stage) -> Path:
    """Return where a stage's `out` lies, links followed.

    Raises:
        HalflingError: Making it would replace what halfling did not make, or what the stage reads.
    """
    out = Path(os.path.realpath(stage.out))
    if out in (Path.cwd(), *Path.cwd().parents):
        raise HalflingError(f"{stage.out}: is the working folder or around it, and would be replaced: name another")
    if out.exists() and not manifest_of(out) and not (out.is_dir() and not any(out.iterdir())):
        raise HalflingError(f"{stage.out}: is there and was not made by halfling: name another folder")
    for role, path in paths_in(stage.inputs):
        links = [link for link in path.rglob("*") if link.is_symlink()]
        for read in (Path(os.path.realpath(place)) for place in (path, *links)):
            if any(read.is_relative_to(touched) or touched.is_relative_to(read) for touched in (out, beside(out))):
                raise HalflingError(
                    f"{stage.out}: lies on the {role} that it is made from, {path}: name another folder"
                )
    return out


def _missing(stage: Stage, made_before: Sequence[Path] = ()) -> tuple[str, Path] | None:
    """Return the role and the path of the first input that is not there and that nobody makes."""
    read = paths_in(stage.inputs)
    return next((one for one in read if not one[1].exists() and not _within(one[1], made_before)), None)


def _refuse_missing(stage: Stage, made_before: Sequence[Path] = ()) -> None:
    if missing := _missing(stage, made_before):
        role, path = missing
        if role == "data":  # the user's own
            raise HalflingError(f"{stage.name}: no labelled data at {path}: name a file that is there (--train, --dev)")
        raise HalflingError(f"{stage.name}: no {role} at {path}: run the stage that makes it, or mend the path")


def _within(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _contents(stage: Stage) -> dict[str, str]:
    return contents(stage.inputs, stage.settings, getattr(stage.work, "reads", {}))


def _make(stage: Stage, partial: Path, inputs: dict[str, str], wanted: str, progress: Progress) -> Manifest:
    began = time.monotonic()
    if getattr(stage.work, "together", False):
        processes.told(partial)
    counts = stage.work(settings=stage.settings, out=partial, progress=progress, **stage.inputs)
    return seal(
        partial,
        stage=stage.work.__name__,
        fingerprint=wanted,
        settings=stage.settings.model_dump(mode="json"),
        inputs=inputs,
        seed=getattr(stage.settings, "seed", 0),
        seconds=round(time.monotonic() - began, 3),
        counts=counts,
    )


@contextmanager
def _disk_said(out: Path) -> Iterator[None]:
    """Say where the disk is full, or not to be written to: every library's writer has its own words for it."""
    try:
        yield
    except HalflingError:
        raise
    except Exception as error:
        there = next(folder for folder in out.parents if folder.exists())
        disk = shutil.disk_usage(there)  # of no bytes at all: of a kind that is no disk, as /sys
        # safetensors, written in Rust, has an error of its own.
        said = re.search(r"\(os error (\d+)\)", str(error))
        reason = error.errno if isinstance(error, OSError) else int(said[1]) if said else None
        if (
            reason in (errno.ENOSPC, errno.EDQUOT)
            or "No space left" in str(error)
            or (disk.total > 0 and disk.free < _FULL)
        ):
            raise HalflingError(
                f"{out}: the disk is full: make room and run the same command again; finished work is kept"
            ) from error
        if reason not in (errno.EFBIG, errno.EROFS) or getattr(error, "filename", None):
            raise
        raise HalflingError(
            f"{out}: cannot be written ({os.strerror(reason)}): mend that and run the same command again"
        ) from error
