"""Every training on a GPU, in bfloat16 as nobody asked otherwise: it runs, it learns, and what it writes is read."""

import math

import pytest
import torch
from transformers import XLMRobertaForMaskedLM

from halfling.training.arguments import training_arguments
from halfling.training.distill import DistillSettings, distill
from halfling.training.exits import ExitsSettings, train_exits

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_training_takes_the_gpu_and_bfloat16(tmp_path):
    arguments = training_arguments(tmp_path, DistillSettings())
    assert arguments.device.type == "cuda"
    assert arguments.bf16


def test_a_student_is_distilled_on_a_gpu(settings, teacher, packed, tmp_path):
    out = tmp_path / "student"
    out.mkdir()
    counts = distill(settings=settings(epochs=26, learning_rate=1e-2), teacher=teacher, packed=packed, out=out)
    losses = [entry["loss"] for entry in counts["curve"]]
    assert len(losses) >= 2
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]
    student = XLMRobertaForMaskedLM.from_pretrained(out / "epoch-26")
    assert all(weight.isfinite().all() for weight in student.parameters())


@pytest.mark.parametrize("task", ["pairs", "tags"])
def test_a_task_and_its_exits_are_learned_on_a_gpu(task, finetuned, scored, tmp_path):
    model, out = finetuned(task, epochs=20), tmp_path / "exits"
    assert scored(model).score.value > 0.5
    out.mkdir()
    counts = train_exits(
        settings=ExitsSettings(batch_size=10, learning_rate=3e-3, max_tokens=30), finetuned=model, out=out
    )
    assert counts["exit_layers"] == [1, 2, 3]
    assert scored(out).score.value > 0.5
