"""A tiny recipe, a whole run of it, and command lines as processes that can be killed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

SOURCE = Path(__file__).parents[2] / "src"
SHAPE = {"num_layers": 2, "width": 16, "num_heads": 2, "max_tokens": 48}
# 50 steps, a checkpoint after 25: enough to be killed between two.
PRETRAINING = {"epochs": 1, "batch_size": 8, "tokens_per_epoch": 12_800, "save_steps": 25, "learning_rate": 0.01}
LEARNING = {"epochs": 5, "batch_size": 8, "learning_rate": 0.003, "max_tokens": 48, "save_steps": 25}
SHORT = {"max_tokens": 48}
# One task is measured in all of its languages.
MEASURED_IN = {"wikiann": {"languages": ["en", "sw"]}}


@dataclass(frozen=True)
class Ended:
    """A command line that is over: its status (negative: killed by that signal) and what it said."""

    status: int
    out: str
    err: str


class CommandLine:
    """Starts command lines, each a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("fork_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def start(
        self, *argv: object, stop: Sequence[object] | None = None, fsize: int | None = None, cwd: Path = Path()
    ) -> int:
        """Start `halfling argv` in the folder `cwd`, and return its process id."""
        files = {name: str(self.folder / name) for name in ("out", "err")}
        request = {**files, "argv": [str(word) for word in argv], "stop": stop, "fsize": fsize, "cwd": str(cwd)}
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def wait(self) -> Ended:
        """Wait for the process that was started last."""
        self.server.stdin.write("\n")
        self.server.stdin.flush()
        status = int(self.server.stdout.readline())
        return Ended(status, *((self.folder / name).read_text(encoding="utf-8") for name in ("out", "err")))

    def __call__(self, *argv: object, **options: object) -> Ended:
        """Start `halfling argv` and wait for it."""
        self.start(*argv, **options)
        return self.wait()


def environment() -> dict[str, str]:
    """Return what a command line needs to know: one thread, no network, this code."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(SOURCE)}


@pytest.fixture(scope="session")
def halfling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """The command line."""
    line = CommandLine(tmp_path_factory.mktemp("said"))
    yield line
    line.server.stdin.close()
    line.server.wait()
    line.server.stdout.close()


@pytest.fixture(scope="session")
def write_recipe(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function that writes the tiny recipe for some tasks: seconds for each stage, both tasks learn something."""

    def write(*tasks: str) -> Path:
        recipe = {
            "name": "tiny",
            "data": "sample",
            "text": "sample/cc100",
            "sample": {"lines": 120, "train_sentences": 96, "dev_sentences": 48},
            "tokenizer": {"vocab_size": 700, "max_tokens": 48, "num_threads": 1},
            "pack": {"block_tokens": 32},
            "teacher": {"shape": SHAPE, **PRETRAINING},
            "distill": {"student": SHAPE, "save_epochs": [1], **PRETRAINING},
            "tasks": list(tasks),
            "finetune": dict.fromkeys(tasks, LEARNING),
            "exits": dict.fromkeys(tasks, LEARNING),
            "calibrate": {task: {**SHORT, "timing": "none"} for task in tasks},
            "quality": {task: MEASURED_IN.get(task, {}) for task in tasks},
            "costs": {task: {"rounds": 2, "warmup": 0, **MEASURED_IN.get(task, {})} for task in tasks},
        }
        path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
        # Written in full each time: YAML's anchors for what is shared read badly.
        path.write_text(yaml.safe_dump(json.loads(json.dumps(recipe)), sort_keys=False), encoding="utf-8")
        return path

    return write


@dataclass(frozen=True)
class Run:
    """A run that ended: its recipe, its folder, and what it said."""

    recipe: Path
    folder: Path
    ended: Ended


@pytest.fixture(scope="session")
def whole_run(write_recipe: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The tiny recipe with both tasks, run without interruption in a process from scratch."""
    recipe, runs = write_recipe("xnli", "wikiann"), tmp_path_factory.mktemp("runs")
    command = "from halfling.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "run", str(recipe), "--runs", str(runs)],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    return Run(recipe, runs / "tiny", Ended(done.returncode, done.stdout, done.stderr))
