"""The arithmetic of the thresholds' tables, on exits that were made up."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from halfling.calibrate.simulate import Trial
from halfling.exits.policy import ExitPolicy
from halfling.records import EncoderShape
from halfling.tasks.encoded import Encoded
from halfling.tasks.examples import TextExample
from halfling.tasks.task import Task

SHAPE = EncoderShape(num_layers=3, width=8, num_heads=2, ffn_width=8, vocab_size=9, max_tokens=16)
TASK = Task(
    kind="text_classification",
    labels=("right", "wrong"),
    train={"en": "en.csv"},
    dev={"en": "en.csv", "sw": "sw.csv"},
)
LIKE = ExitPolicy(layers=(3,), thresholds=(), criterion="margin")


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


def made_up(seed, number=600, hardest=1.0):
    """Texts whose exits after layers 1 and 2 are surer of easy ones, and wrong of hard ones."""
    random = np.random.default_rng(seed)
    hardness = random.random(number) * hardest
    per_exit = []
    for wrong in (0.6, 0.3, 0.0):
        sure = np.abs(3 * (1 - hardness) + random.normal(0, 0.5, number)) + 0.01
        sure[random.random(number) < wrong * hardness] *= -1
        per_exit.append([np.array([[one, -one]], np.float32) for one in sure])
    texts = [TextExample("any", None, "right")] * number
    encoded = [Encoded(np.zeros(5, int), np.array([0]))] * number
    return Trial.from_logits(TASK, SHAPE, (1, 2, 3), texts, encoded, per_exit, LIKE)


def test_what_is_left_is_read_off_where_the_zero_shot_languages_lose_what_was_asked():
    from thresholds import at_equal_loss, by, fitted

    texts = {code: made_up(seed, hardest=hardest) for seed, (code, hardest) in enumerate((("en", 0.5), ("sw", 1.0)))}
    way = {code: (by("margin"), fitted(texts["en"])) for code in texts}
    found = at_equal_loss(texts, way, 2.0)
    assert found["sw"][1] == pytest.approx(2.0)
    assert found["en"][0] < found["sw"][0] < 1
    less = at_equal_loss(texts, way, 1.0)
    assert found["sw"][0] < less["sw"][0]


def test_languages_that_are_pooled_have_the_same_share_of_the_arithmetic():
    from thresholds import pooled

    short, long = made_up(0, 100), made_up(1, 300)
    long = replace(long, encoder_flops=50 * long.encoder_flops, head_flops=50 * long.head_flops)
    both = pooled([short, long])
    assert len(both.encoded) == both.logits[0].shape[0] == both.plain.above.shape[0] == 400
    assert both.plain_flops == pytest.approx(2)
    assert (both.encoder_flops[-1] + both.head_flops)[:100].sum() == pytest.approx(1)


def test_what_calibration_chooses_on_draws_is_held_against_all_texts():
    from thresholds import Texts, hold

    texts = {"sw": made_up(0, 4000)}
    found = hold(Texts(texts, texts, texts), (0.0, 30.0), draws=3, number=700)
    assert [(each.kind, each.limit) for each in found[:2]] == [("sentences", 0.0), ("sentences", 30.0)]
    nobody, many = found[:2]
    assert (nobody.share, nobody.above, nobody.loss) == (1, 0, 0)
    assert many.share < 0.9
    assert 0 < many.loss < 30


def test_how_far_an_exit_is_from_full_depth_is_counted_without_thresholds():
    from thresholds import Texts, distances

    texts = {"sw": made_up(0, 4000)}
    first, second = distances(Texts(texts, texts, texts))
    # Full depth is always right here, so what disagrees is what is lost.
    assert first["sw"][0] == pytest.approx(100 - first["sw"][1])
    assert 65 < first["sw"][0] < 75 < second["sw"][0] < 90  # of 60 and 30 % times a hardness of a half
