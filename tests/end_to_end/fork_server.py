"""Starts command lines as processes of their own that need not import everything anew.

Reads one JSON request a line: `argv`, `cwd`, `out` and `err` (files), `fsize` (largest file in bytes, or null), and
`stop` (stage, call of its progress, signal), at which the process sends that signal to itself, or null.
Answers the process's id and, asked by an empty line, waits for its end and answers its status: negative for the
signal that killed it. Until then the id stays the process's own, dead or alive, so that killing it hits no other.
"""

import json
import os
import resource
import signal
import sys

import halfling.pipeline.plan  # noqa: F401  # what a child would else import
from halfling.cli import main, view


def stop_within(stage_name: str, call: int, number: int) -> None:
    start = view.LiveView.start

    def stopping(self, stage):
        progress, calls = start(self, stage), []

        def counted(done, total, note=""):
            progress(done, total, note)
            calls.append(done)
            if stage.name == stage_name and len(calls) == call:
                os.kill(os.getpid(), number)

        return counted

    view.LiveView.start = stopping


def child(request: dict) -> None:
    os.chdir(request["cwd"])
    # A shell's background job ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if request["fsize"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["fsize"],) * 2)
    if request["stop"]:
        stop_within(*request["stop"])
    sys.argv = ["halfling", *request["argv"]]
    status = 0
    try:
        main.main()
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


while line := sys.stdin.readline():
    pid = os.fork()
    if pid == 0:
        child(json.loads(line))
    say(pid)
    sys.stdin.readline()
    _, ended = os.waitpid(pid, 0)
    say(os.waitstatus_to_exitcode(ended))
