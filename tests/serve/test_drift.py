"""Drift: what is watched, that nobody waits for it, and what is said of it."""

import logging
import re
import time

import numpy as np
import pytest

from halfling.engine import AdaptiveEngine
from halfling.engine.agreement import disagreement
from halfling.engine.prediction import Prediction
from halfling.exits.bound import lower_bound, upper_bound
from halfling.exits.calibration import Calibration
from halfling.serve import drift
from halfling.serve.drift import Drift
from halfling.serve.meter import Meter

WORDS = ["Anna", "lives", "in", "Rome", "yes", "no", "maybe"]


def texts(number):
    random = np.random.default_rng(0)
    return [" ".join(random.choice(WORDS, random.integers(1, 9))) for _ in range(number)]


def label(name):
    return Prediction(name, {name: 1.0} if name else None, None, None, 1, 0.1, False)


def tags(*names):
    return Prediction(None, None, (), names, 1, 0.1, False)


@pytest.mark.parametrize(
    ("early", "full", "labels", "expected"),
    [
        (label("x"), label("x"), ("x", "y"), 0),
        (label("x"), label("y"), ("x", "y"), 1),
        (label(None), label(None), ("x", "y"), None),
        (tags("B-P", "I-P", "O"), tags("B-P", "I-P", "O"), ("O", "B-P", "I-P"), 0),
        # Two spans for one, of which one is the same: 1 - 2 * 1 / 3.
        (tags("B-P", "O", "B-P"), tags("B-P", "O", "O"), ("O", "B-P", "I-P"), 1 / 3),
        (tags("O", "O"), tags("O", "O"), ("O", "B-P", "I-P"), None),
        (tags("P", "P"), tags("P", "O"), ("O", "P"), 1),
        (tags("noun", "verb", None, "verb"), tags("noun", "noun", None, "verb"), ("noun", "verb"), 1 / 3),
        (tags(), tags(), ("noun", "verb"), None),
    ],
)
def test_a_text_disagrees_as_calibration_counts_it(early, full, labels, expected):
    found = disagreement(early, full, labels)
    assert found is None if expected is None else found == pytest.approx(expected)


def value(text, name, **labels):
    wanted = ",".join(f'{key}="{labels[key]}"' for key in sorted(labels))
    found = re.search(rf"^{name}\{{{wanted}\}} (\S+)$", text, re.MULTILINE)
    return found and float(found[1])


def test_the_service_watches_and_tells_metrics_and_its_log_without_any_text(start, with_sets):
    service = start(*(f"{name}={folder}" for name, folder in with_sets.items()), "--watch-share", "1")
    some = texts(64)
    for n in range(0, 64, 16):
        body = {"inputs": [[text] for text in some[n : n + 16]]}
        assert service.post("/predict", body | {"language": "sw"}).status_code == 200
        assert service.post("/predict", body).status_code == 200
        assert service.post("/predict", body | {"flops_share": 0.5}).status_code == 200
        assert service.post("/predict_tokens", {"inputs": some[n : n + 16], "language": "sw"}).status_code == 200
    engines = {name: AdaptiveEngine.from_pretrained(folder, threads=1) for name, folder in with_sets.items()}
    expected = {}
    for name, language in (("moods", "sw"), ("moods", None), ("tags", "sw")):
        engine = engines[name]
        last, questions = engine.exported.shape.num_layers, engine.prepare(some)
        full = [engine.read([one], engine.answer(one.sequences, [last] * len(one.sequences)))[0] for one in questions]
        losses = [
            disagreement(*pair, engine.exported.labels)
            for pair in zip(engine.predict(some, language), full, strict=True)
        ]
        expected[name, language or "default"] = np.array([loss for loss in losses if loss is not None])
    for _ in range(200):
        metrics = service.get("/metrics").text
        if all(
            value(metrics, "halfling_watched_total", model=name, policy=policy) == len(losses)
            for (name, policy), losses in expected.items()
        ):
            break
        time.sleep(0.05)
    for (name, policy), losses in expected.items():
        own = {"model": name, "policy": policy}
        assert value(metrics, "halfling_watched_total", **own) == len(losses) > 0
        assert value(metrics, "halfling_watched_disagreement_total", **own) == pytest.approx(losses.sum())
        seen = len(losses) if len(losses) <= 64 else len(losses) // 16 * 16
        assert value(metrics, "halfling_disagreement_bound", **own) == pytest.approx(upper_bound(losses[:seen]))
    # What exits by a constraint of its own is no set's: 64 texts in Swahili, 64 by default.
    assert value(metrics, "halfling_watched_total", model="moods", policy="en") == 0
    assert value(metrics, "halfling_disagreement_promised", model="moods", policy="sw") == 0.03
    assert value(metrics, "halfling_disagreement_promised", model="moods", policy="default") is None
    assert value(metrics, "halfling_disagreement_promised", model="moods", policy="en") is None
    assert service.stop() == 0
    told = [line for line in service.lines if line["event"] == "more disagreement with full depth than promised"]
    broken = {key for key, losses in expected.items() if key[1] == "sw" and lower_bound(losses) > 0.03}
    assert broken
    assert {(line["model"], line["policy"]) for line in told if line["policy"] == "sw"} == broken
    assert len({(line["model"], line["policy"]) for line in told}) == len(told)
    assert all(line["at_least"] > line["promised"] and line["level"] == "warning" for line in told)
    assert not [line for line in service.lines if "Anna" in str(line) or "maybe" in str(line)]


def test_unasked_nothing_is_watched(service):
    assert "halfling_watched_total{" not in service.get("/metrics").text


def counted(engine, losses):
    """A watch that has seen losses of Swahili."""
    calibration = Calibration.read(engine[1] / "exit_policy.json")
    meter = Meter()
    watch = Drift("any", engine[0], calibration, 1.0, meter)
    for loss in losses:
        watch._count("sw", loss)
    return meter.registry.get_sample_value("halfling_disagreement_bound", {"model": "any", "policy": "sw"})


@pytest.fixture
def loaded(with_sets):
    return AdaptiveEngine.from_pretrained(with_sets["moods"], threads=1), with_sets["moods"]


def test_a_bound_is_of_the_latest_texts(loaded, monkeypatch):
    assert counted(loaded, []) == 1
    assert counted(loaded, [1.0] * 10 + [0.0] * 54) == pytest.approx(upper_bound(np.array([1.0] * 10 + [0.0] * 54)))
    monkeypatch.setattr(drift, "LATEST", 64)
    assert counted(loaded, [0.0] * 96 + [1.0] * 64 + [0.0] * 64) == pytest.approx(upper_bound(np.zeros(64)))


@pytest.mark.parametrize(("share", "is_told"), [(0.02, False), (0.2, True)])
def test_the_log_speaks_where_more_than_was_promised_is_shown_and_once(share, is_told, loaded, caplog):
    losses = (np.random.default_rng(0).random(2048) < share).astype(float)
    with caplog.at_level(logging.WARNING, "halfling.serve"):
        counted(loaded, losses)
    assert len(caplog.records) == is_told
