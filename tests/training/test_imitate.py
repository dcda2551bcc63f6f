import copy
import math
import tempfile

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification,
)

from halfling.corpus.build import CorpusSettings, build_corpus
from halfling.errors import HalflingError
from halfling.models.classifier import load_classifier
from halfling.models.load import load_tokenizer
from halfling.settings import check
from halfling.tasks.task import Task
from halfling.tokens.pack import PackSettings, pack_corpus
from halfling.training import imitate, remembering
from halfling.training.arguments import training_arguments
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
def pairs(tmp_path):
    """Labels that say nothing: every text comes with every one."""
    rows = [f"a\tb\t{label}\n" for label in ("entailment", "neutral", "contradiction")] * 20
    (tmp_path / "pairs.tsv").write_text("".join(rows))
    source = {"en": str(tmp_path / "pairs.tsv")}
    return Task(columns=("text", "text_pair", "label"), train=source, dev=source)


def tagged(path, text):
    path.write_text(text)
    dev = dict.fromkeys(("en", "sw"), str(path))  # so text of both is read
    return Task(train={"en": str(path)}, dev=dev, labels=("O", "B-PER", "I-PER", "B-LOC", "I-LOC"))


def trained(out, encoder, task, teacher=None, packed=None, **changes):
    out.mkdir()
    values = {"epochs": 20, "batch_size": 10, "learning_rate": 5e-3, "max_tokens": 30}
    settings = FinetuneSettings(**values | changes)
    finetune(settings=settings, encoder=encoder, task=task, out=out, teacher=teacher, packed=packed)
    return out


