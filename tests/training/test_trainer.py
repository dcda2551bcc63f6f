import os

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import TrainerCallback, TrainingArguments

from halfling.errors import HalflingError
from halfling.training import arguments as module
from halfling.training.arguments import TrainingSettings, training_arguments
from halfling.training.trainer import BatchMeanTrainer, last_complete, train_resumably


def test_incomplete_checkpoints_are_removed_and_the_newest_complete_one_is_taken(tmp_path):
    for step, complete in ((25, True), (100, True), (125, False), (50, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "model.safetensors").touch()
        if complete:
            (tmp_path / f"checkpoint-{step}" / "complete").touch()
    assert last_complete(tmp_path) == tmp_path / "checkpoint-100"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-100", "checkpoint-25"]


def test_without_a_complete_checkpoint_training_begins_anew(tmp_path):
    assert last_complete(tmp_path / "none") is None
    (tmp_path / "checkpoint-25").mkdir()
    assert last_complete(tmp_path) is None


class Line(nn.Module):
    """Learns a slope; its loss is a mean over the batch, and it takes any keyword as XLM-R does."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(1))

    def forward(self, x, labels, **_):
        return {"loss": (self.slope * x - labels).square().mean()}


def line_trainer(out, *, batch_size=2, steps=60, accumulate=1, **more):
    data = [{"x": torch.tensor(float(n % 5)), "labels": torch.tensor(2.0 * (n % 5))} for n in range(steps * 2)]
    settings = TrainingSettings(batch_size=batch_size, learning_rate=0.1, weight_decay=0.0, save_steps=25, **more)
    arguments = training_arguments(out, settings, gradient_accumulation_steps=accumulate)
    return BatchMeanTrainer(**settings.computed, model=Line(), args=arguments, train_dataset=data)


def test_examples_are_read_in_the_order_they_lie_in(tmp_path):
    trainer = line_trainer(tmp_path)
    read = torch.cat([batch["x"] for batch in trainer.get_train_dataloader()])
    assert read.tolist() == [float(n % 5) for n in range(120)]


def test_training_reports_every_step_and_keeps_its_last_checkpoint(tmp_path):
    told = []
    curve = train_resumably(line_trainer(tmp_path), lambda *now: told.append(now))
    assert [done for done, _, _ in told] == list(range(1, 61))
    assert {total for _, total, _ in told} == {60}
    assert [entry["step"] for entry in curve] == [25, 50]
    assert curve[1]["loss"] < curve[0]["loss"]
    assert [told[0][2], told[-1][2]] == ["", f"loss {curve[1]['loss']:.3f}"]
    assert last_complete(tmp_path / "checkpoints").name == "checkpoint-60"


def test_a_stopped_training_goes_on_at_its_checkpoint_with_the_same_curve(tmp_path):
    class StoppedError(Exception):
        pass

    def stop(done, total, note):
        if done == 55:
            raise StoppedError

    whole = line_trainer(tmp_path / "whole")
    expected = train_resumably(whole, lambda *_: None)
    with pytest.raises(StoppedError):
        train_resumably(line_trainer(tmp_path / "stopped"), stop)
    kept = tmp_path / "stopped" / "checkpoints"
    assert {path.name for path in kept.iterdir()} == {"checkpoint-25", "checkpoint-50"}
    assert all((path / "complete").exists() for path in kept.iterdir())
    told = []
    resumed = line_trainer(tmp_path / "stopped")
    curve = train_resumably(resumed, lambda done, *_: told.append(done))
    assert told == list(range(51, 61))
    assert torch.equal(resumed.model.slope, whole.model.slope)
    assert curve == expected


def test_gradient_accumulation_averages_batch_means(tmp_path):
    at_once, in_parts = (
        line_trainer(tmp_path / "a", batch_size=4),
        line_trainer(tmp_path / "b", batch_size=1, accumulate=4),
    )
    curves = [train_resumably(trainer, lambda *_: None) for trainer in (at_once, in_parts)]
    torch.testing.assert_close(at_once.model.slope, in_parts.model.slope, atol=1e-6, rtol=0)
    assert curves[0][0]["loss"] == pytest.approx(curves[1][0]["loss"], rel=1e-4)


def test_a_processor_computes_in_bfloat16_only_when_asked(tmp_path, monkeypatch):
    hows = ("auto", "float32", "bfloat16")
    for said in ("no", "bf16"):  # `accelerate launch` does not ask
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", said)
        asked = {how: line_trainer(tmp_path, precision=how).args.mixed_precision for how in hows}
        assert asked == {"auto": "no", "float32": "no", "bfloat16": "bf16"}


def test_several_devices_are_refused_rather_than_trained_on_wrongly(tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingArguments, "n_gpu", 2)
    with pytest.raises(HalflingError, match="one device a process"):
        training_arguments(tmp_path, TrainingSettings())


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ACCELERATE_USE_FSDP": "true"}, "ACCELERATE_USE_FSDP is set: .* set fsdp=true"),
        ({"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}, "--cpu starts one process, .* --multi_gpu"),
    ],
)
def test_what_accelerate_would_do_in_its_own_way_is_one_line(environment, message, tmp_path, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(HalflingError, match=message) as error:
        training_arguments(tmp_path, TrainingSettings())
    assert "\n" not in str(error.value)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    training_arguments(tmp_path, TrainingSettings())


def test_a_process_alone_has_all_of_what_several_would_share(tmp_path):
    whole, alone = line_trainer(tmp_path / "a"), line_trainer(tmp_path / "b", fsdp=True)
    for trainer in (whole, alone):
        train_resumably(trainer, lambda *_: None)
    assert torch.equal(whole.model.slope, alone.model.slope)


@pytest.mark.parametrize(
    ("settings", "there", "message"),
    [
        ({"report_to": "tensorbord"}, [], "not known to transformers: choose from none, .*tensorboard"),
        ({"report_to": "wandb"}, [], "its package is not installed here: install wandb"),
        ({"report_to": "tensorboard"}, ["tensorboard"], "set logging_dir=FOLDER"),
    ],
)
def test_whom_training_cannot_report_to_is_one_line(settings, there, message, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "get_available_reporting_integrations", lambda: there)
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    with pytest.raises(HalflingError, match=message) as error:
        training_arguments(tmp_path, TrainingSettings(**settings))
    assert "\n" not in str(error.value)


def test_training_reports_its_losses_and_ends_with_the_same_weights(tmp_path, monkeypatch):
    class Board(TrainerCallback):
        seen = ()

        def on_log(self, args, state, control, logs=None, **_):
            place = os.environ["TENSORBOARD_LOGGING_DIR"]
            Board.seen += ((place, state.global_step),) if "loss" in logs else ()

    silent = line_trainer(tmp_path / "silent")
    train_resumably(silent, lambda *_: None)
    monkeypatch.setattr(module, "get_available_reporting_integrations", lambda: ["tensorboard"])
    monkeypatch.setitem(module.INTEGRATION_TO_CALLBACK, "tensorboard", Board)
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "elsewhere")
    told = line_trainer(tmp_path / ".told.halfling/partial", report_to="tensorboard", logging_dir=tmp_path / "logs")
    train_resumably(told, lambda *_: None)
    assert Board.seen == ((str(tmp_path / "logs" / "told"), 25), (str(tmp_path / "logs" / "told"), 50))
    assert torch.equal(told.model.slope, silent.model.slope)


def test_the_batch_of_a_step_that_diverged_is_the_one_that_is_kept(tmp_path):
    trainer = line_trainer(tmp_path, batch_size=1, accumulate=3)
    trainer.train_dataset[4]["labels"] = torch.tensor(float("inf"))
    with pytest.raises(HalflingError, match="a loss of inf after step 1: it diverged"):
        train_resumably(trainer, lambda *_: None)
    kept = load_file(tmp_path / "checkpoints/diverged-0.safetensors")
    assert kept["labels"].tolist() == [float("inf")]
    assert kept["x"].tolist() == [4.0]
    assert trainer.state.global_step == 1


def test_one_stages_place_for_logs_is_not_the_next_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "get_available_reporting_integrations", lambda: ["tensorboard"])
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "mine")
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR")
    with_place = TrainingSettings(report_to="tensorboard", logging_dir=tmp_path / "logs")
    training_arguments(tmp_path / "first", with_place)
    with pytest.raises(HalflingError, match="set logging_dir=FOLDER"):
        training_arguments(tmp_path / "second", TrainingSettings(report_to="tensorboard"))
