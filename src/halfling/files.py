"""Files that are whole or absent: write beside, then rename."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MANIFEST, STARTED = "manifest.json", "started.json"
NOT_CONTENT = (MANIFEST, STARTED, "task-sources.json")
"""What stands in a stage's folder and is no result: `manifest.json` holds times, the last says where data lie here."""

_SAMPLED_ABOVE = 256 * 2**20
_SAMPLE = 2**20


@contextlib.contextmanager
def whole_file(path: Path, *, lasting: bool = True) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes `path`'s name only when the block ends well.

    A file that is not `lasting` survives a killed process, but perhaps not a power cut: good for what a stage
    makes for itself and deletes.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        if lasting:
            with partial.open("rb") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's every byte, in hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's names and contents, in hexadecimal.

    Of a file above 256 MiB only the size and the first and last MiB are read: CC100 is half a terabyte,
    and a fingerprint must not cost more than the work that it saves. What has to find damage takes `sha256`.
    Of a stage's folder only what the stage made counts, not what `run.py` says of it.
    """
    if path.is_dir():
        whole = hashlib.sha256()
        for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name not in NOT_CONTENT):
            whole.update(f"{file.relative_to(path).as_posix()}\0{digest(file)}\n".encode())
        return whole.hexdigest()
    size = path.stat().st_size
    if size <= _SAMPLED_ABOVE:
        return sha256(path)
    with path.open("rb") as content:
        sampled = hashlib.sha256(str(size).encode() + content.read(_SAMPLE))
        content.seek(-_SAMPLE, os.SEEK_END)
        sampled.update(content.read(_SAMPLE))
        return sampled.hexdigest()
