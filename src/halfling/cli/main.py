"""`halfling`: the command line's front door, where every error becomes one line."""

import os
import sys
import warnings

from halfling.errors import HalflingError, without_secrets

INTERRUPTED = 130
"""The status of a command that was stopped by Ctrl-C, as shells know it."""


def main() -> None:
    """Run the command line; what the user can mend is one line on stderr and status 1."""
    _quiet()
    from halfling.cli import corpus, flops, predict, run, stages, tasks  # noqa: F401
    from halfling.cli.app import app

    try:
        app(prog_name="halfling")
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


def _interrupted() -> None:
    _fail("interrupted: the same command goes on from what is finished", status=INTERRUPTED)


def _fail(message: str, status: int = 1) -> None:
    print(f"error: {' '.join(without_secrets(message).split())}", file=sys.stderr)  # noqa: T201
    sys.exit(status)


def _quiet() -> None:
    """Silence the libraries' own bars and notes: the view shows what is going on."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("DATASETS_VERBOSITY", "critical")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    warnings.filterwarnings("ignore")
