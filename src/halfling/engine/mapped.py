"""Files that somebody has mapped into this process: their pages can be given back."""

import ctypes
from pathlib import Path

_MAPS = Path("/proc/self/maps")
_DONT_NEED = 4  # MADV_DONTNEED of Linux


def release_pages(file: Path) -> None:
    """Give back the resident pages of this process's read-only mappings of `file`; whoever reads them has them again.

    Linux only; elsewhere nothing happens.
    """
    if not _MAPS.exists():
        return
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    name = str(file.resolve())
    for line in _MAPS.read_text().splitlines():
        place, rights, *_, path = (*line.split(maxsplit=5), "")[:6]
        # What may be written could lose what was written.
        if path == name and "w" not in rights:
            start, end = (int(number, 16) for number in place.split("-"))
            advise(start, end - start, _DONT_NEED)