def answers(folder):
    """What a model says of a pair, by label."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        said = model(torch.tensor([[0, 14, 2, 2, 15, 2]])).logits.softmax(-1)[0]
    return {model.config.id2label[number]: share for number, share in enumerate(said.tolist())}


@pytest.fixture
def opinionated(encoder, pairs, tmp_path):
    """A teacher that is sure of an answer which no label teaches."""
    teacher = trained(tmp_path / "teacher", encoder, pairs, epochs=1, max_train_examples=3, batch_size=1)
    model = AutoModelForSequenceClassification.from_pretrained(teacher)
    with torch.no_grad():
        model.classifier.out_proj.bias.copy_(torch.tensor([2.0, 0.0, -2.0]))
    model.save_pretrained(teacher)
    return teacher


def test_a_student_learns_its_teachers_answers_and_not_the_labels(encoder, pairs, opinionated, tmp_path):
    alone = answers(trained(tmp_path / "alone", encoder, pairs))
    imitating = answers(trained(tmp_path / "imitating", encoder, pairs, opinionated, soft_share=1.0))
    assert imitating == pytest.approx(answers(opinionated), abs=0.05)
    assert alone == pytest.approx(dict.fromkeys(alone, 1 / 3), abs=0.1)
    assert answers(opinionated) != pytest.approx(dict.fromkeys(alone, 1 / 3), abs=0.2)


def test_a_teacher_whose_classes_have_other_numbers_is_imitated_the_same(
    encoder, pairs, opinionated, tmp_path, renumber
):
    same = answers(trained(tmp_path / "same", encoder, pairs, opinionated, soft_share=1.0, epochs=2))
    before = answers(opinionated)
    renumber(opinionated, [2, 0, 1])
    assert answers(opinionated) == pytest.approx(before)
    again = answers(trained(tmp_path / "again", encoder, pairs, opinionated, soft_share=1.0, epochs=2))
    assert again == pytest.approx(same, abs=1e-4)


@pytest.fixture
def asked(monkeypatch):
    """How many examples a teacher was asked, one number each time."""
    found, says = [], imitate.ImitationTrainer.unchanging

    def counting(self, inputs):
        found.append(len(inputs["input_ids"]))
        return says(self, inputs)

    monkeypatch.setattr(imitate.ImitationTrainer, "unchanging", counting)
    return found


@pytest.mark.parametrize("kind", ["pairs", "words"])
def test_what_a_teacher_says_is_remembered_over_passes(kind, encoder, pairs, packed, asked, tmp_path):
    words = tagged(tmp_path / "a.conll", "".join("Anna B-PER\n" + "in O\n" * n + "Rome B-LOC\n\n" for n in range(20)))
    task, text = (pairs, {}) if kind == "pairs" else (words, {"packed": packed, "text_sequences": 15})
    teacher = trained(tmp_path / "teacher", encoder, task, epochs=1)
    found = []
    for most in (1, 0):
        asked.clear()
        out = trained(tmp_path / f"{most}", encoder, task, teacher, soft_share=0.5, epochs=3, states_gb=most, **text)
        with torch.no_grad():
            logits = load_classifier(out).eval()(torch.tensor([[0, 14, 9, 8, 15, 2]])).logits
        found.append((logits, sum(asked)))
    (remembered, once), (anew, often) = found
    labelled, more = (60, 0) if kind == "pairs" else (20, 15)  # of the text a pass reads a third
    assert labelled + more <= once < 1.5 * (labelled + more)  # a batch more, to see that training ended well
    assert often >= 3 * (labelled - 5) + more  # half a batch is left out of a pass
    assert torch.allclose(remembered, anew, atol=0.02)  # batches round differently, and Adam makes much of little


def test_hidden_states_are_remembered_on_disk_where_they_fit(encoder, pairs, asked, tmp_path):
    teacher = trained(tmp_path / "teacher", encoder, pairs, epochs=1)
    (row,) = {tuple(row) for row in AutoTokenizer.from_pretrained(encoder)(["a"] * 60, ["b"] * 60).input_ids}
    shape = AutoConfig.from_pretrained(encoder)
    needed = 4 * 60 * (len(row) * shape.num_hidden_layers * shape.hidden_size + 3) / 1e9  # and three classes
    found = []
    for most in (1.01 * needed, 0.99 * needed):
        asked.clear()
        changes = {"hidden_weight": 1.0, "epochs": 3, "states_gb": most}
        out = trained(tmp_path / f"{most}", encoder, pairs, teacher, soft_share=0.5, **changes)
        assert not [path for path in out.iterdir() if path.is_file() and path.suffix not in (".json", ".safetensors")]
        found.append((load_file(out / "model.safetensors"), sum(asked)))
    (remembered, once), (anew, often) = found
    assert 60 <= once < 90
    assert often >= 3 * 55
    for name, weight in anew.items():
        torch.testing.assert_close(remembered[name], weight, atol=1e-4, rtol=0)


def test_a_disk_that_fills_meanwhile_lets_the_teacher_read_in_every_pass(encoder, pairs, asked, tmp_path, monkeypatch):
    teacher = trained(tmp_path / "teacher", encoder, pairs, epochs=1)
    make = tempfile.TemporaryFile

    class Full:
        def __init__(self, file):
            self.file, self.close = file, file.close

        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(remembering.tempfile, "TemporaryFile", lambda **how: Full(make(**how)))
    asked.clear()
    trained(tmp_path / "out", encoder, pairs, teacher, soft_share=0.5, hidden_weight=1.0, epochs=3)
    assert sum(asked) >= 3 * 55


@pytest.mark.parametrize("soft_share", [0.0, 0.5])
def test_a_share_and_a_teacher_come_together(encoder, pairs, tmp_path, soft_share):
    teacher = encoder if soft_share == 0 else None
    with pytest.raises(HalflingError, match=rf"soft_share={soft_share:g} and (a|no) --teacher FOLDER: give both"):
        trained(tmp_path / "out", encoder, pairs, teacher, soft_share=soft_share)


@pytest.mark.parametrize("number", [0, 3])
def test_text_and_a_packed_corpus_come_together(encoder, tmp_path, number):
    task, packed = tagged(tmp_path / "a.conll", "Anna B-PER\n"), tmp_path if number == 0 else None
    with pytest.raises(HalflingError, match=rf"text_sequences={number} and (a|no) --packed FOLDER: give both"):
        trained(tmp_path / "out", encoder, task, encoder, packed, soft_share=0.5, text_sequences=number)


def test_text_for_a_student_that_does_not_imitate_is_refused_before_anything_runs():
    with pytest.raises(HalflingError, match="text_sequences 3: to imitate a teacher: set soft_share above 0"):
        check(FinetuneSettings, {"text_sequences": 3}, "recipe")


def network(num_layers, width):
    config = XLMRobertaConfig(
        vocab_size=42,
        hidden_size=width,
        num_hidden_layers=num_layers,
        num_attention_heads=2,
        intermediate_size=width,
        max_position_embeddings=40,
        num_labels=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        classifier_dropout=0.0,
    )
    return XLMRobertaForSequenceClassification(config)


@pytest.mark.parametrize("width", [16, 24])
def test_a_hidden_weight_adds_the_gap_to_each_second_layer_and_its_gradient(width, tmp_path):
    torch.manual_seed(0)
    teacher, student = network(4, width).eval(), network(2, 16)
    by_hand = copy.deepcopy(student)
    inputs = {"input_ids": torch.tensor([[0, 14, 15, 2], [0, 9, 2, 1]]), "attention_mask": torch.ones(2, 4).long()}
    inputs["attention_mask"][1, 3] = 0
    trainer = imitate.ImitationTrainer(
        teacher=teacher,
        classes=[0, 1, 2],
        soft_share=1.0,
        hidden_weight=2.0,
        model=student,
        args=training_arguments(tmp_path, FinetuneSettings(batch_size=2)),
        train_dataset=[],
    )
    loss = trainer.compute_loss(student, inputs | {"labels": torch.tensor([0, 1])})
    loss.backward()

    own, theirs = (model(**inputs, output_hidden_states=True) for model in (by_hand, teacher))
    said = theirs.logits.softmax(-1).detach()
    keep, gaps = inputs["attention_mask"].bool(), []
    for layer in (1, 2):
        states = own.hidden_states[layer]
        if width != 16:
            states = F.linear(states, *(part.detach() for part in student.projections[f"{layer}"].parameters()))
        gaps.append((states - theirs.hidden_states[2 * layer].detach())[keep].square().mean())
    expected = -(said * own.logits.log_softmax(-1)).sum(-1).mean() + 2 * sum(gaps) / 2
    expected.backward()
    assert torch.allclose(loss, expected, atol=1e-6)
    learned = dict(student.named_parameters())
    for name, weight in by_hand.named_parameters():
        assert torch.allclose(learned[name].grad, weight.grad, atol=1e-6), name
    assert ("projections.1.weight" in learned) == (width != 16)


@pytest.mark.parametrize("hidden_weight", [0.0, 1.0])
def test_what_a_narrow_tagger_has_of_its_own_is_fitted_to_its_teacher(hidden_weight, tmp_path):
    torch.manual_seed(0)
    shapes = (4, 24), (2, 16)
    teacher, student = (XLMRobertaForTokenClassification(network(*shape).config).eval() for shape in shapes)
    args = training_arguments(tmp_path, FinetuneSettings(batch_size=8))
    how = {"classes": [2, 0, 1], "soft_share": 1.0, "hidden_weight": hidden_weight, "train_dataset": []}
    texts = torch.randint(3, 42, (300, 20))

    def collate(some):
        ids = torch.stack([row["input_ids"] for row in some])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    trainer = imitate.ImitationTrainer(teacher=teacher, model=student, args=args, data_collator=collate, **how)
    trainer.begin([{"input_ids": row, "labels": row} for row in texts])
    with torch.no_grad():
        own, theirs = (model.roberta(texts, output_hidden_states=True).hidden_states for model in (student, teacher))
        fitted = [(student.classifier, own[2], teacher(texts).logits[..., how["classes"]])]
        fitted += [(student.projections[f"{n}"], own[n], theirs[2 * n]) for n in (1, 2) if hidden_weight]
        for linear, states, target in fitted:
            states, target = states.flatten(0, 1).double(), target.flatten(0, 1).double()
            read = torch.cat([states, torch.ones(len(states), 1)], dim=1)
            least = (read @ torch.linalg.lstsq(read, target).solution - target).square().mean()
            assert (linear(states.float()) - target).square().mean() < 1.02 * least


def test_a_student_of_another_width_is_written_without_projections(encoder, pairs, write_masked_lm, tmp_path):
    teacher = trained(tmp_path / "teacher", write_masked_lm(tmp_path / "wide", width=32), pairs, epochs=1)
    plain = trained(tmp_path / "plain", encoder, pairs, epochs=1)
    out = trained(tmp_path / "out", encoder, pairs, teacher, epochs=1, soft_share=0.5, hidden_weight=1.0)
    assert {*load_file(out / "model.safetensors")} == {*load_file(plain / "model.safetensors")}


def test_a_classifier_has_an_answer_a_text_not_a_token(encoder, pairs, asked, tmp_path):
    teacher = trained(tmp_path / "teacher", encoder, pairs, epochs=1)
    trained(tmp_path / "out", encoder, pairs, teacher, soft_share=0.5, epochs=3, states_gb=4 * 60 * 3 / 1e9)
    assert sum(asked) < 2 * 60


def test_text_for_pairs_is_refused(encoder, pairs, tmp_path):
    with pytest.raises(HalflingError, match="text_sequences: a corpus has no pairs to imitate on"):
        trained(tmp_path / "out", encoder, pairs, encoder, tmp_path, soft_share=0.5, text_sequences=3)


def test_a_teacher_of_another_task_is_one_line_that_names_both_sets(encoder, pairs, opinionated, tmp_path, renumber):
    renumber(opinionated, [0, 1, 2], {"neutral": "maybe"})
    expected = r"its labels are contradiction, entailment, maybe, not those of task task, .*, neutral: name a teacher"
    with pytest.raises(HalflingError, match=expected):
        trained(tmp_path / "out", encoder, pairs, opinionated, soft_share=0.5)


@pytest.fixture
def packed(encoder, tmp_path, write_xz):
    """Blocks of two languages; every word of one is "Anna", of the other "Rome"."""
    for code, word in (("en", "Anna"), ("sw", "Rome")):
        texts = [f"{word} {'ab' * (1 + n % 40)} {word} {word} {'a' * (1 + n // 8)}" for n in range(320)]
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
        assert pieces[-1] == "</s>"  # where it was cut, too
        assert [label == UNLABELLED for label in row["labels"]] == [piece.startswith("\u2581") for piece in pieces]
        assert {*row["labels"]} <= {UNLABELLED, -100}


def test_a_text_is_imitated_as_a_whole(packed, tiny_tokenizer):
    by_word, whole = (unlabelled_rows(packed, 30, tiny_tokenizer, 20, seed=0, by_word=each) for each in (True, False))
    assert [row["input_ids"] for row in whole] == [row["input_ids"] for row in by_word]
    assert {row["labels"] for row in whole} == {UNLABELLED}


def test_text_of_less_than_a_block_is_not_padded(tmp_path, write_packed, tiny_tokenizer):
    packed = write_packed(tmp_path / "packed", [[[0, 5, 6, 7, 2, 0, 8, 2, *[1] * 8]]])
    rows = unlabelled_rows(packed, 2, tiny_tokenizer, 20, seed=0)
    assert [row["input_ids"] for row in rows] == [[0, 5, 6, 7, 2], [0, 8, 2]]


def test_text_is_drawn_evenly_from_the_languages_asked_for(packed, tiny_tokenizer):
    texts = [tiny_tokenizer.decode(row["input_ids"]) for row in unlabelled_rows(packed, 30, tiny_tokenizer, 20, seed=0)]
    assert sum("Anna" in text for text in texts) == pytest.approx(15, abs=3)
    rows = unlabelled_rows(packed, 20, tiny_tokenizer, 20, seed=0, languages={"sw", "ur"})
    assert all("Anna" not in tiny_tokenizer.decode(row["input_ids"]) for row in rows)
    with pytest.raises(HalflingError, match=r"chunk-1 holds 0 sequences of these languages, not text_sequences=1"):
        unlabelled_rows(packed, 1, tiny_tokenizer, 20, seed=0, languages={"ur"})


def states(folder, layer):
    """A layer's states of a pair."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, output_hidden_states=True).eval()
    with torch.inference_mode():
        return model(torch.tensor([[0, 14, 2, 2, 15, 2]])).hidden_states[layer]


