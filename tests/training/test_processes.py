import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from halfling import processes
from halfling.errors import HalflingError
from halfling.pipeline.stages import KINDS
from halfling.settings import read_settings
from halfling.stage import View, run_stage, state
from halfling.tasks.task import Task
from halfling.training import labelled
from halfling.training.distill import DistillSettings
from halfling.training.exits import ExitsSettings
from halfling.training.finetune import FinetuneSettings
from halfling.training.masked import MaskedTraining, masked_training
from halfling.training.pretrain import TeacherSettings

# Two steps an epoch, 52 in all; without dropout, whose draws follow the batches.
WORDS = [
    "student={num_layers: 2, width: 8, num_heads: 2, max_tokens: 64}",
    *("batch_size=4", "gradient_accumulation=2", "epochs=26", "save_epochs=[]", "save_steps=25"),
    *("dropout=0", "layer_map=random", "relation_weight=[1, 0]", "learning_rate=1e-2"),
]


class StoppedError(Exception):
    pass


class StopsAt(View):
    """Somebody who stops a stage at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def start(self, stage):
        def progress(done, total, note=""):
            if done == self.step:
                raise StoppedError

        return progress


@pytest.fixture
def stage(teacher, packed):
    def make(out: Path, *more: str):
        settings = read_settings(DistillSettings, [*WORDS, *more])
        return KINDS["distill"].stage(out.name, settings, out, {"teacher": teacher, "packed": packed})

    return make


TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc_per_node", "2")
# What `accelerate launch` is; it calls several processes several GPUs, where there are none too.
ACCELERATE = ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0")


def in_two_processes(
    *command: str | Path, launcher: tuple[str, ...] = TORCHRUN, **more: str
) -> subprocess.CompletedProcess:
    source = str(Path(sys.modules["halfling"].__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", **more}
    started = (sys.executable, "-m", *launcher, *map(str, command))
    return subprocess.run(started, env=environment, capture_output=True, text=True, check=False, timeout=1100)


# Runs stages; the leader is killed at a step, if one is named. Each process notes what it holds of what each trains.
DRIVER = """
import json, os, pickle, signal, sys
from pathlib import Path
from torch.distributed.tensor import DTensor
from halfling.stage import View, run_stages
from halfling.training.trainer import BatchMeanTrainer

def numbers(tensors):
    here = [t.to_local() if isinstance(t, DTensor) else t for t in tensors]
    return [sum(t.numel() for t in some) for some in (here, tensors)]

def noting(trainer, learned=BatchMeanTrainer.require_learned):
    held = {"model": [*trainer.model.parameters()]}
    held["moments"] = [state["exp_avg"] for state in trainer.optimizer.state.values()]
    if teacher := getattr(trainer, "teacher", None):
        held["teacher's layers"] = [*teacher.roberta.encoder.layer.parameters()]
        held["teacher's rest"] = [*teacher.roberta.embeddings.parameters()]
    with Path(sys.argv[1], f"held-{os.environ['RANK']}").open("a") as notes:
        print(json.dumps({name: numbers(tensors) for name, tensors in held.items()}), file=notes)
    learned(trainer)

class Killing(View):
    def start(self, stage):
        return lambda done, total, note="": done == int(sys.argv[2]) and os.kill(os.getpid(), signal.SIGKILL)

