"""Running stages: a finished one is skipped, an interrupted one goes on, and a folder is whole or not there."""

import fcntl
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from halfling.errors import HalflingError
from halfling.files import MANIFEST, NOT_CONTENT, STARTED, digest, write_json
from halfling.records import Counts, Manifest, Progress, Settings, silent


@runtime_checkable
class Described(Protocol):
    """A value that says what it is, and which files it stands for: a task."""

    def description(self) -> str:
        """Return what it is, without the places of its files."""

    def files(self) -> list[Path]:
        """Return the files whose content counts."""


Input = Path | str | dict[str, Path] | Described | None
"""A folder or file, a place that is no path (a URL), folders by name, a task, or nothing."""

_FULL = 2**18
"""Bytes; a disk with less to spare is full."""
_VERSIONS = (
    "halfling-nlp",
    "torch",
    "transformers",
    "datasets",
    "tokenizers",
    "sentencepiece",
    "pyarrow",
    "numpy",
)


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


@runtime_checkable
class View(Protocol):
    """Somebody who watches stages."""

    def start(self, stage: Stage) -> Progress:
        """Show that a stage begins, and return what it reports its progress to."""

    def end(self, stage: Stage, how: Literal["done", "skipped"], seconds: float) -> None:
        """Show that a stage is over."""


class NoView:
    """Watches nothing."""

    def start(self, stage: Stage) -> Progress:
        """Return a progress that nobody sees."""
        return silent

    def end(self, stage: Stage, how: Literal["done", "skipped"], seconds: float) -> None:
        """Show nothing."""


def run_stages(stages: Sequence[Stage], view: View | None = None) -> None:
    """Run stages in order, each of them once.

    Raises:
        HalflingError: A stage could not do its work, or another process is at it.
    """
    watch = view or NoView()
    outs = [stage.out for stage in stages]
    for stage in stages:
        for role, path in _paths(stage.inputs):
            made_here = any(path == out or out in path.parents for out in outs)
            if not made_here and not path.exists():
                raise _missing(stage, role, path)
    for stage in stages:
        run_stage(stage, watch)


def run_stage(stage: Stage, view: View | None = None) -> Manifest:
    """Run one stage, or skip it, and return its manifest.

    The work is done in `out.partial`, which takes the name `out` when it is whole. An `out` that other settings
    or inputs made is replaced then, not before. Work that a killed process left in `out.partial` is gone on from
    when settings and inputs are the same, and thrown away when they are not.

    Raises:
        HalflingError: The stage could not do its work, or another process is at it.
    """
    _refuse_to_replace(stage)
    watch = view or NoView()
    progress = watch.start(stage)
    inputs = {role: _digest_of(stage, role, value) for role, value in stage.inputs.items()}
    source = getattr(stage.settings, "source", None)
    if isinstance(source, str) and source not in ("scratch", "train") and Path(source).is_dir():
        inputs["settings.source"] = _digest_of(stage, "source", Path(source))
    fingerprint = _fingerprint(stage, inputs)
    partial = stage.out.with_name(stage.out.name + ".partial")
    stage.out.parent.mkdir(parents=True, exist_ok=True)
    with _alone(stage.out):
        finished = _finished(stage.out, fingerprint)
        if finished:
            shutil.rmtree(partial, ignore_errors=True)
            watch.end(stage, "skipped", 0.0)
            return finished
        # Killed between the manifest and the renaming: the work is whole.
        finished = _finished(partial, fingerprint)
        began = time.monotonic()
        if finished is None:
            _open(partial, fingerprint)
            try:
                with _full_disk_said(partial):
                    counts = stage.work(settings=stage.settings, out=partial, progress=progress, **stage.inputs)
            except HalflingError:
                if {path.name for path in partial.iterdir()} <= {STARTED}:
                    shutil.rmtree(partial)  # nothing to go on from
                raise
            finished = Manifest(
                stage=stage.work.__name__,
                fingerprint=fingerprint,
                settings=stage.settings.model_dump(mode="json"),
                inputs=inputs,
                versions=_versions(),
                seed=getattr(stage.settings, "seed", 0),
                seconds=round(time.monotonic() - began, 3),
                counts=counts,
                files={str(path.relative_to(partial)): path.stat().st_size for path in _files(partial)},
                digest=digest(partial),
            )
            finished.write(partial / MANIFEST)
        (partial / STARTED).unlink(missing_ok=True)
        _replace(stage.out, partial)
    watch.end(stage, "done", time.monotonic() - began)
    return finished