def test_a_hidden_weight_draws_the_students_layers_to_its_teachers(encoder, pairs, opinionated, tmp_path):
    gaps = {}
    for weight in (0.0, 100.0):
        out = trained(
            tmp_path / f"{weight}", encoder, pairs, opinionated, soft_share=1.0, hidden_weight=weight, epochs=2
        )
        gaps[weight] = (states(out, 2) - states(opinionated, 2)).square().mean().item()
    assert gaps[100.0] < gaps[0.0] / 2


def test_frozen_embeddings_stay_as_they_were_to_the_bit(encoder, pairs, tmp_path):
    out = trained(tmp_path / "out", encoder, pairs, epochs=1, freeze_embeddings=True)
    before = load_file(encoder / "model.safetensors")["roberta.embeddings.word_embeddings.weight"]
    after = load_file(out / "model.safetensors")
    assert torch.equal(after["roberta.embeddings.word_embeddings.weight"], before)


def test_a_student_begins_with_its_teachers_classifier_by_name(encoder, pairs, opinionated, tmp_path, renumber):
    renumber(opinionated, [2, 0, 1])
    out = trained(tmp_path / "out", encoder, pairs, opinionated, soft_share=1.0, epochs=1, learning_rate=1e-9)
    own, theirs = load_classifier(out), load_classifier(opinionated)
    for number, label in own.config.id2label.items():
        torch.testing.assert_close(
            own.classifier.out_proj.weight[number], theirs.classifier.out_proj.weight[theirs.config.label2id[label]]
        )
    torch.testing.assert_close(own.classifier.dense.weight, theirs.classifier.dense.weight)


