"""Every expected span score here came from seqeval 1.2.2 in its default mode."""

import random

import pytest

from halfling.tasks.examples import TaggedExample, TextExample
from halfling.tasks.score import score, tally
from halfling.tasks.tags import fitted
from halfling.tasks.task import Task

NAMES = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
SPANS = Task(kind="tagging", labels=NAMES, metric="span F1")


def tagged(sentences):
    return [TaggedExample(("a",) * len(tags), tuple(tags)) for tags in sentences]


def labelled(labels):
    return [TextExample("a", None, label) for label in labels]


def span_f1(gold, given, task=SPANS):
    found = score(task, tagged(gold), given)
    assert found.value == found.f1 == tally(task, tagged(gold), given).score
    return found.f1


@pytest.mark.parametrize(
    ("gold", "given", "f1"),
    [
        ("O B-PER I-PER", "O I-PER I-PER", 1),  # I- after O starts a name
        ("B-PER I-ORG O", "B-PER B-ORG O", 1),  # another type starts a name
        ("B-PER I-PER I-LOC I-LOC", "B-PER I-PER B-LOC I-LOC", 1),
        ("B-PER I-PER O", "B-PER B-PER O", 0),  # B- always starts a name
        ("B-LOC I-LOC I-LOC", "B-LOC I-LOC O", 0),  # half a name is no name
        ("O O", "O O", 0),
        ("O O", "I-LOC O", 0),
        ("B-ORG I-ORG O B-LOC", "O O O B-LOC", 2 / 3),
    ],
)
def test_one_sentence_scores_as_in_seqeval(gold, given, f1):
    assert span_f1([gold.split()], [given.split()]) == pytest.approx(f1)


def draw(seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Five sentences of 1 to 12 random tags, and the same with four in ten drawn anew."""
    dice = random.Random(seed)
    gold = [[NAMES[int(7 * dice.random())] for _ in range(1 + int(12 * dice.random()))] for _ in range(5)]
    given = [[tag if dice.random() < 0.6 else NAMES[int(7 * dice.random())] for tag in tags] for tags in gold]
    return gold, given


@pytest.mark.parametrize(
    ("seed", "f1", "accuracy"),
    [
        (0, 0.7719298246, 0.7105263158),
        (1, 0.5294117647, 0.64),
        (2, 0.619047619, 0.6333333333),
        (3, 0.641509434, 0.6571428571),
    ],
)
def test_random_sentences_score_as_in_seqeval(seed, f1, accuracy):
    gold, given = draw(seed)
    assert span_f1(gold, given) == pytest.approx(f1, abs=1e-9)
    assert score(SPANS, tagged(gold), given).accuracy == pytest.approx(accuracy, abs=1e-9)


def test_three_hundred_random_documents_score_as_in_seqeval():
    drawn = [draw(seed) for seed in range(300)]
    assert sum(span_f1(*pair) for pair in drawn) == pytest.approx(187.2836636156, abs=1e-8)
    gold = [tags for sentences, _ in drawn for tags in sentences]
    given = [tags for _, sentences in drawn for tags in sentences]
    assert span_f1(gold, given) == pytest.approx(0.6264860382, abs=1e-9)
    assert score(SPANS, tagged(gold), given).accuracy == pytest.approx(0.6652680164, abs=1e-9)


def test_a_name_ends_with_its_sentence():
    assert span_f1([["B-PER"], ["I-PER"]], [["B-PER"], ["I-PER"]]) == 1
    assert span_f1([["B-PER", "I-PER"]], [["B-PER", "B-PER"]]) == 0


@pytest.mark.parametrize(
    "labels",
    [
        NAMES[::-1],
        (*(f"{prefix}-{kind}" for kind in ("PER", "LOC", "ORG") for prefix in "SEIB"), "O"),
        ("O", "I-PER", "I-LOC", "I-ORG", "B-LOC"),
        ("PER", "O", "LOC", "ORG"),
    ],
)
def test_a_model_of_another_scheme_is_scored_by_the_same_spans(labels):
    """Sentences that bare types and IOB1 without B-PER can write: no two names of one type side by side."""
    task = SPANS.model_copy(update={"labels": labels})
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["B-ORG", "B-LOC", "I-LOC"], ["O", "B-PER"]]
    given = [["B-PER", "I-PER", "O", "O"], ["B-ORG", "B-LOC", "I-LOC"], ["B-PER", "I-PER"]]
    written = [fitted(tags, labels) for tags in given]
    assert span_f1(gold, written, task) == span_f1(gold, given)
    right = score(task, tagged(gold), [fitted(tags, labels) for tags in gold])
    assert (right.f1, right.accuracy) == (1, 1)


def test_a_word_without_an_answer_is_wrong_and_in_no_span():
    found = score(SPANS, tagged([["B-PER", "O", "B-LOC"]]), [["B-PER", None, None]])
    assert found.accuracy == pytest.approx(1 / 3)
    assert found.f1 == pytest.approx(2 / 3)


CLASSES = Task(kind="text_classification", labels=("a", "b", "c"), metric="macro F1")


def test_macro_f1_by_hand():
    # Class a: 1 hit, 2 gold, 1 predicted: 2/3. Class b: 1 hit, 1 gold, 3 predicted: 1/2. Class c: no hit.
    found = score(CLASSES, labelled("aabc"), ["a", "b", "b", "b"])
    assert found.accuracy == 0.5
    assert found.value == found.f1 == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    by_accuracy = CLASSES.model_copy(update={"metric": "accuracy"})
    assert score(by_accuracy, labelled("aabc"), ["a", "b", "b", "b"]).value == 0.5


def test_an_absent_class_does_not_count():
    assert score(CLASSES, labelled("ac"), ["a", "c"]).f1 == 1


def test_calibration_holds_accuracy_of_texts_and_of_tags_that_are_no_spans():
    held = tally(CLASSES, labelled("aab"), ["a", "b", "b"])
    assert (held.above.tolist(), held.below.tolist()) == ([1, 0, 1], [1, 1, 1])
    words = Task(kind="tagging", labels=("NOUN", "VERB"), metric="accuracy")
    held = tally(words, tagged([["NOUN", "VERB"], ["NOUN"]]), [["NOUN", "NOUN"], ["NOUN"]])
    assert (held.above.tolist(), held.below.tolist()) == ([1, 1], [2, 1])
    assert held.score == pytest.approx(
        score(words, tagged([["NOUN", "VERB"], ["NOUN"]]), [["NOUN", "NOUN"], ["NOUN"]]).value
    )


def test_unlike_lengths_and_nothing_at_all_are_refused():
    with pytest.raises(ValueError, match="expected an answer for each of 2 examples, came 1"):
        score(CLASSES, labelled("ab"), ["a"])
    with pytest.raises(ValueError, match="example 1: expected 2 answers, came 1"):
        score(SPANS, tagged([["O"], ["O", "O"]]), [["O"], ["O"]])
    with pytest.raises(ValueError, match="at least one example"):
        score(CLASSES, [], [])
