import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification
from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaEmbeddings

from halfling.errors import HalflingError
from halfling.exits.policy import ExitPolicy
from halfling.models import XLMRobertaEarlyExitConfig
from halfling.models.classifier import EARLY_EXIT, load_classifier
from halfling.tasks.task import Task, read_task
from halfling.training import exits
from halfling.training.exits import ExitsSettings, train_exits

AUTO = {"pairs": AutoModelForSequenceClassification, "tags": AutoModelForTokenClassification}


@pytest.fixture(params=["pairs", "tags"])
def task(request):
    return request.param


@pytest.fixture
def train(tmp_path):
    """A function that trains exits of a fine-tuned model, whose task goes along."""

    def make(finetuned, name="out", progress=lambda *_: None, task=None, teacher=None, **changes):
        (tmp_path / name).mkdir(exist_ok=True)
        values = {
            "method": "two_stage",
            "soft_share": 0.0,
            "batch_size": 10,
            "max_tokens": 30,
            "epochs": 3,
            "learning_rate": 1e-2,
            "save_steps": 25,
        }
        settings = ExitsSettings(**values | changes)
        places = {"finetuned": finetuned, "out": tmp_path / name, "teacher": teacher}
        return train_exits(settings=settings, task=task, progress=progress, **places)

    return make


def test_two_stages_leave_the_fine_tuned_model_bit_for_bit(task, train, finetuned, tmp_path):
    before = finetuned(task)
    counts = train(before, weight_decay=0.5)
    assert counts["exit_layers"] == [1, 2, 3]
    plain = AUTO[task].from_pretrained(before)
    early, info = AUTO[task].from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    assert early.config.exit_policy is None
    assert early.config.id2label == plain.config.id2label
    assert read_task(tmp_path / "out") == read_task(before)
    for name, weight in plain.state_dict().items():
        assert torch.equal(early.state_dict()[name], weight), name
    ids = torch.tensor([[0, 5, 8, 11, 2], [0, 9, 2, 1, 1]])
    with torch.no_grad():
        assert torch.equal(
            early.eval()(ids, attention_mask=(ids != 1).long()).logits,
            plain.eval()(ids, attention_mask=(ids != 1).long()).logits,
        )


def test_what_moves_everything_learns_less_unless_said_otherwise():
    assert (ExitsSettings().learning_rate, ExitsSettings().epochs) == (1e-3, 3)
    assert (ExitsSettings(method="joint").learning_rate, ExitsSettings(method="joint").epochs) == (2e-4, 1)
    assert ExitsSettings(method="leaving", learning_rate=1e-4).learning_rate == 1e-4


def test_exits_of_a_frozen_model_learn(task, train, finetuned, tmp_path, scored):
    counts = train(finetuned(task, epochs=20), epochs=20, layers=(2,))
    assert counts["curve"][-1]["loss"] < counts["curve"][0]["loss"]
    path = tmp_path / "out" / "config.json"
    everybody = ExitPolicy.uniform((2, 3), 1.0).model_dump(mode="json", exclude_none=True)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"exit_policy": everybody}))
    found = scored(tmp_path / "out")
    assert {*found.exits_taken} == {2}
    assert found.score.accuracy > 0.9


@pytest.mark.parametrize(("teaches", "precision", "near"), [(False, "float32", 1e-4), (True, "bfloat16", 5e-3)])
def test_a_frozen_encoder_and_a_teacher_read_once(
    task, teaches, precision, near, train, finetuned, tmp_path, monkeypatch
):
    before = finetuned(task, epochs=20)
    read, embed = [], XLMRobertaEmbeddings.forward

    def counting(self, input_ids=None, **more):
        read.append(len(input_ids))
        return embed(self, input_ids=input_ids, **more)

    monkeypatch.setattr(XLMRobertaEmbeddings, "forward", counting)
    found = []
    for name, most in (("once", 1.0), ("often", 0.0)):
        read.clear()
        how = {"teacher": before if teaches else None, "precision": precision, "states_gb": most}
        counts = train(before, name, epochs=4, layers=(1, 2), soft_share=0.5, **how)
        found.append((load_file(tmp_path / name / "model.safetensors"), sum(read)))
    (remembered, once), (anew, often) = found
    assert once == counts["examples"] * (1 + teaches)
    assert often > 3 * once
    for name, weight in anew.items():
        torch.testing.assert_close(remembered[name], weight, atol=near, rtol=0)


