"""A whole small run, corpus and training included, killed with SIGKILL at random moments, ends with the same bytes.

    python tests/invariant/kill_a_run.py --kills 100 --seed 1

No test of every day: it takes minutes. It runs the recipe once without interruption. Then it runs the recipe again and
again with kills spread over all of its work, some twenty a run, and compares every file with that of the first run.

Equal must be every byte of every file, but for times: a manifest's `seconds` and `stamp`, and what the stages `costs`
and `report` measured. Of the report's table all columns but the measured ones must be equal.
"""

import argparse
import csv
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "tests/end_to_end/fork_server.py"
KILLS_A_RUN = 20
MEASURED = {"latency_ms_b1", "latency_ms_b32", "peak_bytes"}
TIMED = ("costs", "report")
"""Stages whose results are times."""

SHAPE = {"num_layers": 2, "width": 16, "num_heads": 2, "max_tokens": 48}
PRETRAINING = {"epochs": 2, "batch_size": 8, "tokens_per_epoch": 25_600, "save_steps": 25, "learning_rate": 0.01}
LEARNING = {"epochs": 5, "batch_size": 8, "learning_rate": 0.003, "max_tokens": 48, "save_steps": 25}
TASKS = ("wikiann",)
RECIPE = {
    "name": "small",
    "data": "sample",
    "text": "sample/cc100",
    "sample": {"lines": 400, "train_sentences": 192, "dev_sentences": 48},
    "corpus": {"chunks": 3, "workers": 1},  # a worker of its own would begin by reading the fork server's input
    "tokenizer": {"vocab_size": 700, "max_tokens": 48, "num_threads": 1},
    "pack": {"block_tokens": 32, "workers": 2},
    "teacher": {"shape": SHAPE, **PRETRAINING},
    "distill": {"student": SHAPE, "save_epochs": [1, 2], **PRETRAINING},
    "tasks": list(TASKS),
    "finetune": dict.fromkeys(TASKS, LEARNING),
    "exits": dict.fromkeys(TASKS, LEARNING),
    "calibrate": {task: {"max_tokens": 48, "timing": "none"} for task in TASKS},
    "export": {"precisions": ["int8"]},
    # Measuring takes longer than all else, and what it writes are times.
    "quality": {task: {"languages": ["en"]} for task in TASKS},
    "costs": {task: {"languages": ["en"], "rounds": 2, "warmup": 0} for task in TASKS},
}


class CommandLine:
    """Starts `halfling run` again and again, each a process of its own, without the seconds of its imports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe = folder / "small.yaml"
        self.recipe.write_text(yaml.safe_dump(json.loads(json.dumps(RECIPE)), sort_keys=False), encoding="utf-8")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "src")}
        self.server = subprocess.Popen(
            [sys.executable, SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, line: str) -> int:
        assert self.server.stdin
        assert self.server.stdout
        self.server.stdin.write(f"{line}\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def run(self, moment: float | None = None) -> int:
        """Run the recipe, killed after `moment` seconds if it takes longer, and return the status."""
        said = {name: str(self.folder / name) for name in ("out", "err")}
        argv = ["run", str(self.recipe), "--runs", str(self.folder / "runs")]
        process = self.ask(json.dumps({**said, "argv": argv, "stop": None, "fsize": None, "cwd": str(self.folder)}))
        if moment is not None:
            time.sleep(moment)
            # Until its status is asked for, the id is the process's own, dead or alive.
            os.kill(process, signal.SIGKILL)
        return self.ask("")

    def last_line(self) -> str:
        lines = (self.folder / "err").read_text(encoding="utf-8").strip().splitlines()
        return lines[-1] if lines else "nothing said"


def without_times(name: str, content: bytes) -> object:
    """Return what must be equal of a file."""
    timed = name.startswith(TIMED)
    if Path(name).name == "manifest.json":
        said = json.loads(content)
        for key in ("seconds", "stamp", *(("fingerprint", "inputs", "digest", "counts", "files") if timed else ())):
            said.pop(key)
        return said
    if name == "report/results.csv":
        rows = csv.DictReader(io.StringIO(content.decode()))
        return [{key: value for key, value in row.items() if key not in MEASURED} for row in rows]
    return None if timed else content


def differences(one: Path, two: Path) -> Iterator[str]:
    """Yield what is not equal in two folders of runs."""
    first, second = ({p.relative_to(f).as_posix(): p for p in f.rglob("*") if p.is_file()} for f in (one, two))
    for name in sorted({*first} ^ {*second}):
        yield f"{name}: only {'without' if name in first else 'with'} kills"
    for name in sorted({*first} & {*second}):
        if without_times(name, first[name].read_bytes()) != without_times(name, second[name].read_bytes()):
            yield f"{name}: differs"


def main() -> None:
    """Kill as often as is asked for; status 1 at the first run that does not end as the uninterrupted one."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--kills", type=int, default=100)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--folder", type=Path, help="where the runs are made; a new one of the system's")
    asked = words.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="halfling-kills-"))
    folder.mkdir(parents=True, exist_ok=True)
    line, chance = CommandLine(folder), random.Random(asked.seed)
    made, whole = folder / "runs/small", folder / "whole"

    began = time.monotonic()
    assert line.run() == 0, line.last_line()
    seconds = time.monotonic() - began
    began = time.monotonic()
    assert line.run() == 0, line.last_line()
    start = time.monotonic() - began  # of a run in which everything is done
    made.rename(whole)
    num_files = sum(path.is_file() for path in whole.rglob("*"))
    print(f"uninterrupted: {seconds:.1f} s, {num_files} files; seed {asked.seed}", flush=True)

    kills = runs = 0
    where: dict[str, int] = {}
    while kills < asked.kills:
        in_this_run, status = 0, -signal.SIGKILL
        while status and in_this_run < KILLS_A_RUN and kills < asked.kills:
            # Spread over the work: a twentieth of it between two kills, in the mean.
            status = line.run(chance.uniform(0, start + 2 * seconds / KILLS_A_RUN))
            assert status in (0, -signal.SIGKILL), line.last_line()
            if status:
                kills, in_this_run = kills + 1, in_this_run + 1
                begun = [path.name.split(".")[1] for path in made.rglob(".*.halfling")]
                stage = begun[0] if begun else "between two stages"
                where[stage] = where.get(stage, 0) + 1
                print(f"kill {kills}: {stage}", flush=True)
        status = line.run()
        assert status == 0, line.last_line()
        found = [*differences(whole, made)]
        runs += 1
        print(f"run {runs}, after {in_this_run} kills: {len(found)} differences in {num_files} files", flush=True)
        for each in found:
            print(f"  {each}")
        if found:
            sys.exit(f"the runs are kept in {folder}")
        shutil.rmtree(made)
    print(f"{kills} kills in {runs} runs, no byte differs; killed in {dict(sorted(where.items()))}")
    line.server.stdin.close()  # type: ignore[union-attr]
    line.server.wait()
    if not asked.folder:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