def _refuse_to_replace(stage: Stage) -> None:
    """Refuse an `out` whose making would delete what halfling did not make, or what the stage reads."""
    out = stage.out.resolve()
    if not out.name:
        raise HalflingError(f"{stage.out}: not a folder that can be made: name a new one")
    if out.exists() and not (out / MANIFEST).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise HalflingError(f"{stage.out}: is there and was not made by halfling: name another folder")
    for role, path in _paths(stage.inputs):
        read = path.resolve()
        if read.is_relative_to(out) or out.is_relative_to(read):
            raise HalflingError(f"{stage.out}: lies on the {role} that it is made from, {path}: name another folder")


def _paths(inputs: Mapping[str, Input]) -> Iterator[tuple[str, Path]]:
    for role, value in inputs.items():
        if isinstance(value, dict):
            yield from ((role, path) for path in value.values())
        elif isinstance(value, Path):
            yield role, value
        elif isinstance(value, Described):
            yield from ((role, path) for path in value.files())


def _missing(stage: Stage, role: str, path: Path) -> HalflingError:
    return HalflingError(f"{stage.name}: no {role} at {path}: run the stage that makes it, or mend the path")


def _fingerprint(stage: Stage, inputs: Mapping[str, str]) -> str:
    said = {
        "stage": stage.work.__name__,
        "settings": stage.settings.model_dump(mode="json"),
        "inputs": inputs,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _digest_of(stage: Stage, role: str, value: Input) -> str:
    """Return what stands for an input in the fingerprint: a finished stage's own digest, or that of a file."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        parts = {name: _digest_of(stage, role, path) for name, path in value.items()}
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    if isinstance(value, str):
        return value
    if isinstance(value, Described):
        said = [value.description(), *(_digest_of(stage, role, path) for path in value.files())]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()
    if not value.exists():
        raise _missing(stage, role, value)
    manifest = value / MANIFEST
    return Manifest.read(manifest).digest if manifest.is_file() else digest(value)


def _finished(folder: Path, fingerprint: str) -> Manifest | None:
    """Return the manifest of a folder that is whole and was made from the same."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        manifest = Manifest.read(folder / MANIFEST)
    except HalflingError:
        return None  # of another version: made again
    sizes = {str(path.relative_to(folder)): path.stat().st_size for path in _files(folder)}
    # A file that somebody added is none of our business, and no reason to do the work again.
    whole = all(sizes.get(name) == size for name, size in manifest.files.items())
    return manifest if whole and manifest.fingerprint == fingerprint else None


@contextmanager
def _full_disk_said(folder: Path) -> Iterator[None]:
    """Say that the disk is full when that is why the block fails: every library's writer has its own words for it."""
    try:
        yield
    except HalflingError:
        raise
    except Exception as error:
        full = "No space left" in str(error) or shutil.disk_usage(folder).free < _FULL
        if not full:
            raise
        raise HalflingError(
            f"{folder}: the disk is full: make room and run the same command again; finished work is kept"
        ) from error


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in NOT_CONTENT)


def _open(partial: Path, fingerprint: str) -> None:
    """Make `partial` ready: as it was left by a try at the same work, or empty."""
    started = partial / STARTED
    try:
        same = json.loads(started.read_text(encoding="utf-8"))["fingerprint"] == fingerprint
    except (OSError, ValueError, KeyError):
        same = False
    if not same:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        write_json(started, {"fingerprint": fingerprint})


def _replace(out: Path, partial: Path) -> None:
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the right to make `out`; the system takes it back from a killed process."""
    with out.with_name(f".{out.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise HalflingError(f"{out}: another halfling is making this folder: wait for it, or stop it") from error
        yield


def _versions() -> dict[str, str]:
    found: dict[str, Any] = {}
    for package in _VERSIONS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {**found, "python": ".".join(map(str, sys.version_info[:3]))}