def test_more_text_than_there_is_and_text_of_another_tokenizer_are_refused(packed, tiny_tokenizer):
    with pytest.raises(
        HalflingError, match=r"chunk-1 holds \d+ sequences of en, sw, not text_sequences=9999: ask for fewer"
    ):
        unlabelled_rows(packed, 9999, tiny_tokenizer, 20, seed=0)
    tiny_tokenizer.add_tokens(["new"])
    with pytest.raises(HalflingError, match="packed with 42 pieces, not 43: pack with its tokenizer"):
        unlabelled_rows(packed, 3, tiny_tokenizer, 20, seed=0)


def test_text_teaches_a_student_what_its_teacher_says_of_words_that_nobody_labelled(encoder, packed, tmp_path):
    taught = tagged(tmp_path / "taught.conll", "Anna B-PER\n\nRome B-LOC\n\n" * 20)
    task = tagged(tmp_path / "train.conll", "Anna B-PER\n\nin O\n\n" * 20)
    teacher = trained(tmp_path / "teacher", encoder, taught)
    read = {"teacher": teacher, "soft_share": 0.5, "epochs": 20}
    on_text = trained(tmp_path / "text", encoder, task, packed=packed, text_sequences=30, **read)
    without = trained(tmp_path / "without", encoder, task, **read)

    def says(folder):
        model = load_classifier(folder).eval()
        with torch.inference_mode():
            best = model(torch.tensor([[0, 8, 2]])).logits[0, 1].argmax().item()  # <s> ▁Rome </s>
        return model.config.id2label[best]

    assert says(teacher) == "B-LOC"
    assert says(on_text) == "B-LOC"
    assert says(without) != "B-LOC"


