import math

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from halfling.corpus.build import CorpusSettings, build_corpus
from halfling.errors import HalflingError
from halfling.settings import check
from halfling.tasks import TASKS
from halfling.tokens.pack import PackSettings, pack_corpus
from halfling.training.finetune import FinetuneSettings, finetune
from halfling.training.imitate import UNLABELLED, imitation_loss, unlabelled_rows

LOGITS = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0], [9.0, -9.0]])
LABELS = torch.tensor([1, 0, -100])


@pytest.mark.parametrize(
    ("soft_share", "expected"),
    [
        # The student says 3/4 and 1/4, then 1/2 and 1/2; the labels are 1 and 0.
        (0.0, (math.log(4) + math.log(2)) / 2),
        # The teacher says 1/2 and 1/2, then 1/4 and 3/4.
        (1.0, ((math.log(4 / 3) + math.log(4)) / 2 + math.log(2)) / 2),
        (0.25, 0.75 * (math.log(4) + math.log(2)) / 2 + 0.25 * ((math.log(4 / 3) + math.log(4)) / 2 + math.log(2)) / 2),
    ],
)
def test_the_loss_is_that_of_labels_and_of_the_teacher_where_there_are_labels(soft_share, expected):
    teacher = torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)], [-5.0, 5.0]])
    assert imitation_loss(LOGITS, teacher, LABELS, soft_share).item() == pytest.approx(expected, rel=1e-6)


def test_a_word_without_a_label_is_the_teachers_alone():
    teacher = torch.tensor([[0.0, 0.0], [0.0, math.log(3.0)], [-5.0, 5.0]])
    labels = torch.tensor([UNLABELLED, 0, -100])
    soft = ((math.log(4 / 3) + math.log(4)) / 2 + math.log(2)) / 2
    assert imitation_loss(LOGITS, teacher, labels, 0.5).item() == pytest.approx((math.log(2) + soft) / 2, rel=1e-6)
    nothing_labelled = torch.tensor([UNLABELLED, UNLABELLED, -100])
    assert imitation_loss(LOGITS, teacher, nothing_labelled, 0.5).item() == pytest.approx(soft / 2, rel=1e-6)


def test_the_teacher_gets_no_gradient_and_equal_answers_give_the_student_none():
    student = LOGITS.clone().requires_grad_()
    imitation_loss(student, LOGITS, LABELS, 1.0).backward()
    torch.testing.assert_close(student.grad, torch.zeros_like(student), atol=1e-6, rtol=0)


@pytest.fixture
def data(tmp_path, write_xz):
    """Labels that say nothing: every text comes with every one."""
    pairs = [f"a\tb\t{label}\n" for label in ("entailment", "neutral", "contradiction")] * 20
    write_xz(tmp_path / "data/xnli/train-en.tsv.xz", "".join(pairs))
    return tmp_path / "data"


def settings(**changes):
    values = {"task": "xnli", "epochs": 20, "batch_size": 10, "learning_rate": 5e-3, "max_tokens": 30}
    return FinetuneSettings(**values | changes)


def trained(out, encoder, data, teacher=None, packed=None, **changes):
    out.mkdir()
    finetune(settings=settings(**changes), encoder=encoder, data=data, out=out, teacher=teacher, packed=packed)
    return out


def answers(folder):
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(torch.tensor([[0, 14, 2, 2, 15, 2]])).logits.softmax(-1)[0]


def test_a_student_learns_its_teachers_answers_and_not_the_labels(encoder, data, tmp_path):
    teacher = trained(tmp_path / "teacher", encoder, data, epochs=1, max_train_examples=1, batch_size=1)
    model = AutoModelForSequenceClassification.from_pretrained(teacher)
    with torch.no_grad():
        model.classifier.out_proj.bias.copy_(torch.tensor([2.0, 0.0, -2.0]))
    model.save_pretrained(teacher)
    alone = trained(tmp_path / "alone", encoder, data)
    imitating = trained(tmp_path / "imitating", encoder, data, teacher, soft_share=1.0)
    torch.testing.assert_close(answers(imitating), answers(teacher), atol=0.05, rtol=0)
    torch.testing.assert_close(answers(alone), torch.full((3,), 1 / 3), atol=0.1, rtol=0)
    assert not torch.allclose(answers(teacher), torch.full((3,), 1 / 3), atol=0.2)


@pytest.mark.parametrize("soft_share", [0.0, 0.5])
def test_a_share_and_a_teacher_come_together(encoder, data, tmp_path, soft_share):
    teacher = encoder if soft_share == 0 else None
    with pytest.raises(HalflingError, match=rf"soft_share={soft_share:g} and (a|no) --teacher FOLDER: give both"):
        trained(tmp_path / "out", encoder, data, teacher, soft_share=soft_share)


