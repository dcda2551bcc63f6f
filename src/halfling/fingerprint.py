"""Whether a folder is as a stage would make it: what the stage reads, what it made, and what somebody added."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import halfling
from halfling import json_text
from halfling.errors import HalflingError, without_secrets
from halfling.files import CHECKPOINTS, MANIFEST, TASK_SOURCES, beside, digest, digest_of, names_in, sha256
from halfling.records import Counts, Manifest, Settings


@runtime_checkable
class Described(Protocol):
    """A value that says what it is, and which files it stands for: a task."""

    def description(self) -> str:
        """Return what it is, without the places of its files."""

    def files(self) -> list[Path]:
        """Return the files whose content counts."""


Input = Path | str | dict[str, Path] | Described | None
"""A folder or file, a place that is no path (a URL), folders by name, a task, or nothing."""

Reads = Callable[[Any, Path], Iterable[Path]]
"""Called with a stage's settings and a folder; returns the files of the folder that the stage reads."""

_W = TypeVar("_W", bound=Callable[..., Counts])

_VERSIONS = ("torch", "transformers", "datasets", "tokenizers", "sentencepiece", "pyarrow", "numpy")
_TICK = 0.02
"""Seconds; what is written so much later has another time in every file system."""


def reading(**reads: Reads) -> Callable[[_W], _W]:
    """Return a decorator by which a stage's function declares, by role, which files of a folder it reads."""

    def declare(work: _W) -> _W:
        vars(work)["reads"] = reads
        return work

    return declare


def paths_in(inputs: Mapping[str, Input]) -> Iterator[tuple[str, Path]]:
    """Yield the role and the path of every input that is a file or a folder."""
    for role, value in inputs.items():
        if isinstance(value, Described):
            role, value = "data", {str(path): path for path in value.files()}
        for path in value.values() if isinstance(value, dict) else [value]:
            if isinstance(path, Path):
                if "\0" in str(path):
                    raise HalflingError(f"{str(path)!r}: no place has a null character in its name: mend the {role}")
                yield role, path


def contents(inputs: Mapping[str, Input], settings: Settings, reads: Mapping[str, Reads]) -> dict[str, str]:
    """Return the SHA-256 of what is read of each input, by role.

    That is what `reads` says; of a folder that a stage made what its manifest names; of any other the files that are
    not hidden. The user's files above 256 MiB are sampled (`files.digest`).
    """

    def content(role: str, value: Input) -> str:
        if isinstance(value, dict):
            parts = {name: content(role, path) for name, path in value.items()}
            return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        if isinstance(value, Described):
            said = [value.description(), *(_made_in(path) or digest(path) for path in value.files())]
            return hashlib.sha256(json.dumps(said).encode()).hexdigest()
        if not isinstance(value, Path):
            return without_secrets(value or "none")  # no password goes into a manifest
        if role in reads and value.is_dir():
            return digest_of(reads[role](settings, value), value)
        return _with_data(value, _made_in(value) or digest(value))

    return {role: content(role, value) for role, value in inputs.items()}


def _with_data(folder: Path, content: str) -> str:
    """Return what stands for a model's folder: its content, and that of the labelled data of the task within."""
    try:
        said = json_text.read(folder / TASK_SOURCES)
        sources = sorted((split, code, source) for split, each in said.items() for code, source in each.items())
    except (HalflingError, AttributeError):
        return content
    # Where a file lies means nothing; whose it is does, and which part of a hub's data.
    data = []
    for split, code, source in sources:
        is_hub = source.startswith("hub:")
        place, _, part = source.removeprefix("hub:").partition(":") if is_hub else (source, "", "")
        path = Path(place)
        if path.is_dir() and not is_hub:
            raise HalflingError(f"{folder / TASK_SOURCES}: {source}: is a folder, not a file of labelled data")
        if path.exists():
            data.append([split, code, part, _made_in(path) or digest(path)])
        elif is_hub:
            data.append([split, code, source])
    return hashlib.sha256(json.dumps([content, *data]).encode()).hexdigest() if data else content