def test_text_teaches_a_student_what_its_teacher_says_of_texts_that_nobody_labelled(encoder, packed, tmp_path):
    def task(name: str, lines: str) -> Task:
        (tmp_path / name).write_text("text,label\n" + lines * 20)
        return Task(
            name="who", train={"en": str(tmp_path / name)}, dev=dict.fromkeys(("en", "sw"), str(tmp_path / name))
        )

    taught = task(
        "taught.csv", "Anna ab Anna Anna a,person\nRome ab Rome Rome a,place\nAnna abab,person\nRome aa,place\n"
    )
    known = task("train.csv", "Anna ab,person\nAnna Anna aa,person\nin,place\n")
    teacher = trained(tmp_path / "teacher", encoder, taught)
    read = {"teacher": teacher, "soft_share": 0.9, "epochs": 20}
    on_text = trained(tmp_path / "text", encoder, known, packed=packed, text_sequences=600, **read)
    without = trained(tmp_path / "without", encoder, known, **read)

    rows = unlabelled_rows(packed, 30, load_tokenizer(encoder, load_classifier(teacher)), 30, seed=0)

    def says(folder):
        model = load_classifier(folder).eval()
        with torch.inference_mode():
            logits = [model(torch.tensor([row["input_ids"]])).logits[0] for row in rows]
        return torch.stack(logits).softmax(-1)[:, model.config.label2id["place"]]

    gaps = [(says(student) - says(teacher)).abs().mean() for student in (on_text, without)]
    assert gaps[0] < gaps[1] / 3
