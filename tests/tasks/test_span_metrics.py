"""Every expected number here came from seqeval 1.2.2 in its default mode."""

import random

import pytest

from halfling.tasks.span_metrics import score_tags, span_f1, spans
from halfling.tasks.wikiann import LABELS


@pytest.mark.parametrize(
    ("gold", "predicted", "precision", "recall", "f1"),
    [
        ("O B-PER I-PER", "O I-PER I-PER", 1, 1, 1),  # I- after O starts a name
        ("B-PER I-ORG O", "B-PER B-ORG O", 1, 1, 1),  # another type starts a name
        ("B-PER I-PER I-LOC I-LOC", "B-PER I-PER B-LOC I-LOC", 1, 1, 1),
        ("B-PER I-PER O", "B-PER B-PER O", 0, 0, 0),  # B- always starts a name
        ("B-LOC I-LOC I-LOC", "B-LOC I-LOC O", 0, 0, 0),  # half a name is no name
        ("O O", "O O", 0, 0, 0),
        ("O O", "I-LOC O", 0, 0, 0),
        ("B-ORG I-ORG O B-LOC", "O O O B-LOC", 1, 0.5, 2 / 3),
    ],
)
def test_one_sentence_scores_as_in_seqeval(gold, predicted, precision, recall, f1):
    score = span_f1([gold.split()], [predicted.split()])
    assert (score.precision, score.recall, score.f1) == pytest.approx((precision, recall, f1))


def draw(seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """Five sentences of 1 to 12 random tags, and the same with four in ten drawn anew."""
    dice = random.Random(seed)
    gold = [[int(7 * dice.random()) for _ in range(1 + int(12 * dice.random()))] for _ in range(5)]
    predicted = [[tag if dice.random() < 0.6 else int(7 * dice.random()) for tag in tags] for tags in gold]
    return gold, predicted


def names(sentences: list[list[int]]) -> list[list[str]]:
    return [[LABELS[tag] for tag in tags] for tags in sentences]


@pytest.mark.parametrize(
    ("seed", "precision", "recall", "f1", "accuracy"),
    [
        (0, 0.8148148148, 0.7333333333, 0.7719298246, 0.7105263158),
        (1, 0.5625, 0.5, 0.5294117647, 0.64),
        (2, 0.5909090909, 0.65, 0.619047619, 0.6333333333),
        (3, 0.6538461538, 0.6296296296, 0.641509434, 0.6571428571),
    ],
)
def test_random_sentences_score_as_in_seqeval(seed, precision, recall, f1, accuracy):
    gold, predicted = draw(seed)
    score = span_f1(names(gold), names(predicted))
    assert (score.precision, score.recall, score.f1) == pytest.approx((precision, recall, f1), abs=1e-9)
    assert score_tags(gold, predicted).accuracy == pytest.approx(accuracy, abs=1e-9)
    assert score_tags(gold, predicted).f1 == score.f1


def test_three_hundred_random_documents_score_as_in_seqeval():
    drawn = [draw(seed) for seed in range(300)]
    each = [score_tags(gold, predicted).f1 for gold, predicted in drawn]
    assert sum(each) == pytest.approx(187.2836636156, abs=1e-8)
    gold = [tags for sentences, _ in drawn for tags in sentences]
    predicted = [tags for _, sentences in drawn for tags in sentences]
    score = span_f1(names(gold), names(predicted))
    expected = (0.6259668508, 0.6270060874, 0.6264860382)
    assert (score.precision, score.recall, score.f1) == pytest.approx(expected, abs=1e-9)
    assert score_tags(gold, predicted).accuracy == pytest.approx(0.6652680164, abs=1e-9)


def test_spans_name_type_and_both_ends():
    tags = ["B-PER", "I-PER", "B-PER", "O", "I-LOC", "I-ORG", "I-ORG"]
    assert list(spans(tags)) == [("PER", 0, 1), ("PER", 2, 2), ("LOC", 4, 4), ("ORG", 5, 6)]


def test_a_name_ends_with_its_sentence():
    apart = span_f1([["B-PER"], ["I-PER"]], [["B-PER"], ["I-PER"]])
    assert apart.f1 == 1
    assert span_f1([["B-PER", "I-PER"]], [["B-PER", "B-PER"]]).f1 == 0


def test_sentences_of_unlike_length_are_refused():
    with pytest.raises(ValueError, match="differ from sentence 1 on"):
        score_tags([[0], [0, 1]], [[0], [0]])
    with pytest.raises(ValueError, match="came 1 sentences"):
        span_f1([["O"], ["O"]], [["O"]])
    with pytest.raises(ValueError, match="at least one token"):
        score_tags([], [])
