"""The machine that a process runs on, as far as times depend on it."""

import os
import platform
from pathlib import Path

from pydantic import Field

from halfling.records import Record

_PROCESSORS = Path("/proc/cpuinfo")


class Machine(Record):
    """A machine, as a process sees it."""

    processor: str = Field(description="the model's name")
    cores: int = Field(gt=0, description="that the process may use")


def this_machine() -> Machine:
    """Return the machine that this process runs on."""
    name = platform.processor() or platform.machine()
    if _PROCESSORS.exists():
        said = (line.partition(":") for line in _PROCESSORS.read_text(encoding="utf-8").splitlines())
        name = next((value.strip() for key, _, value in said if key.strip() == "model name"), name)
    return Machine(processor=name, cores=usable_cores())


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
