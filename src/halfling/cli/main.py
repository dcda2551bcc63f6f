"""`halfling`: the command line's front door, where every error becomes one line."""

import contextlib
import io
import os
import sys
import warnings
from importlib import import_module

from halfling import cores
from halfling.errors import HalflingError, one_line, without_secrets

INTERRUPTED = 130
"""The status of a command that was stopped by Ctrl-C, as shells know it."""

_NO_MEMORY = (
    "bad_alloc",
    "allocate memory",
    "out of memory",
    "unable to allocate",
    "failed to map segment",
    "can't start new thread",
    "resource temporarily unavailable",
)
"""What libraries say, in errors of kinds of their own, when there is no more memory."""


def main() -> None:
    """Run the command line; what the user can mend is one line on stderr and status 1."""
    is_open = _open_streams()
    _quiet()
    cores.limit_libraries()
    try:
        _refuse_broken_words()
        if not is_open:
            raise HalflingError("standard output is closed: give it a place, /dev/null for none")
        _call()
    except HalflingError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as ended:
        # An interruption within a command reaches us as the status that the command line makes of it.
        if ended.code != INTERRUPTED:
            raise
        _interrupted()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}: mend it and run the same command again")
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines()]
        said = [line for line in lines if any(sign in line.lower() for sign in _NO_MEMORY)]
        if not said and not isinstance(error, MemoryError):
            raise
        why = next(iter(said or lines), type(error).__name__)
        _fail(f"not enough memory ({why}): free some, or ask for smaller batches, fewer workers or a smaller model")


def _call() -> None:
    """Call the command and see that what it printed arrives."""
    from halfling.cli.app import app

    # An answer waits for no command but its own.
    alone = sys.argv[1] if sys.argv[1:2] in (["predict"], ["serve"], ["watch"]) else None
    for name in [alone] if alone else ["corpus", "flops", "predict", "run", "serve", "stages", "tasks", "watch"]:
        import_module(f"halfling.cli.{name}")

    try:
        app(prog_name="halfling")
    finally:
        try:
            sys.stdout.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would try again, and complain
            if isinstance(error, BrokenPipeError):
                sys.exit(1)  # quietly: whoever read, `head` for one, wants no more
            raise HalflingError(f"standard output: {error.strerror}: not everything could be written") from error


def _open_streams() -> bool:
    """Open what is closed of the standard streams, and return whether standard output was open.

    A file of ours that took the number of a closed one would get what a library prints.
    """
    found = []
    for number, flags in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
            found.append(True)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest number that is free: this one
            found.append(False)
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdin, io.TextIOWrapper):
        with contextlib.suppress(io.UnsupportedOperation):  # whoever called us has read of it already
            sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a letter that the terminal lacks
    return found[1]


def _refuse_broken_words() -> None:
    """Refuse an argument that is not UTF-8: it could be written into no manifest.

    Raises:
        HalflingError: There is one.
    """
    for word in sys.argv:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise HalflingError(f"{word}: not UTF-8: rename the file, or write the text in UTF-8") from None


def _interrupted() -> None:
    _fail("interrupted: the same command goes on from what is finished", status=INTERRUPTED)


def _fail(message: str, status: int = 1) -> None:
    with contextlib.suppress(OSError):
        print(f"error: {one_line(without_secrets(message))}", file=sys.stderr, flush=True)  # noqa: T201
    sys.exit(status)


def _quiet() -> None:
    """Silence the libraries' own bars and notes: the view shows what is going on."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("DATASETS_VERBOSITY", "critical")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for them takes a while of every start
    warnings.filterwarnings("ignore")