BatchMeanTrainer.require_learned = noting
run_stages(pickle.loads(Path(sys.argv[1], "stages").read_bytes()), Killing())
"""


def drive(folder: Path, stages: list, *, killed_at: int = 0) -> subprocess.CompletedProcess:
    (folder / "driver.py").write_text(DRIVER)
    (folder / "stages").write_bytes(pickle.dumps(stages))
    return in_two_processes(folder / "driver.py", folder, str(killed_at))


def assert_equal_to_rounding(own: Path, theirs: Path, names: list[str]) -> None:
    for name in names:
        weights = load_file(own / name)
        for key, weight in load_file(theirs / name).items():
            if key.endswith("key.bias"):
                continue  # softmax does not see it: its gradient is rounding, which Adam blows up to a step
            torch.testing.assert_close(weights[key], weight, atol=1e-5, rtol=0, msg=key)


def held_in(folder: Path) -> list[list[dict[str, list[int]]]]:
    """By process and training: numbers here, and of all."""
    return [[json.loads(line) for line in (folder / f"held-{rank}").read_text().splitlines()] for rank in (0, 1)]


@pytest.mark.slow
def test_what_one_process_began_two_go_on_with_and_end_as_one_would(stage, teacher, packed, tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    expected = run_stage(stage(alone))
    with pytest.raises(StoppedError):
        run_stage(stage(shared), StopsAt(30))
    assert state(stage(shared)) == "interrupted"
    ended = in_two_processes("-m", "halfling", "distill", teacher, packed, shared, *WORDS)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == str(shared)
    assert ended.stdout.count(str(shared)) == 1, "one of the two says what was made"
    assert state(stage(shared)) == "done"
    assert sorted(path.name for path in tmp_path.iterdir() if "shared" in path.name) == ["shared"]
    found = run_stage(stage(shared))
    assert {*found.files} == {*expected.files}
    assert (found.counts["steps"], found.counts["tokens"]) == (expected.counts["steps"], expected.counts["tokens"])
    for here, there in zip(found.counts["curve"], expected.counts["curve"], strict=True):
        assert here == pytest.approx(there, abs=2e-4)
    assert_equal_to_rounding(shared, alone, ["epoch-26/model.safetensors"])


# MiniLMv2's: no loss sees what the student's last layer says, only what is inside, nor what is outside the layers.
# And gradients are added up: four batches a step, two of each process.
INSIDE = (
    *("layer_map=single", "relation_weight=1", "hidden_weight=0", "kl_weight=0", "mask_share=0"),
    *("epochs=13", "batch_size=2", "gradient_accumulation=4"),
)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_sharded_student_ends_as_any_other_whoever_began_it(stage, teacher, packed, tmp_path):
    names = ["alone", "inside", "whole", "sharded", "taken-over", "begun-alone", "gone-on-alone", "pretrained"]
    alone, inside, whole, sharded, taken_over, begun_alone, gone_on_alone, pretrained = (
        tmp_path / one for one in names
    )
    words = ["shape={num_layers: 2, width: 8, num_heads: 2, max_tokens: 64}", "dropout=0", "epochs=13", "save_steps=25"]

    def teachers(out: Path, *more: str):
        settings = read_settings(TeacherSettings, [*words, "batch_size=8", "learning_rate=1e-2", *more])
        return KINDS["teacher"].stage(out.name, settings, out, {"packed": packed, "tokenizer": teacher})

    for one in (stage(alone), stage(inside, *INSIDE), teachers(pretrained)):
        run_stage(one)
    killed = drive(tmp_path, [stage(sharded, "fsdp=true")], killed_at=30)
    assert killed.returncode != 0
    assert not (tmp_path / "held-0").exists(), "it was to be killed before its end"
    work = tmp_path / ".sharded.halfling"
    assert [path.parent.name for path in work.rglob("checkpoints/*/complete")] == ["checkpoint-25"]
    shutil.copytree(work, tmp_path / ".gone-on-alone.halfling")
    with pytest.raises(StoppedError):
        run_stage(stage(begun_alone), StopsAt(30))
    both = [
        stage(whole),
        *(stage(out, "fsdp=true") for out in (sharded, begun_alone)),
        stage(taken_over, *INSIDE, "fsdp=true"),
        teachers(tmp_path / "pretrained-sharded", "fsdp=true"),
    ]
    assert [state(one) for one in both[:3]] == ["to do", "interrupted", "interrupted"]
    ended = drive(tmp_path, both)
    assert ended.returncode == 0, ended.stderr
    held = held_in(tmp_path)
    for one, other, is_whole in zip(*held, (True, False, False, False, False), strict=True):
        for name, (here, every) in one.items():
            # The teacher's logits are computed of its embeddings, which stay, but not where nobody learns from them.
            stays = is_whole or (name == "teacher's rest" and one is not held[0][3])
            assert here + other[name][0] == (2 * every if stays else every), name
            assert here == every if stays else 0.45 < here / every < 0.55, name
    assert state(stage(gone_on_alone)) == "interrupted"
    run_stage(stage(gone_on_alone))
    curves = {}
    for out, like, weights in (
        *((out, alone, "epoch-26/model.safetensors") for out in (whole, sharded, begun_alone, gone_on_alone)),
        (taken_over, inside, "epoch-13/model.safetensors"),
        (tmp_path / "pretrained-sharded", pretrained, "model.safetensors"),
    ):
        assert_equal_to_rounding(out, like, [weights])
        here, there = (json.loads((folder / "manifest.json").read_text()) for folder in (out, like))
        assert {*here["files"]} == {*there["files"]}
        curves[out.name] = here["counts"]["curve"]
        for own, theirs in zip(curves[out.name], there["counts"]["curve"], strict=True):
            assert own == pytest.approx(theirs, abs=2e-4)
    assert len(curves["sharded"]) == 2
    code = (
        f"from transformers import AutoModelForMaskedLM as M; print(M.from_pretrained({str(sharded / 'epoch-26')!r}))"
    )
    bare = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "XLMRobertaForMaskedLM(" in bare.stdout


@pytest.mark.slow
def test_accelerate_launch_starts_processes_as_torchrun_does(stage, teacher, packed, tmp_path):
    out, logs = tmp_path / "out", tmp_path / "logs"
    ended = in_two_processes(
        *("--log_dir", logs, "--tee", "3", "-m", "halfling", "distill", teacher, packed, out, *WORDS, "epochs=2"),
        launcher=ACCELERATE,
        HF_HOME=str(tmp_path / "nothing"),  # where accelerate would look for its own settings
    )
    assert ended.returncode == 0, ended.stderr
    assert {path.parent.name for path in logs.rglob("stdout.log")} == {"0", "1"}
    expected = run_stage(stage(tmp_path / "alone", "epochs=2"))
    assert_equal_to_rounding(out, tmp_path / "alone", ["epoch-2/model.safetensors"])
    assert run_stage(stage(out, "epochs=2")).counts["steps"] == expected.counts["steps"] == 4


@pytest.fixture
def learning(write_masked_lm, finetuned, tmp_path):
    """A function that returns the stages of a student: it imitates a tagger, gets exits, and learns without a teacher.

    Sentences of one to nine words: two halves of a batch seldom have as many labels. No dropout, whose draws follow
    the batches. 40 steps of imitation, of layers of another width too, 20 of exits, 20 of learning from labels alone.
    """
    teacher = finetuned("tags", epochs=1)
    encoder = write_masked_lm(tmp_path / "student", num_layers=2, width=8)
    for folder in (encoder, teacher):
        config = json.loads((folder / "config.json").read_text())
        config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        (folder / "config.json").write_text(json.dumps(config))
    words = ["Anna B-PER", "lives O", "in O", "Rome B-LOC", "yes O", "no O"]
    sentences = ("\n".join(words[(n * k + n) % 6] for k in range(1 + n % 9)) for n in range(40))
    (tmp_path / "uneven.conll").write_text("\n\n".join(sentences) + "\n")
    source = {"en": str(tmp_path / "uneven.conll")}
    task = Task(name="uneven", train=source, dev=source)
    shared = ["batch_size=4", "max_tokens=30", "learning_rate=3e-3"]
    imitate = ["epochs=4", "soft_share=0.5", "hidden_weight=1", "save_steps=25"]

    def make(folder: Path, *more: str):
        start, finetuned = {"encoder": encoder, "task": task}, {"finetuned": folder / "imitate"}
        return [
            KINDS[kind].stage(name, read_settings(settings, [*shared, *words, *more]), folder / name, inputs)
            for name, kind, settings, words, inputs in (
                ("imitate", "finetune", FinetuneSettings, imitate, {**start, "teacher": teacher}),
                ("exits", "exits", ExitsSettings, ["epochs=2", "soft_share=0.5"], finetuned),
                ("labels", "finetune", FinetuneSettings, ["epochs=2"], start),
            )
        ]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("fsdp=true",)], ids=["whole", "sharded"])
def test_two_processes_share_what_is_learned_from_labels(more, learning, tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    expected = [run_stage(one) for one in learning(alone)]
    assert [one.counts["steps"] for one in expected] == [40, 20, 20]
    with pytest.raises(StoppedError):
        run_stage(learning(shared)[0], StopsAt(30))
    ended = drive(tmp_path, learning(shared, *more))
    assert ended.returncode == 0, ended.stderr
    assert sorted(path.name for path in shared.iterdir()) == ["exits", "imitate", "labels"]
    shares = [here / every for trained in held_in(tmp_path) for one in trained for here, every in one.values()]
    # Five rows of an exit are shared out as three and two.
    assert all(0.4 <= share <= 0.6 if more else share == 1 for share in shares)
    for stage, there in zip(learning(shared), expected, strict=True):
        assert state(stage) == "done"
        here = run_stage(stage)
        assert {*here.files} == {*there.files}
        for own, theirs in zip(here.counts["curve"], there.counts["curve"], strict=True):
            assert own == pytest.approx(theirs, abs=2e-4)
        assert_equal_to_rounding(stage.out, alone / stage.name, ["model.safetensors"])


def test_what_processes_cannot_share_of_labelled_data_is_refused(monkeypatch):
    monkeypatch.setattr(labelled.processes, "number", lambda: 3)
    with pytest.raises(HalflingError, match="3 processes share no batch_size=4 evenly: set a multiple"):
        labelled._own_share(4)
    assert labelled._own_share(6) == 2


def test_a_process_alone_is_told_what_it_says(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert (processes.number(), processes.follows(), processes.told("this")) == (1, False, "this")


def test_the_first_of_several_leads(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    for rank, follows in (("0", False), ("1", True), ("2", True)):
        monkeypatch.setenv("RANK", rank)
        assert processes.follows() is follows


def test_what_cannot_be_shared_evenly_is_refused(monkeypatch, packed, tmp_path, teacher):
    from transformers import XLMRobertaForMaskedLM

    from halfling.models.load import load_tokenizer

    monkeypatch.setattr(processes, "number", lambda: 3)
    model = XLMRobertaForMaskedLM.from_pretrained(teacher)
    with pytest.raises(HalflingError, match="3 processes share neither gradient_accumulation=2 nor batch_size=16"):
        masked_training(MaskedTraining(gradient_accumulation=2), packed, tmp_path, model, load_tokenizer(teacher))