def test_joint_training_moves_everything(task, train, finetuned, tmp_path):
    before = finetuned(task)
    train(before, method="joint", layers=(2,))
    plain, early = AUTO[task].from_pretrained(before), AUTO[task].from_pretrained(tmp_path / "out")
    assert early.config.exit_layers == [2, 3]
    moved = early.state_dict()
    for name, weight in plain.named_parameters():
        if "position" not in name and "word" not in name:
            assert not torch.equal(moved[name], weight), name


def test_exits_that_imitate_hold_the_last_exit_to_what_the_model_said(task, train, finetuned, tmp_path):
    before = finetuned(task, epochs=20)
    ids = torch.tensor([[0, 5, 8, 11, 2], [0, 9, 2, 1, 1]])

    def said(folder):
        with torch.no_grad():
            return AUTO[task].from_pretrained(folder).eval()(ids, attention_mask=(ids != 1).long()).logits.softmax(-1)

    moved = {}
    for share in (0.0, 1.0):
        train(before, f"{share}", method="joint", soft_share=share, epochs=5)
        gaps = (said(tmp_path / f"{share}") - said(before)).abs()
        moved[share] = gaps.mean() if gaps.dim() == 2 else gaps[ids > 2].mean()  # words alone: the rest is no answer
    assert moved[1.0] < moved[0.0]


@pytest.mark.parametrize("method", ["two_stage", "joint"])
def test_exits_imitate_another_model_whatever_numbers_its_classes_have(
    task, method, train, finetuned, tmp_path, renumber
):
    before = finetuned(task)
    teacher = shutil.copytree(before, tmp_path / "teacher")
    other = AUTO[task].from_pretrained(teacher)
    with torch.no_grad():
        getattr(other.classifier, "out_proj", other.classifier).bias[1] += 20
    other.save_pretrained(teacher)
    renumber(teacher, [2, 0, 1] if task == "pairs" else [3, 1, 4, 0, 2])
    train(before, "out", teacher=teacher, method=method, soft_share=1.0, layers=(1, 3), epochs=10)
    ids = torch.tensor([[0, 5, 8, 11, 2], [0, 9, 14, 6, 2]])
    model = load_classifier(tmp_path / "out").eval()
    with torch.no_grad():
        found = model(ids, attention_mask=torch.ones_like(ids), all_exits=True).exit_logits
        plain = AUTO[task].from_pretrained(before).eval()(ids).logits
    said = [one.argmax(-1) if one.dim() == 2 else one.argmax(-1)[:, 1:-1] for one in (*found, plain)]
    assert (said[0] == 1).all(), "the first exit"
    assert (said[1] == 1).all() == (method == "joint"), "the last one"
    assert not (said[2] == 1).all()


def test_a_teacher_that_nobody_imitates_and_one_of_another_task_are_refused(train, finetuned, tmp_path, renumber):
    before = finetuned("pairs")
    with pytest.raises(HalflingError, match="exits: --teacher FOLDER and soft_share=0: set soft_share above 0"):
        train(before, teacher=before)
    renumber(teacher := shutil.copytree(before, tmp_path / "teacher"), [0, 1, 2], {"neutral": "other"})
    with pytest.raises(HalflingError, match=r"teacher: its labels are .*other.*, not those of task pairs"):
        train(before, teacher=teacher, soft_share=0.5)


