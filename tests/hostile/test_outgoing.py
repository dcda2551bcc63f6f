"""Nothing leaves the machine, and nothing is written outside the folders that the user named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import halfling

SOURCE = Path(halfling.__file__).parents[1]

# Python tells a hook of every address that is looked up or spoken to, in this process and in its children. A socket
# within this machine has a path for an address.
WATCH = """
import os, sys

def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind", "socket.getaddrinfo",
                 "socket.gethostbyname", "socket.gethostbyaddr", "urllib.Request"):
        where = arguments[0] if event.startswith(("socket.get", "urllib")) else arguments[1]
        if not isinstance(where, (str, bytes)) or event.startswith(("socket.get", "urllib")):
            with open(os.environ["WATCHED"], "a") as file:
                file.write(f"{event} {where!r} in {sys.argv}\\n")

sys.addaudithook(watch)
"""

COMMANDS = """
import json, os, sys
from halfling.cli import main

for argv in json.loads(sys.argv[1]):
    sys.argv = ["halfling", *argv]
    try:
        main.main()
    except SystemExit as ended:
        assert not ended.code, (argv, ended.code)
    # What a library does in machine code no hook of Python's sees: a socket that it left open.
    for place in os.scandir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            assert not os.readlink(place).startswith("socket:"), (argv, place.name)
        except FileNotFoundError:  # of the listing itself
            pass
"""


@pytest.fixture
def watched(tmp_path):
    """A function that runs Python in a new home, and returns what it sent or asked for and what lies in that home."""
    home, watch, log = tmp_path / "home", tmp_path / "watch", tmp_path / "log"
    home.mkdir()
    watch.mkdir()
    (watch / "sitecustomize.py").write_text(WATCH)
    here = ("PATH", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV")
    plain = {name: os.environ[name] for name in here if name in os.environ}
    # Neither HF_HUB_OFFLINE nor another switch that the tests around are run with.
    plain |= {"HOME": str(home), "PYTHONPATH": f"{watch}:{SOURCE}", "WATCHED": str(log), "OMP_NUM_THREADS": "1"}

    def run(code: str, *words: str) -> tuple[list[str], list[str]]:
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, capture_output=True, text=True, env=plain, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        said = log.read_text().splitlines() if log.exists() else []
        return said, sorted(path.relative_to(home).as_posix() for path in home.rglob("*"))

    return run


def test_the_watch_sees_a_lookup_and_a_file(watched):
    code = "import socket, pathlib; socket.getaddrinfo('localhost', 80); (pathlib.Path.home() / 'a').touch()"
    said, home = watched(code)
    assert [line.split()[:2] for line in said] == [["socket.getaddrinfo", "'localhost'"]]
    assert home == ["a"]


def test_working_on_folders_here_asks_no_host_and_writes_nothing_into_the_home(
    watched, write_masked_lm, write_tagger, tmp_path
):
    model, words = write_tagger(tmp_path / "tagger"), write_masked_lm(tmp_path / "words")
    (tmp_path / "train.csv").write_text("text,label\n" + "Anna lives,a\nin Rome,b\n" * 12)
    (tmp_path / "texts.txt").write_text("Anna lives in Rome\n")
    backends = ("torch", "onnx")
    argv: list[list[object]] = [
        ["finetune", words, "tuned", "--train", "train.csv", "epochs=1", "max_tokens=16"],
        ["export", model, "served", "--backends", ",".join(backends)],
        ["evaluate", "measured", "--model", "a/float32=served", "rounds=2", "warmup=0"],
        *(["predict", "served", "--file", "texts.txt", "--backend", name] for name in backends),
        ["report", "report", "--from", "measured"],
    ]
    said, home = watched(COMMANDS, json.dumps([[str(word) for word in each] for each in argv]))
    assert said == []
    # What matplotlib knows of this machine's fonts is kept for its next start: a report's, and nothing else.
    assert not [path for path in home if "matplotlib" not in path and path not in (".cache", ".config")], home
    assert (tmp_path / "report/index.html").exists()


def test_telemetry_is_off_before_any_library_is_imported(watched):
    code = """
import halfling, os, sys
assert not {"onnxruntime", "ray", "huggingface_hub", "transformers", "torch"} & {*sys.modules}
off = dict.fromkeys(("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"), "1")
off["RAY_USAGE_STATS_ENABLED"] = "0"
assert {name: os.environ.get(name) for name in off} == off
import onnxruntime
from huggingface_hub import constants
assert constants.HF_HUB_DISABLE_TELEMETRY
"""
    assert watched(code) == ([], [])
