"""What `halfling engine tune` found: the setting that `backend="auto"` takes on this machine for this model."""

import warnings
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pydantic import Field

from halfling.cost.latency import Ratio
from halfling.engine.backends import MODULES
from halfling.engine.exported import BackendName, Exported, checksum_of
from halfling.engine.machine import Machine, this_machine
from halfling.errors import HalflingError
from halfling.records import Record

TUNING = "tuning.json"
"""The file beside an exported model's `engine.json`."""


class TuningWarning(UserWarning):
    """A tuning is there and cannot be used: `auto` goes by its rule, as if there were none."""


class Setting(Record):
    """How an engine is run."""

    backend: BackendName
    threads: int = Field(gt=0)
    lengths: tuple[int, ...] = Field((), description="of rows with a graph of fixed shape; see from_pretrained")

    def __str__(self) -> str:
        plural = "s" if self.threads > 1 else ""
        return f"{self.backend}, {self.threads} thread{plural}{', rows of fixed lengths' if self.lengths else ''}"


class Timed(Record):
    """What one setting took. Nobody leaves early, so all segments are computed."""

    setting: Setting
    alone_ms: dict[int, float] = Field(description="tokens of a sentence alone -> median over rounds")
    batch_ms: float = Field(description="the batch, median over rounds")
    ratio: Ratio = Field(description="to the chosen setting, alone and batch together, round by round")


class Tuning(Record):
    """Times on one machine and the setting chosen by them; the file is `tuning.json`."""

    format: Literal[1] = 1
    model: str = Field(description="checksum of the engine.json that was measured")
    machine: Machine
    versions: dict[str, str] = Field(description="of the runtimes that were measured")
    rounds: int
    batch_lengths: tuple[int, ...] = Field(description="tokens of the batch's sentences")
    timed: tuple[Timed, ...]
    chosen: Setting
    segment_times: dict[int, tuple[float, ...]] = Field(
        description="tokens of a sentence alone -> ms of each segment under the chosen setting, its exit and the "
        "engine's own work included: medians of differences within a round, so noise can bring one below 0"
    )
    checksum: str = Field("", description="SHA-256 of this record while this field is empty")


def tuned_setting(folder: Path, exported: Exported) -> Setting | None:
    """Return the setting that was chosen for a folder's model on this machine, or None when there is none.

    A tuning of another model or another machine, or one whose runtime is gone, is passed over with a `TuningWarning`.

    Raises:
        HalflingError: The tuning is damaged.
    """
    path = folder / TUNING
    if not path.is_file():
        return None
    again = f"run `halfling engine tune {folder}` again"
    try:
        tuning = Tuning.read(path)
    except HalflingError as error:
        raise HalflingError(f"{error}: {again}, or delete it") from error
    if tuning.checksum != checksum_of(tuning):
        raise HalflingError(f"{path}: damaged (not what was written): {again}, or delete it")
    here, there = this_machine(), tuning.machine
    why = None
    if tuning.model != exported.checksum:
        why = "was made for another model"
    elif here != there:
        parts = (there.processor, *there.accelerators, f"{there.cores} cores; here {here.cores}")
        why = f"was made on another machine ({', '.join(parts)})"
    elif find_spec(MODULES[tuning.chosen.backend]) is None:
        why = f"chose {tuning.chosen.backend}, which is not installed any more"
    elif tuning.versions != versions({*tuning.versions}):
        why = f"was made with other runtimes ({', '.join(f'{name} {one}' for name, one in tuning.versions.items())})"
    if why:
        warnings.warn(f"{path} {why} and is not used: {again}", TuningWarning, stacklevel=3)
        return None
    return tuning.chosen


def versions(backends: set[str]) -> dict[str, str]:
    """Return the versions of those backends' libraries that are installed."""
    return {name: _version(MODULES[name]) for name in MODULES if name in backends and find_spec(MODULES[name])}


def _version(module: str) -> str:
    try:
        return metadata.version(module)
    except metadata.PackageNotFoundError:  # another distribution brings it, as onnxruntime-gpu does
        return str(import_module(module).__version__)
