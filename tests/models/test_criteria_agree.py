"""The published model's criteria in torch are those of halfling's own runtime in NumPy."""

import numpy as np
import pytest
import torch

from halfling.exits import criteria
from halfling.exits.policy import ExitPolicy
from halfling.models.early_exit import Judge, full_policy, uncertainty

RANDOM = np.random.default_rng(0)
HOSTILE = {
    "ties": np.zeros((4, 5)),
    "two that tie": np.array([[3.0, 3.0, -1.0], [0.0, 0.0, 0.0]]),
    "huge": np.array([[1e4, -1e4, 0.0], [1e30, -1e30, 0.0], [-1e30, -1e30, -1e30]]),
    "tiny": np.array([[1e-30, 0.0], [1e-7, 0.0]]),
    "certain": np.array([[88.0, 0.0], [120.0, 0.0]]),
    "nothing is possible": np.array([[-np.inf, 0.0, 1.0], [-np.inf, -np.inf, -np.inf]]),
    "no numbers": np.array([[np.nan, 0.0], [np.inf, 0.0], [np.inf, np.inf]]),
    "two classes": RANDOM.normal(size=(50, 2)),
    "many classes": RANDOM.normal(size=(50, 301), scale=20),
    "half": RANDOM.normal(size=(50, 7), scale=4).astype(np.float16),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("criterion", [*criteria.PER_ANSWER])
@pytest.mark.parametrize("logits", HOSTILE.values(), ids=[*HOSTILE])
def test_a_criterion_of_one_exit_is_the_same_in_torch_and_numpy(criterion, logits):
    ours = criteria.PER_ANSWER[criterion](logits if logits.dtype == np.float16 else logits.astype(np.float32))
    theirs = uncertainty(torch.from_numpy(logits), criterion).numpy()
    np.testing.assert_allclose(theirs, ours, atol=1e-6, rtol=0)
    assert (criteria.leaves(theirs, 1e-9) == criteria.leaves(ours, 1e-9)).all()


@pytest.mark.parametrize(
    ("criterion", "patience", "pooling"),
    [("entropy", None, "mean"), ("entropy", None, "max"), ("margin", None, "mean"), ("patience", 2, "mean")],
)
@pytest.mark.parametrize("kind", ["texts", "sentences of words", "words alone"])
def test_exit_after_exit_both_judge_those_who_stay_alike(criterion, patience, pooling, kind):
    granularity = "token" if kind == "words alone" else "sentence"
    settings = {"criterion": criterion, "patience": patience, "token_pooling": pooling, "granularity": granularity}
    policy = {"layers": [1, 2, 3, 4], "thresholds": [0.5] * 3, **settings}
    doubt = criteria.Doubt(ExitPolicy.model_validate(policy))
    judge = Judge(full_policy(policy, [1, 2, 3, 4]))
    counted = RANDOM.random((6, 5)) < 0.6
    counted[2] = False  # a sentence without a word
    counted[:, 4] = False
    # Few different answers, so that some are confirmed and some are not.
    logits = RANDOM.integers(0, 2, (6, 5, 2)).astype(np.float32)
    for _ in range(4):
        logits = np.where(RANDOM.random((*logits.shape[:2], 1)) < 0.8, logits, 1 - logits)
        if kind == "texts":
            ours = doubt(logits[:, 0])
            theirs = judge(torch.from_numpy(logits[:, 0]), torch.from_numpy(counted)).numpy()
        elif kind == "sentences of words":
            ours = doubt(logits[counted], counted.sum(axis=1))
            theirs = judge(torch.from_numpy(logits), torch.from_numpy(counted)).numpy()
        else:
            ours = doubt(logits[counted])
            theirs = judge(torch.from_numpy(logits), torch.from_numpy(counted)).numpy()[counted]
        np.testing.assert_allclose(theirs, ours, atol=1e-6, rtol=0)
        stay = RANDOM.random(len(logits)) < 0.9
        judge.keep(torch.from_numpy(stay), logits.shape[1])
        of_words = np.broadcast_to(stay[:, None], counted.shape)[counted]
        doubt.stay(np.flatnonzero(of_words if kind == "words alone" else stay))
        logits, counted = logits[stay], counted[stay]