def test_frozen_embeddings_stay_where_exits_are_trained_jointly(task, train, finetuned, tmp_path):
    before = finetuned(task)
    train(before, method="joint", freeze_embeddings=True, epochs=1)
    name = "roberta.embeddings.word_embeddings.weight"
    plain, early = AUTO[task].from_pretrained(before), AUTO[task].from_pretrained(tmp_path / "out")
    assert torch.equal(early.state_dict()[name], plain.state_dict()[name])


def test_exits_are_trained_in_bfloat16(task, train, finetuned, tmp_path):
    # accelerate then makes every output anew, from a dict.
    counts = train(finetuned(task), method="joint", precision="bfloat16", epochs=10)
    assert counts["curve"][-1]["loss"] < counts["curve"][0]["loss"]


def test_text_without_a_packed_corpus_is_refused(train, finetuned):
    with pytest.raises(HalflingError, match="text_sequences=3 and no --packed FOLDER: give both"):
        train(finetuned("tags"), text_sequences=3, soft_share=0.5)


@pytest.mark.parametrize("method", ["two_stage", "joint", "leaving"])
def test_a_killed_training_ends_with_the_same_bytes(method, train, finetuned, tmp_path):
    class KilledError(Exception):
        pass

    def kill(done, total, note):
        if done == 35:
            raise KilledError

    before = finetuned("tags")
    settings = {"epochs": 7, "method": method}
    whole = train(before, "whole", **settings)
    with pytest.raises(KilledError):
        train(before, "killed", kill, **settings)
    steps = []
    resumed = train(before, "killed", lambda done, _, note: steps.append(done) if "loss" in note else None, **settings)
    assert steps == list(range(26, 43))
    assert resumed == whole
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "killed").iterdir())
    for name in {*names} - {"checkpoints"}:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name


def test_the_exits_first_weights_follow_the_seed(train, finetuned, tmp_path):
    before, heads = finetuned("pairs"), []
    for number, (name, seed) in enumerate([("one", 1), ("two", 1), ("three", 2)]):
        torch.manual_seed(number)  # what ran before does not matter
        train(before, name, epochs=1, learning_rate=1e-12, seed=seed)
        heads.append(AUTO["pairs"].from_pretrained(tmp_path / name).exits["1"].dense.weight)
    assert torch.equal(heads[0], heads[1])
    assert not torch.allclose(heads[0], heads[2], atol=1e-3)


@pytest.mark.parametrize("layers", [(4,), (2, 7)])
def test_an_exit_outside_the_model_is_one_line(layers, train, finetuned):
    with pytest.raises(HalflingError, match=r"exits: exit_layers .* outside 1\.\.3"):
        train(finetuned("pairs"), layers=layers)


def test_no_early_exit_at_all_is_one_line(train, finetuned):
    with pytest.raises(HalflingError, match=r"exits: \[3\] leaves no early exit: name a layer below 3"):
        train(finetuned("pairs"), layers=(3,))


def test_a_missing_model_is_one_line(train, tmp_path):
    with pytest.raises(HalflingError, match="nowhere: no model here"):
        train(tmp_path / "nowhere")


def test_a_model_that_has_exits_already_is_one_line(train, finetuned, tmp_path):
    train(finetuned("pairs"), epochs=1)
    with pytest.raises(HalflingError, match="out: has exits already: name the model that it was made from"):
        train(tmp_path / "out", "again")


def test_a_model_without_training_data_is_one_line(train, finetuned, tasks):
    with pytest.raises(HalflingError, match="task pairs: no training data: give them with --train FILE"):
        train(finetuned("pairs"), task=Task(train={}, dev=tasks["pairs"].dev))


@pytest.mark.parametrize(("task", "method"), [("pairs", "leaving"), ("tags", "joint")])
def test_tokens_leave_alone_in_taggers_that_learn_to_be_left_only(task, method, train, finetuned):
    with pytest.raises(HalflingError, match="granularity=token is for taggers"):
        train(finetuned(task), method=method, granularity="token")


