"""Disagreement with full depth: what it is, and that its bound holds."""

from dataclasses import replace

import numpy as np
import pytest

from halfling.calibrate import unlabelled
from halfling.calibrate.agreement import as_answered, disagreements
from halfling.calibrate.search import taken
from halfling.calibrate.settings import Wish
from halfling.calibrate.simulate import Trial
from halfling.calibrate.unlabelled import of_text
from halfling.errors import HalflingError
from halfling.exits.bound import fewest, lower_bound, p_value, upper_bound
from halfling.exits.criteria import normalised_entropy
from halfling.exits.policy import ExitPolicy
from halfling.records import EncoderShape
from halfling.tasks.encoded import Encoded
from halfling.tasks.examples import TaggedExample, TextExample
from halfling.tasks.score import Tally
from halfling.tasks.task import Task

LIKE = ExitPolicy(layers=(3,), thresholds=())


@pytest.mark.parametrize(
    ("losses", "expected"),
    # Clopper and Pearson: 1 - 0.05 ** (1 / 100) and the 95 % quantile of Beta(4, 97).
    [([0] * 100, 1 - 0.05 ** (1 / 100)), ([1] * 3 + [0] * 97, 0.0757), ([1] * 5, 1.0), ([], 1.0)],
)
def test_a_share_of_labels_is_bounded_as_clopper_and_pearson_do(losses, expected):
    assert upper_bound(np.array(losses, float)) == pytest.approx(expected, abs=2e-4)


def test_the_lower_bound_is_the_upper_one_of_what_agrees():
    # Clopper and Pearson's again: 0.05 ** (1 / 100), and the 5 % quantile of Beta(3, 98).
    assert lower_bound(np.ones(100)) == pytest.approx(0.05 ** (1 / 100), abs=2e-4)
    assert lower_bound(np.array([1.0] * 3 + [0.0] * 97)) == pytest.approx(0.0082, abs=2e-4)
    assert lower_bound(np.zeros(100)) == lower_bound(np.array([])) == 0


def test_what_is_neither_0_nor_1_is_bounded_by_hoeffding_and_bentkus():
    losses = np.full(200, 0.1)
    divergence = 0.1 * np.log(0.1 / 0.2) + 0.9 * np.log(0.9 / 0.8)
    tail = sum(np.exp(_log_choose(200, k)) * 0.2**k * 0.8 ** (200 - k) for k in range(21))
    assert p_value(losses, 0.2) == pytest.approx(min(np.exp(-200 * divergence), np.e * tail))
    assert (p_value(losses, 0.1), p_value(losses, 0.0), p_value(losses, 1.0)) == (1, 1, 0)


def _log_choose(number, some):
    def log_factorial(n):
        return np.log(np.arange(1, n + 1)).sum()

    return log_factorial(number) - log_factorial(some) - log_factorial(number - some)


@pytest.mark.parametrize("kind", ["labels", "spans"])
@pytest.mark.parametrize("share", [0.01, 0.1])
def test_a_bound_is_exceeded_in_no_more_draws_than_it_says(kind, share):
    random = np.random.default_rng(0)

    def draw():
        differs = random.random(400) < share
        return differs * (1.0 if kind == "labels" else random.choice([0.2, 0.5, 1.0], 400))

    truth = share * (1.0 if kind == "labels" else np.mean([0.2, 0.5, 1.0]))
    exceeded = np.mean([upper_bound(draw()) < truth for _ in range(400)])
    assert exceeded <= 0.05
    # And it is not so wide that it says nothing.
    assert np.mean([upper_bound(draw()) for _ in range(50)]) < truth + 0.06


def test_so_many_texts_are_needed_and_one_fewer_does_not_do():
    number = fewest(0.01)
    assert (number, upper_bound(np.zeros(number)) <= 0.01, upper_bound(np.zeros(number - 1)) <= 0.01) == (
        299,
        True,
        False,
    )


def test_sentences_without_spans_say_nothing_of_spans():
    agreement = Tally(np.array([2.0, 0.0, 2.0, 0.0]), np.array([2.0, 0.0, 4.0, 1.0]))
    assert disagreements(agreement).tolist() == [0, 0.5, 1]


def test_full_depth_answers_are_labels_that_full_depth_is_right_by():
    tagger = Task(kind="tagging", labels=("O", "B-PER", "I-PER"), metric="span F1")
    sentence = TaggedExample(("a", "b", "c"), ("O",) * 3)
    cut = Encoded(np.array([0, 5, 6, 7, 2]), np.array([1, 2]), np.array([0, 2]))
    # An I- that begins a span, and a word without a place.
    said = as_answered(tagger, [sentence], [cut], [np.eye(3)[[2, 1]]])
    assert said == [TaggedExample(("a", "b", "c"), ("B-PER", "O", "B-PER"))]
    classes = Task(kind="text_classification", labels=("x", "y"))
    text = Encoded(np.array([0, 2]), np.array([0]))
    assert as_answered(classes, [TextExample("t", None, "")], [text], [np.array([[0.1, 0.3]])])[0].label == "y"


