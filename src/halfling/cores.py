"""How many cores and how much memory this process may use: what the machine has is not what a container gets."""

import ctypes
import gc
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path("/")
_COUNT_THEMSELVES = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")
"""Environment variables of torch, Arrow and BLAS; tokenizers."""

_KEPT_KERNELS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""Environment variables of oneDNN and of torch's way to it: they keep a kernel for every shape they have met, 1,024 of
them, and batches come in a hundred lengths. In bfloat16 that takes gigabytes, and saves no time."""

_LIMIT = "HALFLING_CORES"
"""Environment variable: cores that a process of ours may use at most."""

_DIGITS = 10
"""A number of more is no number of cores."""


def usable_cores(root: Path = _ROOT) -> int:
    """Return how many cores this process may use: by its affinity, its cgroups' quota and its limit; at least 1.

    Half a core of a quota is none: a thread too many is stopped again and again while others wait for it.

    Args:
        root: Where `/proc` and `/sys` are.
    """
    own = os.environ.get(_LIMIT, "")
    return max(
        1, min([_affinity(), *map(int, _quotas(root)), *([int(own)] if own.isdecimal() and len(own) < _DIGITS else [])])
    )


def usable_memory(root: Path = _ROOT) -> int:
    """Return how many bytes this process may use: the machine's, its cgroups' and its own limit."""
    most = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_memory_limits(root)]
    most += [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit != resource.RLIM_INFINITY]
    return min(most)


def workers(bytes_each: int, root: Path = _ROOT) -> int:
    """Return how many processes of `bytes_each` bytes are worth while at the same time; at least 1."""
    return max(1, min(usable_cores(root), usable_memory(root) // bytes_each))


@contextmanager
def limited(number: int) -> Iterator[None]:
    """Let processes that are started within use no more than so many cores, libraries included."""
    names = (_LIMIT, *_COUNT_THEMSELVES)
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(number)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def limit_libraries(root: Path = _ROOT) -> None:
    """Tell libraries that count cores themselves about a quota, which most of them do not see, and to keep less.

    Without a quota they choose as ever, some of them physical cores. What the user has set stays.
    """
    for name in _KEPT_KERNELS:
        os.environ.setdefault(name, "64")
    cores = usable_cores(root)
    for name in _COUNT_THEMSELVES if cores < _affinity() else ():
        os.environ.setdefault(name, str(cores))


def give_memory_back() -> None:
    """Free what lies in cycles, as a Trainer and its model do, and give what the heap has free back to the system."""
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's
        trim(0)


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """Yield the cores that each cgroup around this process allows, versions 2 and 1."""
    for folder in _cgroups(root, ""):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            yield int(quota) / int(period)
    for folder in _cgroups(root, "cpu"):
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():  # -1: no quota
            yield int(quota) / int(period)


def _memory_limits(root: Path) -> Iterator[int]:
    names = [("", "memory.max"), ("", "memory.high"), ("memory", "memory.limit_in_bytes")]
    for controller, name in names:
        for folder in _cgroups(root, controller):
            if (said := _read(folder / name)).isdigit():
                yield int(said)


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the cgroups that hold this process, innermost first; of version 2 without a controller."""
    mounted = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, names, place = line.split(":", 2)
        if controller not in names.split(","):
            continue
        # Within a container the place is often the host's, and its cgroup is mounted as the root.
        inner = Path(place.lstrip("/"))
        homes = (mounted / name for name in ((controller, names) if controller else ("", "unified")))
        for home in dict.fromkeys(homes):
            yield from (home / each for each in (inner, *inner.parents) if ".." not in each.parts)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