def test_exits_of_a_permuted_model_answer_the_same(task, train, finetuned, tmp_path, renumber, scored):
    """Somebody else's checkpoint: other numbers, and no task beside it."""
    before = finetuned(task)
    whole = read_task(before)
    train(before, "one")
    renumber(before, [2, 0, 1] if task == "pairs" else [3, 1, 4, 0, 2])
    (before / "task.json").unlink()
    train(before, "two", task=Task(kind=whole.kind, train=whole.train, dev=whole.dev))
    one, two = (load_classifier(tmp_path / name).config.id2label for name in ("one", "two"))
    assert one != two
    assert scored(tmp_path / "one").score == scored(tmp_path / "two").score


@torch.no_grad()
@pytest.mark.parametrize(("head", "granularity"), [("sequence", "sentence"), ("token", "sentence"), ("token", "token")])
def test_in_training_those_reach_an_exit_who_would_have_run(head, granularity, tiny_config, monkeypatch):
    config = XLMRobertaEarlyExitConfig(**{**tiny_config.to_dict(), "exit_layers": [1, 2]})
    torch.manual_seed(5)
    model = EARLY_EXIT[head](config).eval()
    ids = torch.randint(4, 41, (8, 10), generator=torch.Generator().manual_seed(0))
    keep = torch.arange(10) < torch.arange(3, 11)[:, None]
    words = keep & (torch.arange(10) % 3 != 1)
    labels = torch.where(words, 1, -100) if head == "token" else torch.ones(8, dtype=torch.long)
    trainer = object.__new__(exits._ExitsTrainer)
    trainer.state = SimpleNamespace(global_step=1, max_steps=2)
    trainer.imitated = None
    trainer.how, trainer.weights = exits.ExitsSettings(method="leaving", granularity=granularity), (1, 1)
    told = {}
    monkeypatch.setattr(exits, "exits_loss", lambda *_, **settings: told.update(settings) or torch.zeros(()))
    monkeypatch.setattr(torch, "rand", lambda _: torch.tensor(0.6))
    trainer.compute_loss(model, {"input_ids": ids, "attention_mask": keep.long(), "labels": labels})
    policy = {"layers": [1, 2], "thresholds": [0.6], "granularity": granularity}
    starts = words if (head, granularity) == ("token", "sentence") else None
    ran = model(ids, attention_mask=keep, word_starts=starts, policy=policy)
    left = ran.token_exit_layers if granularity == "token" else ran.exit_layers
    assert {1, 2} <= {*left.flatten().tolist()}, "all at one exit would prove little"
    if head == "token" and granularity == "sentence":
        left = left[:, None].where(keep, 0)
    for layer, reached in zip((1, 2), told["reached"], strict=True):
        assert torch.equal(reached, left >= layer)


def test_what_the_exits_of_a_frozen_model_imitate_has_no_dropout(task, train, finetuned, monkeypatch):
    before = finetuned(task)
    plain, gaps = load_classifier(before).eval(), []
    loss, compute = exits.exits_loss, exits._ExitsTrainer.compute_loss

    def watched(self, model, inputs, *more, **named):
        def compared(logits, *given, **said):
            with torch.no_grad():
                expected = plain(inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
            gap = (logits[-1] - expected).abs()
            gaps.append((gap[inputs["attention_mask"].bool()] if gap.dim() == 3 else gap).max().item())
            return loss(logits, *given, **said)

        monkeypatch.setattr(exits, "exits_loss", compared)
        return compute(self, model, inputs, *more, **named)

    monkeypatch.setattr(exits._ExitsTrainer, "compute_loss", watched)
    train(before, soft_share=0.5, epochs=1)
    assert max(gaps) < 1e-4


def test_text_that_nobody_imitates_on_is_refused():
    with pytest.raises(ValueError, match="text_sequences 5: to imitate there: set soft_share above 0"):
        ExitsSettings(text_sequences=5, soft_share=0)
