"""The machine that a process runs on, as far as times depend on it."""

import os
import platform
from pathlib import Path

from pydantic import Field

from halfling.records import Record

_PROCESSORS = Path("/proc/cpuinfo")
_DRIVER = Path("/proc/driver/nvidia/gpus")


class Machine(Record):
    """A machine, as a process sees it."""

    processor: str = Field(description="the model's name")
    cores: int = Field(gt=0, description="that the process may use")
    accelerators: tuple[str, ...] = Field((), description="NVIDIA's, by their models' names")


def this_machine() -> Machine:
    """Return the machine that this process runs on."""
    name = platform.processor() or platform.machine()
    if _PROCESSORS.exists():
        said = (line.partition(":") for line in _PROCESSORS.read_text(encoding="utf-8").splitlines())
        name = next((value.strip() for key, _, value in said if key.strip() == "model name"), name)
    return Machine(processor=name, cores=usable_cores(), accelerators=_accelerators())


def _accelerators() -> tuple[str, ...]:
    # As the driver tells (Linux): to ask CUDA would take PyTorch.
    lines = (line for file in sorted(_DRIVER.glob("*/information")) for line in file.read_text().splitlines())
    return tuple(line.partition(":")[2].strip() for line in lines if line.startswith("Model:"))


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
