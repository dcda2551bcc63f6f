"""Peak memory of a fresh process."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from halfling.errors import HalflingError

_STATUS = Path("/proc/self/status")


def peak_bytes_of_this_process() -> int:
    """Return the largest resident size that this process has had since its program started, in bytes.

    Linux: `VmHWM`, which starts afresh with each program. `ru_maxrss` does not: it outlives `exec`, so that
    the small child of a large parent reports its parent's peak. It serves only where there is no `VmHWM`.
    """
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource  # not on every system

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_bytes(command: Sequence[str]) -> int:
    """Run `command` as a fresh process and return its peak resident size in bytes.

    The process must end by printing a line `{"peak_bytes": n}`, with `n` from `peak_bytes_of_this_process`:
    only the process itself can read its own mark at its end. Lines before that one are free.

    Raises:
        HalflingError: The process fails, or does not end with that line.
    """
    name = " ".join(command[:3])
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        why = _last_line(done.stderr) or "nothing on stderr"
        raise HalflingError(f"{name}: memory measurement failed with status {done.returncode}: {why}")
    said = _last_line(done.stdout)
    try:
        return int(json.loads(said)["peak_bytes"])
    except (ValueError, KeyError, TypeError) as error:
        raise HalflingError(f'{name}: expected a last line {{"peak_bytes": n}}, got {said!r}') from error


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