@pytest.mark.parametrize("number", [0, 3])
def test_text_and_a_packed_corpus_come_together(encoder, data, tmp_path, number):
    read = {"task": "wikiann", "soft_share": 0.5, "text_sequences": number}
    packed = tmp_path if number == 0 else None
    with pytest.raises(HalflingError, match=rf"text_sequences={number} and (a|no) --packed FOLDER: give both"):
        trained(tmp_path / "out", encoder, data, encoder, packed, **read)


@pytest.mark.parametrize("wrong", [{"task": "xnli", "soft_share": 0.5}, {"task": "wikiann"}])
def test_text_for_pairs_or_for_a_student_that_does_not_imitate_is_refused_before_anything_runs(wrong):
    with pytest.raises(HalflingError, match=r"text_sequences 3: for a tagger \(wikiann\) that imitates"):
        check(FinetuneSettings, {"text_sequences": 3, **wrong}, "recipe")


def test_a_teacher_of_another_task_is_refused(encoder, data, tmp_path):
    teacher = trained(tmp_path / "teacher", encoder, data, epochs=1)
    model = AutoModelForSequenceClassification.from_pretrained(teacher)
    model.config.id2label = {0: "yes", 1: "no", 2: "maybe"}
    model.save_pretrained(teacher)
    with pytest.raises(HalflingError, match=r"its id2label is {0: 'yes'.*name a teacher of the same task and words"):
        trained(tmp_path / "out", encoder, data, teacher, soft_share=0.5)


@pytest.fixture
def packed(encoder, tmp_path, write_xz):
    """Blocks of two languages; every word of one is "Anna", of the other "Rome"."""
    for code, word in (("en", "Anna"), ("sw", "Rome")):
        texts = [f"{word} {'ab' * number} {word} {word} {'a' * number}" for number in range(1, 41)]
        write_xz(tmp_path / f"cc100/{code}.txt.xz", "\n\n".join(texts) + "\n")
    for name in ("corpus", "packed"):
        (tmp_path / name).mkdir()
    settings = CorpusSettings(languages=("en", "sw"), chunks=1)
    build_corpus(settings=settings, source=tmp_path / "cc100", out=tmp_path / "corpus")
    settings = PackSettings(block_tokens=32)
    pack_corpus(settings=settings, corpus=tmp_path / "corpus", tokenizer=encoder, out=tmp_path / "packed")
    return tmp_path / "packed"


def test_text_is_sequences_of_all_languages_with_a_mark_at_each_words_first_piece(packed, tiny_tokenizer):
    rows = unlabelled_rows(packed, 30, tiny_tokenizer, 20, seed=0)
    assert rows == unlabelled_rows(packed, 30, tiny_tokenizer, 20, seed=0)
    assert rows != unlabelled_rows(packed, 30, tiny_tokenizer, 20, seed=1)
    assert len(rows) == 30
    texts = [tiny_tokenizer.decode(row["input_ids"]) for row in rows]
    assert any("Anna" in text for text in texts)
    assert any("Rome" in text for text in texts)
    for row in rows:
        pieces = tiny_tokenizer.convert_ids_to_tokens(row["input_ids"])
        assert len(pieces) <= 20
        assert [label == UNLABELLED for label in row["labels"]] == [piece.startswith("\u2581") for piece in pieces]
        assert {*row["labels"]} <= {UNLABELLED, -100}


def test_more_text_than_there_is_and_text_of_another_tokenizer_are_refused(packed, tiny_tokenizer):
    with pytest.raises(HalflingError, match=r"chunk-1 holds \d+ sequences, not text_sequences=9999: ask for fewer"):
        unlabelled_rows(packed, 9999, tiny_tokenizer, 20, seed=0)
    tiny_tokenizer.add_tokens(["new"])
    with pytest.raises(HalflingError, match="packed with 42 pieces, not 43: pack with its tokenizer"):
        unlabelled_rows(packed, 3, tiny_tokenizer, 20, seed=0)


def test_text_teaches_a_student_what_its_teacher_says_of_words_that_nobody_labelled(
    encoder, packed, tmp_path, write_xz
):
    write_xz(tmp_path / "taught/panx/train-en.tsv.xz", "Anna\tB-PER\n\nRome\tB-LOC\n\n" * 20)
    write_xz(tmp_path / "data/panx/train-en.tsv.xz", "Anna\tB-PER\n\nin\tO\n\n" * 20)
    rome = TASKS["wikiann"].labels.index("B-LOC")
    teacher = trained(tmp_path / "teacher", encoder, tmp_path / "taught", task="wikiann")
    read = {"task": "wikiann", "teacher": teacher, "soft_share": 0.5, "epochs": 10}
    on_text = trained(tmp_path / "text", encoder, tmp_path / "data", packed=packed, text_sequences=30, **read)
    without = trained(tmp_path / "without", encoder, tmp_path / "data", **read)

    def says(folder):
        model = TASKS["wikiann"].model_class.from_pretrained(folder).eval()
        with torch.inference_mode():
            return model(torch.tensor([[0, 8, 2]])).logits[0, 1].argmax().item()  # <s> ▁Rome </s>

    assert says(teacher) == rome
    assert says(on_text) == rome
    assert says(without) != rome
