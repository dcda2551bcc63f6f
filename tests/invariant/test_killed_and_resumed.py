"""Training that is killed with SIGKILL ends with the same bytes as training that is not."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from halfling.models.shapes import Dimensions
from halfling.training.distill import DistillSettings, distill
from halfling.training.pretrain import TeacherSettings, build_teacher

# Runs stages that kill themselves, each in a fork, which imports nothing anew: after a step, or while a checkpoint is
# written, whose weights are then whole, its optimizer half there, and nothing else. Answers with the fork's status.
SERVER = """
import json, os, signal, sys
from pathlib import Path
import torch
from halfling.training.distill import DistillSettings, distill
from halfling.training.pretrain import TeacherSettings, build_teacher

def work(stage, settings, source, packed, out, at):
    kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
    write = torch.save

    def write_half(value, path, *rest, **options):
        write(value, path, *rest, **options)
        if at in str(path):
            with open(path, "r+b") as file:
                file.truncate(os.path.getsize(path) // 2)
            kill()

    torch.save = write_half
    after = lambda done, total, note: kill() if str(done) == at else None
    places = {"packed": Path(packed), "out": Path(out), "progress": after}
    if stage == "distill":
        distill(settings=DistillSettings.model_validate_json(settings), teacher=Path(source), **places)
    else:
        build_teacher(settings=TeacherSettings.model_validate_json(settings), tokenizer=Path(source), **places)

for line in sys.stdin:
    if (child := os.fork()) == 0:
        work(*json.loads(line))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

SMALL = {"batch_size": 4, "save_steps": 25, "dropout": 0.1, "learning_rate": 1e-2}


@pytest.fixture
def packed(tmp_path, write_packed, full_blocks):
    return write_packed(tmp_path / "packed", full_blocks(5, 48))  # twelve steps an epoch, sixty in all


@pytest.fixture(scope="module")
def killed():
    """A function that runs a stage in a process of its own until it kills itself `at` a step or a checkpoint."""
    path = str(Path(sys.modules["halfling"].__file__).parents[1])
    code = f"import sys; sys.path.insert(0, {path!r})\n{SERVER}"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:

        def run(stage: str, settings, source: Path, packed: Path, out: Path, at: str) -> None:
            out.mkdir(exist_ok=True)
            arguments = [stage, settings.model_dump_json(), str(source), str(packed), str(out), at]
            server.stdin.write(json.dumps(arguments) + "\n")
            server.stdin.flush()
            assert int(server.stdout.readline()) == -signal.SIGKILL

        yield run


def contents(folder: Path) -> dict[str, bytes]:
    """What is made: every file's bytes, but for checkpoints, by its path."""
    made = (path for path in folder.rglob("*") if path.is_file() and "checkpoints" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in made}


def finish(work: Callable[..., dict], out: Path) -> tuple[dict, list[int]]:
    out.mkdir(exist_ok=True)
    steps: list[int] = []
    return work(out=out, progress=lambda done, *_: steps.append(done)), steps


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"layer_map": "random", "hidden_weight": (1.0, 0.1), "exit_weight": (0.0, 1.0), "relation_weight": 1.0},
    ],
)
def test_a_distillation_killed_twice_ends_with_the_same_bytes(more, killed, tmp_path, packed, write_masked_lm):
    teacher = write_masked_lm(tmp_path / "teacher", num_layers=4)
    student = Dimensions(num_layers=2, width=8, num_heads=2, max_tokens=64)
    settings = DistillSettings(student=student, **SMALL, **more)

    def work(**places):
        return distill(settings=settings, teacher=teacher, packed=packed, **places)

    whole, _ = finish(work, tmp_path / "whole")
    killed("distill", settings, teacher, packed, tmp_path / "killed", at="30")
    assert (tmp_path / "killed" / "epoch-1").exists()
    killed("distill", settings, teacher, packed, tmp_path / "killed", at="checkpoint-50")
    checkpoints = tmp_path / "killed" / "checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"checkpoint-25", "checkpoint-50"}
    assert not (checkpoints / "checkpoint-50" / "complete").exists()
    resumed, steps = finish(work, tmp_path / "killed")
    assert steps == list(range(26, 61)), "checkpoint 50 was not whole"
    assert resumed == whole
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_pretraining_killed_while_it_saved_ends_with_the_same_bytes(killed, tmp_path, packed, tiny_tokenizer):
    tiny_tokenizer.save_pretrained(tmp_path / "words")
    settings = TeacherSettings(shape=Dimensions(num_layers=2, width=16, num_heads=2, max_tokens=64), **SMALL)

    def work(**places):
        return build_teacher(settings=settings, packed=packed, tokenizer=tmp_path / "words", **places)

    whole, _ = finish(work, tmp_path / "whole")
    killed("teacher", settings, tmp_path / "words", packed, tmp_path / "killed", at="checkpoint-50")
    resumed, steps = finish(work, tmp_path / "killed")
    assert steps == list(range(26, 61))
    assert resumed == whole
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
