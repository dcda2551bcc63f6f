import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    RobertaConfig,
    RobertaForMaskedLM,
)

from halfling.errors import HalflingError
from halfling.models.classifier import load_classifier
from halfling.tasks.task import Task, read_task
from halfling.training import finetune as module
from halfling.training.exits import ExitsSettings, train_exits
from halfling.training.finetune import FinetuneSettings, finetune


def settings(**changes):
    values = {"epochs": 10, "batch_size": 10, "learning_rate": 5e-3, "max_tokens": 30, "save_steps": 25}
    return FinetuneSettings(**values | changes)


@pytest.fixture
def train(encoder, tmp_path):
    """A function that fine-tunes the encoder, and the folder of the result."""

    def run(task, name="out", progress=lambda *_: None, **changes):
        (tmp_path / name).mkdir(exist_ok=True)
        run.counts = finetune(
            settings=settings(**changes), encoder=encoder, task=task, out=tmp_path / name, progress=progress
        )
        return tmp_path / name

    return run


@pytest.mark.parametrize(
    ("task", "auto_class", "labels"),
    [
        ("pairs", AutoModelForSequenceClassification, ["contradiction", "entailment", "neutral"]),
        ("tags", AutoModelForTokenClassification, ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]),
    ],
)
def test_a_separable_set_is_learned_and_bare_transformers_loads_the_result(
    task, auto_class, labels, train, tasks, scored
):
    out = train(tasks[task], epochs=20)
    assert train.counts["examples"] == 60
    assert train.counts["steps"] == 120
    assert train.counts["curve"][-1]["loss"] < train.counts["curve"][0]["loss"]
    model = auto_class.from_pretrained(out)
    assert [model.config.id2label[n] for n in range(model.config.num_labels)] == labels
    assert scored(out).score.accuracy > 0.95
    assert scored(out).score.f1 > 0.95
    travels = read_task(out)
    assert (travels.name, [*travels.labels], travels.dev) == (task, labels, tasks[task].dev)


@pytest.mark.parametrize("task", ["pairs", "tags"])
def test_a_permuted_id2label_gives_the_same_scores(task, train, tasks, scored, renumber):
    out = train(tasks[task])
    before = scored(out)
    assert before.score.accuracy > 0.4
    renumber(out, [2, 0, 1] if task == "pairs" else [3, 1, 4, 0, 2])
    assert scored(out) == before


def test_training_goes_on_from_a_permuted_task_by_name(train, tasks, scored):
    labels = ["neutral", "contradiction", "entailment"]
    out = train(tasks["pairs"].model_copy(update={"labels": tuple(labels)}), epochs=20)
    assert [*load_classifier(out).config.id2label.values()] == labels
    assert scored(out).score.accuracy > 0.95


def test_several_training_languages_are_all_learned_from(train, tasks, tmp_path):
    (tmp_path / "sw.tsv").write_text("text\ttext_pair\tlabel\na\tb\tother\n" * 1)
    task = tasks["pairs"].model_copy(update={"train": tasks["pairs"].train | {"sw": str(tmp_path / "sw.tsv")}})
    out = train(task, epochs=1, max_train_examples=8)
    assert train.counts["examples"] == 9
    assert [*load_classifier(out).config.id2label.values()] == ["contradiction", "entailment", "neutral", "other"]


def test_what_is_held_out_as_dev_is_not_learned_from(train, tasks, scored):
    task = tasks["pairs"].model_copy(update={"dev": {"sw": tasks["pairs"].dev["en"]}})
    out = train(task, epochs=20)
    assert train.counts["examples"] == 54
    assert read_task(out).languages == ("en", "sw")
    assert scored(out).score.accuracy == 1


def test_a_killed_run_ends_with_the_same_weights(train, tasks):
    class KilledError(Exception):
        pass

    def kill_in_the_sixth_epoch(done, total, note):
        if done == 35:
            raise KilledError

    whole = train(tasks["pairs"], "whole")
    with pytest.raises(KilledError):
        train(tasks["pairs"], "killed", kill_in_the_sixth_epoch)
    assert (whole.parent / "killed" / "checkpoints" / "checkpoint-25").exists()
    steps = []
    killed = train(tasks["pairs"], "killed", lambda done, *_: steps.append(done))
    assert steps[0] == 26
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(path.name for path in killed.iterdir())
    for name in {*names} - {"checkpoints"}:
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name


def test_the_saved_tokenizer_does_not_truncate(train, tasks):
    out = train(tasks["pairs"], epochs=1, max_tokens=8)
    assert len(AutoTokenizer.from_pretrained(out)("a b a b a b a b a b a b")["input_ids"]) > 8


def test_from_scratch_keeps_the_shape_and_none_of_the_weights(train, tasks, encoder):
    still = {"epochs": 1, "learning_rate": 1e-12, "max_train_examples": 8}
    kept = load_classifier(train(tasks["pairs"], "kept", **still)).state_dict()
    assert train.counts["examples"] == 8
    fresh = load_classifier(train(tasks["pairs"], "fresh", **still, from_scratch=True)).state_dict()
    pretrained = AutoModelForTokenClassification.from_pretrained(encoder).state_dict()
    name = "roberta.encoder.layer.0.attention.self.query.weight"
    assert {n: w.shape for n, w in kept.items()} == {n: w.shape for n, w in fresh.items()}
    torch.testing.assert_close(kept[name], pretrained[name])
    assert not torch.allclose(fresh[name], pretrained[name], atol=0.01)


