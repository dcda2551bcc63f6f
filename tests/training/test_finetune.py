import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from halfling.errors import HalflingError
from halfling.tasks import TASKS
from halfling.tasks.predict import predict
from halfling.training.finetune import FinetuneSettings, finetune


@pytest.fixture
def data(tmp_path, write_xz):
    """The hypothesis alone tells the label; each name is always of one kind."""
    answers = [("yes", "entailment"), ("maybe", "neutral"), ("no", "contradiction")]
    pairs = [f"{'ab' * (1 + n % 5)}\t{answers[n % 3][0]}\t{answers[n % 3][1]}\n" for n in range(60)]
    write_xz(tmp_path / "data/xnli/train-en.tsv.xz", "".join(pairs))
    tagged = [
        "Anna\tB-PER\nlives\tO\nin\tO\nRome\tB-LOC\n\n",
        "Rome\tB-LOC\nlives\tO\n\n",
        "in\tO\nAnna\tB-PER\n\n",
    ]
    write_xz(tmp_path / "data/panx/train-en.tsv.xz", "".join(tagged) * 20)
    return tmp_path / "data"


def settings(**changes):
    values = {
        "task": "xnli",
        "epochs": 10,
        "batch_size": 10,
        "learning_rate": 5e-3,
        "max_tokens": 30,
        "save_steps": 25,
    }
    return FinetuneSettings(**values | changes)


@pytest.mark.parametrize(
    ("task", "auto_class"),
    [("xnli", AutoModelForSequenceClassification), ("wikiann", AutoModelForTokenClassification)],
)
def test_a_separable_set_is_learned_and_bare_transformers_loads_the_result(task, auto_class, encoder, data, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    counts = finetune(settings=settings(task=task, epochs=20), encoder=encoder, data=data, out=out)
    assert counts["examples"] == 60
    assert counts["steps"] == 120
    assert counts["curve"][-1]["loss"] < counts["curve"][0]["loss"]
    model = auto_class.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert [model.config.id2label[n] for n in range(model.config.num_labels)] == list(TASKS[task].labels)
    encoded = TASKS[task].encode(TASKS[task].read(data, "train", "en"), tokenizer, 30)
    score = TASKS[task].score(encoded.gold, predict(model, encoded, 16).labels)
    assert score.accuracy > 0.95
    assert score.f1 > 0.95
    assert not (out / "checkpoints").exists()


def test_a_killed_run_ends_with_the_same_weights(encoder, data, tmp_path):
    class KilledError(Exception):
        pass

    def kill_in_the_sixth_epoch(done, total, note):
        if done == 35:
            raise KilledError

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    finetune(settings=settings(), encoder=encoder, data=data, out=whole)
    with pytest.raises(KilledError):
        finetune(settings=settings(), encoder=encoder, data=data, out=killed, progress=kill_in_the_sixth_epoch)
    assert (killed / "checkpoints" / "checkpoint-25").exists()
    steps = []
    finetune(
        settings=settings(),
        encoder=encoder,
        data=data,
        out=killed,
        progress=lambda done, *_: steps.append(done),
    )
    assert steps[0] == 26
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(path.name for path in killed.iterdir())
    for name in names:
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name


def test_the_saved_tokenizer_does_not_truncate(encoder, data, tmp_path):
    finetune(settings=settings(epochs=1, max_tokens=8), encoder=encoder, data=data, out=tmp_path)
    assert len(AutoTokenizer.from_pretrained(tmp_path)("a b a b a b a b a b a b")["input_ids"]) > 8


def test_from_scratch_keeps_the_shape_and_none_of_the_weights(encoder, data, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "fresh").mkdir()
    still = {"epochs": 1, "learning_rate": 1e-12, "max_train_examples": 8}
    kept_counts = finetune(settings=settings(**still), encoder=encoder, data=data, out=tmp_path / "kept")
    finetune(settings=settings(**still, from_scratch=True), encoder=encoder, data=data, out=tmp_path / "fresh")
    assert kept_counts["examples"] == 8
    kept = AutoModelForSequenceClassification.from_pretrained(tmp_path / "kept").state_dict()
    fresh = AutoModelForSequenceClassification.from_pretrained(tmp_path / "fresh").state_dict()
    pretrained = AutoModelForTokenClassification.from_pretrained(encoder).state_dict()
    name = "roberta.encoder.layer.0.attention.self.query.weight"
    assert {n: w.shape for n, w in kept.items()} == {n: w.shape for n, w in fresh.items()}
    torch.testing.assert_close(kept[name], pretrained[name])
    assert not torch.allclose(fresh[name], pretrained[name], atol=0.01)


def test_the_classifier_follows_the_seed(encoder, data, tmp_path):
    weights = []
    for run, seed in enumerate((1, 1, 2)):
        out = tmp_path / str(run)
        out.mkdir()
        still = settings(epochs=1, learning_rate=1e-12, max_train_examples=8, seed=seed)
        finetune(settings=still, encoder=encoder, data=data, out=out)
        model = AutoModelForSequenceClassification.from_pretrained(out)
        weights.append(model.classifier.out_proj.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2], atol=0.01)


def test_more_tokens_than_the_encoder_reads_are_refused(encoder, data, tmp_path):
    with pytest.raises(HalflingError, match="reads at most 40 tokens, not max_tokens=41"):
        finetune(settings=settings(max_tokens=41), encoder=encoder, data=data, out=tmp_path)


def test_sentences_without_a_readable_word_are_left_out(encoder, tmp_path, write_xz):
    write_xz(tmp_path / "data/panx/train-en.tsv.xz", "Anna\tB-PER\n\n\xa0\tO\n\nRome\tB-LOC\n")
    counts = finetune(
        settings=settings(task="wikiann", epochs=1, batch_size=1),
        encoder=encoder,
        data=tmp_path / "data",
        out=tmp_path,
    )
    assert counts["examples"] == 2
    assert counts["steps"] == 2