def test_a_word_that_is_cut_off_has_no_answer_to_disagree_with():
    parts = Task(kind="tagging", labels=("noun", "verb"), metric="accuracy")
    sentence = TaggedExample(("a", "b", "c", "d"), ("O",) * 4)
    cut = Encoded(np.array([0, 5, 6, 7, 2]), np.array([1, 2, 3]), np.array([0, 1, 3]))
    early, full = np.eye(2)[[0, 1, 1]], np.eye(2)[[0, 0, 1]]
    shape = EncoderShape(num_layers=2, width=8, num_heads=2, ffn_width=8, vocab_size=9, max_tokens=16)
    like = ExitPolicy(layers=(2,), thresholds=())
    tried = Trial.from_logits(parts, shape, (1, 2), [sentence], [cut], [[early], [full]], like, labelled=False)
    assert disagreements(tried.tallies[0]).tolist() == [pytest.approx(1 / 3)]
    assert disagreements(tried.plain).tolist() == [0]


def trial_of(random, number):
    """A trial of three exits whose answers come nearer to full depth's and surer; nobody computed anything."""
    hardness = random.random(number)
    logits, tallies = [], []
    for wrong in (0.5, 0.25, 0.0):
        differs = random.random(number) < wrong * hardness
        sure = 4 * (1 - hardness) + random.normal(0, 0.7, number) + 2 * (0.5 - wrong)
        logits.append(np.stack([sure, -sure], axis=1).astype(np.float32))
        tallies.append(Tally(1.0 - differs, np.ones(number)))
    return Trial(
        task=Task(kind="text_classification"),
        shape=EncoderShape(num_layers=3, width=8, num_heads=2, ffn_width=8, vocab_size=9, max_tokens=16),
        layers=(1, 2, 3),
        like=LIKE,
        examples=[TextExample("any", None, "")] * number,
        encoded=[Encoded(np.zeros(9, int), np.array([0]))] * number,
        logits=logits,
        tallies=tallies,
        encoder_flops=np.repeat([[1.0], [2.0], [3.0]], number, axis=1),
        head_flops=np.full(number, 0.01),
        learned_from=random.permutation(number) % 2 == 0,
    )


def disagreement(trial, policy):
    """Return the mean over a trial of the disagreement of a policy."""
    rows = [layer - 1 for layer in policy.layers]
    at = taken(np.array([normalised_entropy(trial.logits[row]) for row in rows]), policy.thresholds)
    right = np.stack([one.above for one in trial.tallies])[np.array(rows)[at], np.arange(len(at))]
    return 1 - right.mean()


@pytest.mark.slow
@pytest.mark.parametrize(("what", "limit"), [("max_disagreement", 5.0), ("flops_share", 0.7)], ids=["limit", "share"])
def test_what_was_chosen_disagrees_beyond_its_bound_in_no_more_draws_than_it_says(what, limit):
    draws = 200
    random = np.random.default_rng(0)
    world = trial_of(random, 50_000)
    exceeded, early = [], []
    for _ in range(draws):
        drawn = world.some(random.choice(50_000, 400, replace=False))
        text = replace(drawn, learned_from=random.permutation(400) % 2 == 0)
        found = of_text(Wish(what, limit), text, None, 2, "text")
        exceeded.append(100 * disagreement(world, found.policy) > found.point.drop_bound)
        early.append(found.policy.is_early)
    # The second bounds one choice, tightly: twice the standard error of 200 draws of 5 % is left to chance.
    assert np.mean(exceeded) <= 0.05 + 2 * (0.05 * 0.95 / draws) ** 0.5
    assert np.mean(early) > 0.9


def test_thresholds_and_their_bound_are_of_different_halves(monkeypatch):
    text = trial_of(np.random.default_rng(1), 2000)
    seen = []
    init = unlabelled.Agreement.__init__
    monkeypatch.setattr(
        unlabelled.Agreement, "__init__", lambda self, trial, clock: seen.append(trial) or init(self, trial, clock)
    )
    found = of_text(Wish("max_disagreement", 5.0), text, None, 2, "text")
    fitted, held = (np.concatenate([one.above for one in trial.tallies]) for trial in seen)
    rows = text.learned_from
    np.testing.assert_array_equal(fitted, np.concatenate([one.above[rows] for one in text.tallies]))
    np.testing.assert_array_equal(held, np.concatenate([one.above[~rows] for one in text.tallies]))
    assert found.point.drop == pytest.approx(100 * disagreement(seen[1], found.policy))
    assert (found.point.drop_bound, found.num_texts, found.from_labels) == (5.0, 1000, False)
    assert found.point.flops_share < 0.9


def test_a_disagreement_that_may_not_be_lets_nobody_leave():
    found = of_text(Wish("max_disagreement", 0.0), trial_of(np.random.default_rng(1), 400), None, 2, "text")
    assert not found.policy.is_early
    assert found.point.drop_bound == 0


def test_arithmetic_out_of_reach_of_a_text_is_one_line():
    with pytest.raises(HalflingError, match=r"^text: flops_share=0\.01 is out of reach: the cheapest .* 0\.3"):
        of_text(Wish("flops_share", 0.01), trial_of(np.random.default_rng(1), 400), None, 2, "text")


def test_text_too_short_for_a_limit_is_one_line_that_says_how_much_is_needed():
    with pytest.raises(HalflingError, match=r"^text: 200 texts in each half are too few .* at least 299 are needed"):
        of_text(Wish("max_disagreement", 1.0), trial_of(np.random.default_rng(1), 400), None, 2, "text")
