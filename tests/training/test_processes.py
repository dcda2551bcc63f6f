import json
import os
import pickle
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
from halfling.tasks import Task
from halfling.training import labelled
from halfling.training.distill import DistillSettings
from halfling.training.exits import ExitsSettings
from halfling.training.finetune import FinetuneSettings
from halfling.training.masked import MaskedTraining, masked_training

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
    def make(out: Path):
        return KINDS["distill"].stage(
            out.name, read_settings(DistillSettings, WORDS), out, {"teacher": teacher, "packed": packed}
        )

    return make


def in_two_processes(*command: str) -> subprocess.CompletedProcess:
    source = str(Path(sys.modules["halfling"].__file__).parents[1])
    started = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *command)
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    return subprocess.run(started, env=environment, capture_output=True, text=True, check=False, timeout=280)


def assert_equal_to_rounding(own: Path, theirs: Path, names: list[str]) -> None:
    for name in names:
        weights = load_file(own / name)
        for key, weight in load_file(theirs / name).items():
            if key.endswith("key.bias"):
                continue  # softmax does not see it: its gradient is rounding, which Adam blows up to a step
            torch.testing.assert_close(weights[key], weight, atol=1e-5, rtol=0, msg=key)


@pytest.mark.slow
def test_what_one_process_began_two_go_on_with_and_end_as_one_would(stage, teacher, packed, tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    expected = run_stage(stage(alone))
    with pytest.raises(StoppedError):
        run_stage(stage(shared), StopsAt(30))
    assert state(stage(shared)) == "interrupted"
    command = ["-m", "halfling", "distill", str(teacher), str(packed), str(shared), *WORDS]
    ended = in_two_processes(*command)
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


@pytest.fixture
def learning(write_masked_lm, finetuned, tmp_path):
    """A function that returns the stages of a student: it imitates a tagger, gets exits, and learns without a teacher.

    Sentences of one to nine words: two halves of a batch seldom have as many labels. No dropout, whose draws follow
    the batches. 40 steps of imitation, 20 of exits, 20 of learning from labels alone.
    """
    teacher = finetuned("tags", epochs=1)
    encoder = write_masked_lm(tmp_path / "student", num_layers=2)
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

    def make(folder: Path):
        start, finetuned = {"encoder": encoder, "task": task}, {"finetuned": folder / "imitate"}
        return [
            KINDS[kind].stage(name, read_settings(settings, [*shared, *words]), folder / name, inputs)
            for name, kind, settings, words, inputs in (
                ("imitate", "finetune", FinetuneSettings, imitate, {**start, "teacher": teacher}),
                ("exits", "exits", ExitsSettings, ["epochs=2", "soft_share=0.5"], finetuned),
                ("labels", "finetune", FinetuneSettings, ["epochs=2"], start),
            )
        ]

    return make


@pytest.mark.slow
def test_two_processes_share_what_is_learned_from_labels(learning, tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    expected = [run_stage(one) for one in learning(alone)]
    assert [one.counts["steps"] for one in expected] == [40, 20, 20]
    with pytest.raises(StoppedError):
        run_stage(learning(shared)[0], StopsAt(30))
    (tmp_path / "stages").write_bytes(pickle.dumps(learning(shared)))
    (tmp_path / "driver.py").write_text(
        "import pickle, sys\nfrom pathlib import Path\nfrom halfling.stage import run_stages\n"
        "run_stages(pickle.loads(Path(sys.argv[1]).read_bytes()))\n"
    )
    ended = in_two_processes(str(tmp_path / "driver.py"), str(tmp_path / "stages"))
    assert ended.returncode == 0, ended.stderr
    assert sorted(path.name for path in shared.iterdir()) == ["exits", "imitate", "labels"]
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
