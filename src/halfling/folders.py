"""Folders that are whole or absent, made by one process at a time in a hidden folder beside their place."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path

from halfling.errors import HalflingError
from halfling.files import beside, names_in, write_text

# What lies in the folder beside an output: the lock first and last; whose work `partial` is; the output's
# predecessor and what it held that is the user's, while folders are swapped.
_LOCK, _WORK, _PARTIAL, _OLD, _KEPT = "lock", "work", "partial", "old", "kept"
_MARK = b"halfling makes the folder whose name this one bears; delete this one when no halfling runs\n"


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder, which takes the place of `out` only when the block ends well.

    Raises:
        HalflingError: As `alone`.
    """
    with alone(out) as aside:
        yield begin(aside)
        put(out, aside)


@contextlib.contextmanager
def alone(out: Path) -> Iterator[Path]:
    """Hold the right to make `out`, and yield the folder beside it for `begin` and `put`.

    Killed at any point, the next holder finds `out` as it was or as it was to be. Afterwards the folder beside it
    is gone, unless it holds an interrupted try to go on from.

    Raises:
        HalflingError: Another process is making `out`, it cannot be replaced, or something that is not halfling's
            lies where it is made.
    """
    if out.is_symlink() or os.path.ismount(out):
        raise HalflingError(f"{out}: a link or a mount point cannot be replaced: name a folder within")
    aside = beside(out)
    missing = [folder for folder in aside.parents if not folder.exists()]
    home = aside.parents[len(missing)]
    if not home.is_dir():
        raise HalflingError(f"{home}: is no folder, so {out.name} cannot be made in it: name another place")
    with _lock(out, aside):
        try:
            _settle(out, aside)
            yield aside
        finally:
            _settle(out, aside)
            if not begun(aside):
                for path in sorted(aside.iterdir(), key=lambda path: path.name == _LOCK):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                with contextlib.suppress(OSError):  # of the next holder, or no longer empty
                    for folder in (aside, *missing):
                        folder.rmdir()


def begun(aside: Path) -> str:
    """Return which work an interrupted try has left to go on from; empty when there is none."""
    note = aside / _WORK
    left = note.is_file() and any(path.is_file() for path in (aside / _PARTIAL).rglob("*"))
    return note.read_text(encoding="utf-8") if left else ""


def begin(aside: Path, work: str = "") -> Path:
    """Return the folder to work in: as an interrupted try at the same work left it, or empty."""
    partial = aside / _PARTIAL
    if not work or begun(aside) != work:
        (aside / _WORK).unlink(missing_ok=True)  # first: nobody goes on from what is half deleted
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir()
        if work:
            write_text(aside / _WORK, work)
    return partial


def put(out: Path, aside: Path, kept: Sequence[str] = ()) -> None:
    """Give what was made the name `out`; `kept` are paths in an older `out` that are the user's and stay there."""
    if out.exists():
        for name in kept:
            if os.path.lexists(aside / _PARTIAL / name):
                raise HalflingError(
                    f"{out / name}: halfling makes a file of that name, and did not make this one: move it"
                )
        _move(kept, out, aside / _KEPT)
        out.rename(aside / _OLD)  # a folder cannot take the place of another
    (aside / _PARTIAL).rename(out)
    _settle(out, aside)


def _settle(out: Path, aside: Path) -> None:
    """Undo or end a swap: `out` is there, what is kept lies in it, and its predecessor is gone."""
    old, kept = aside / _OLD, aside / _KEPT
    if old.exists() and not out.exists():
        old.rename(out)
    if kept.exists():
        _move(names_in(kept), kept, out)
        shutil.rmtree(kept)
    if old.exists():
        shutil.rmtree(old)


def _move(names: Sequence[str], source: Path, target: Path) -> None:
    for name in names:
        if os.path.lexists(target / name):
            raise HalflingError(f"{source / name}: cannot go back to {target / name}, which is there: move one of them")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).rename(target / name)


def _lock(out: Path, aside: Path) -> contextlib.ExitStack:
    """Return the lock of the folder `aside`, made if need be; the system takes it back from a killed process."""
    lock = aside / _LOCK
    foreign = HalflingError(f"{aside}: was not made by halfling: move it away")
    if aside.is_symlink() or lock.is_symlink() or (aside.exists() and not aside.is_dir()):
        raise foreign
    there = lock.exists()
    new = os.O_CREAT | os.O_NOFOLLOW
    with contextlib.ExitStack() as held:
        while True:
            aside.mkdir(parents=True, exist_ok=True)
            try:
                file = held.enter_context(FileIO(lock, "r+", opener=lambda path, flags: os.open(path, flags | new)))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(file.fileno()), lock.stat()):
                    break
            except FileNotFoundError:
                continue  # whoever held it has just cleared it away
            except BlockingIOError:
                raise HalflingError(f"{out}: another halfling is making this folder: wait for it, or stop it") from None
        said = file.read()
        if said != _MARK:
            if not _MARK.startswith(said) or [*aside.iterdir()] != [lock]:
                if not there:
                    lock.unlink()
                raise foreign
            file.seek(0)
            file.write(_MARK)
        return held.pop_all()