def fingerprint(stage: str, settings: Settings, inputs: Mapping[str, str]) -> str:
    """Return the hash of all that a stage's result follows from."""
    said = {
        "stage": stage,
        # The release, for every stage: a number for each would be forgotten when it matters, and a hash of the
        # code would throw away days of training for a change that alters no byte. So a new release makes everything
        # again, and whoever edits the code deletes what the edit changes.
        "version": halfling.__version__,
        "settings": settings.model_dump(mode="json"),
        "inputs": inputs,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def changes(manifest: Manifest, settings: Settings, inputs: Mapping[str, str]) -> list[str]:
    """Return what is no longer so since a manifest was written: release, settings, inputs; else the folder's files."""
    now = settings.model_dump(mode="json")
    names = [name for name in {**manifest.settings, **now} if manifest.settings.get(name) != now.get(name)]
    found = [f"{name} was {_short(manifest.settings.get(name))} and is {_short(now.get(name))}" for name in names]
    roles = {**manifest.inputs, **inputs}
    found += [f"another {role}" for role in roles if manifest.inputs.get(role) != inputs.get(role)]
    if (version := manifest.versions.get("halfling", halfling.__version__)) != halfling.__version__:
        found.append(f"halfling was {version} and is {halfling.__version__}")
    return found or ["its files were edited"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."


def manifest_of(folder: Path) -> Manifest | None:
    """Return the manifest of a folder that a stage made; None of others, whatever their `manifest.json` is."""
    try:
        return Manifest.read(folder / MANIFEST)
    except HalflingError:
        return None


def finished(folder: Path, wanted: str) -> Manifest | None:
    """Return the manifest of a folder that has this fingerprint and is as it was made, whatever was added."""
    manifest = manifest_of(folder)
    same = manifest and manifest.fingerprint == wanted and manifest.digest == _digest_now(folder, manifest)
    return manifest if same else None


def added(folder: Path) -> list[str]:
    """Return what lies in a stage's folder and was not made by the stage."""
    manifest = manifest_of(folder)
    return [name for name in names_in(folder) if name not in manifest.files] if manifest else []


def seal(folder: Path, **said: Any) -> Manifest:
    """Write and return the manifest of a folder in which everything is made; `said` is what it says besides.

    Checkpoints are no part of it.
    """
    beside(folder / MANIFEST).unlink(missing_ok=True)  # of one who was killed here
    files = [folder / name for name in names_in(folder) if not name.startswith(f"{CHECKPOINTS}/")]
    time.sleep(_TICK)
    manifest = Manifest(
        versions=_versions(),
        files={path.relative_to(folder).as_posix(): path.stat().st_size for path in files},
        stamp=_stamp(files),  # before they are read: a later change is seen
        digest=digest_of(files, folder, sha256),
        **said,
    )
    manifest.write(folder / MANIFEST)
    return manifest


def _made_in(folder: Path) -> str | None:
    """Return the SHA-256 of what a stage has made here, its folder or a part of it, as it is now."""
    folder = Path(os.path.realpath(folder))
    for home in (folder, *folder.parents):
        if manifest := manifest_of(home):
            if home == folder:
                return _digest_now(home, manifest)
            made = [path for path in (home / name for name in manifest.files) if path.is_relative_to(folder)]
            if made and folder.is_dir():
                return digest_of((path for path in made if path.is_file()), folder, sha256)
    return None


def _digest_now(folder: Path, manifest: Manifest) -> str:
    """Return the SHA-256 of the files that a manifest names, reading them only if one was touched since."""
    files = [folder / name for name in manifest.files]
    if manifest.stamp and manifest.stamp == _stamp(files):
        return manifest.digest
    return digest_of((path for path in files if path.is_file()), folder, sha256)


def _stamp(files: Iterable[Path]) -> str:
    """Return what differs once a file was written to, even if its time was set back; empty if one is missing."""
    try:
        stats = [path.stat() for path in files]
    except OSError:
        return ""
    seen = [(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns) for found in stats]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()


def _versions() -> dict[str, str]:
    found = {"python": ".".join(map(str, sys.version_info[:3])), "halfling": halfling.__version__}
    for package in _VERSIONS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
