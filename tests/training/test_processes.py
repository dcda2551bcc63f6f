import os
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
from halfling.training.distill import DistillSettings
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


@pytest.mark.slow
def test_what_one_process_began_two_go_on_with_and_end_as_one_would(stage, teacher, packed, tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    expected = run_stage(stage(alone))
    with pytest.raises(StoppedError):
        run_stage(stage(shared), StopsAt(30))
    assert state(stage(shared)) == "interrupted"
    source = str(Path(sys.modules["halfling"].__file__).parents[1])
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"),
        *("-m", "halfling", "distill", str(teacher), str(packed), str(shared), *WORDS),
    ]
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
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
    own, theirs = (load_file(folder / "epoch-26" / "model.safetensors") for folder in (shared, alone))
    for name, weight in theirs.items():
        if name.endswith("key.bias"):
            continue  # softmax does not see it: its gradient is rounding, which Adam blows up to a step
        torch.testing.assert_close(own[name], weight, atol=1e-5, rtol=0, msg=name)


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