def test_the_classifier_follows_the_seed(train, tasks):
    still = {"epochs": 1, "learning_rate": 1e-12, "max_train_examples": 8}
    weights = [
        load_classifier(train(tasks["pairs"], str(run), **still, seed=seed)).classifier.out_proj.weight
        for run, seed in enumerate((1, 1, 2))
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2], atol=0.01)


def test_more_tokens_than_the_encoder_reads_are_refused(train, tasks):
    with pytest.raises(HalflingError, match="reads at most 40 tokens, not max_tokens=41"):
        train(tasks["pairs"], max_tokens=41)


def test_sentences_without_a_readable_word_are_left_out(train, tmp_path):
    (tmp_path / "a.conll").write_text("Anna B-PER\n\n\xa0 O\n\nRome B-LOC\n")
    train(Task(train=str(tmp_path / "a.conll")), epochs=1, batch_size=1)
    assert (train.counts["examples"], train.counts["steps"]) == (2, 2)


def test_a_task_without_training_data_is_one_line(train, tasks):
    with pytest.raises(HalflingError, match="task tags: no training data: give them with --train FILE"):
        train(tasks["tags"].model_copy(update={"train": {}}))


def test_an_encoder_of_another_architecture_is_one_line(tasks, tmp_path, tiny_tokenizer):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    RobertaForMaskedLM(RobertaConfig(vocab_size=42, **shape)).save_pretrained(tmp_path / "other")
    tiny_tokenizer.save_pretrained(tmp_path / "other")
    with pytest.raises(HalflingError, match=r"other: a roberta model: halfling reads XLM-R's .*xlm-roberta\)"):
        finetune(settings=settings(), encoder=tmp_path / "other", task=tasks["pairs"], out=tmp_path / "out")


def test_a_model_never_holds_out_again_what_it_learned(tmp_path):
    trained = Task(train={"en": "a", "sw": "b"}, dev={"en": "c"})
    trained = trained.model_copy(update={"held_out": trained.held})
    assert trained.held == ()
    # Only sw is named again, whose every line was learned: none of them is dev.
    assert trained.with_sources(Task(train={"sw": "b"})).held == ()
    alone = Task(train={"en": "a"})
    alone = alone.model_copy(update={"held_out": alone.held})
    assert alone.with_sources(Task(dev={"en": "d"})).held == ("en",)


def test_a_fine_tuned_model_as_encoder_keeps_no_class_of_its_own(tmp_path, encoder, tiny_tokenizer):
    from transformers import XLMRobertaForSequenceClassification

    names = {0: "c", 1: "a", 2: "b"}
    other = XLMRobertaForSequenceClassification.from_pretrained(
        encoder, id2label=names, label2id={name: number for number, name in names.items()}
    )
    other.save_pretrained(tmp_path / "other")
    tiny_tokenizer.save_pretrained(tmp_path / "other")
    task = Task(name="t", kind="text_classification", labels=("a", "b", "c"), train={"en": "x"})
    fresh = module._fresh_classifier(task, tmp_path / "other", FinetuneSettings(max_tokens=30))
    assert fresh.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert not torch.equal(fresh.classifier.out_proj.weight, other.classifier.out_proj.weight)
    words = other.roberta.embeddings.word_embeddings.weight
    assert torch.equal(fresh.roberta.embeddings.word_embeddings.weight, words)
    two = task.model_copy(update={"labels": ("yes", "no")})
    fewer = module._fresh_classifier(two, tmp_path / "other", FinetuneSettings(max_tokens=30))
    assert (fewer.config.num_labels, fewer.classifier.out_proj.weight.shape[0]) == (2, 2)
    assert torch.equal(fewer.roberta.embeddings.word_embeddings.weight, words)


@pytest.mark.parametrize("examples", [1, 5])
def test_of_fewer_examples_than_a_batch_every_epoch_is_a_step(examples, train, tasks):
    train(tasks["pairs"], epochs=10, batch_size=32, max_train_examples=examples)
    assert train.counts["steps"] == 10


def test_a_split_of_unreadable_words_is_one_line(train, tmp_path):
    (tmp_path / "train.conll").write_text("\u00a0 B-PER\n\n\u00a0 O\n\n")
    with pytest.raises(HalflingError, match="no example of train has a label that can be read"):
        train(Task(train=str(tmp_path / "train.conll")))


def test_a_teacher_with_exits_is_one_line(finetuned, encoder, tasks, tmp_path):
    (tmp_path / "early").mkdir()
    exits = ExitsSettings(batch_size=10, max_tokens=30, epochs=1)
    train_exits(settings=exits, finetuned=finetuned("pairs"), out=tmp_path / "early")
    with pytest.raises(HalflingError, match="early: has exits: name the model that they were trained for"):
        finetune(
            settings=settings(soft_share=0.5),
            encoder=encoder,
            task=tasks["pairs"],
            out=tmp_path,
            teacher=tmp_path / "early",
        )
