"""Answers at full depth beside those by a policy, whatever the backend and whoever exits."""

import numpy as np
import pytest

from halfling.engine import AdaptiveEngine
from halfling.engine.agreement import at_full_depth, disagreements
from halfling.exits.calibration import Calibration
from halfling.exits.policy import ExitPolicy
from halfling.export.write import ExportSettings, export

CASES = [
    ("token", "native", "token"),
    ("token", "onnx", "token"),
    ("token", "onnx", "sentence"),
    ("sequence", "native", "sentence"),
]


def exported(folder, trained, kind, backend, policy):
    (folder / "policy").mkdir(parents=True)
    Calibration(task="any", policy=policy, curve=()).write(folder / "policy" / "exit_policy.json")
    (out := folder / "model").mkdir()
    export(settings=ExportSettings(backends=(backend,)), model=trained[kind], out=out, policy=folder / "policy")
    return AdaptiveEngine.from_pretrained(out, backend, 1)


@pytest.mark.parametrize(("kind", "backend", "granularity"), CASES)
def test_at_full_depth_answers_are_those_of_nobody_exiting_early(kind, backend, granularity, trained, texts, tmp_path):
    early = ExitPolicy(layers=(1, 2, 3), thresholds=(0.8, 0.8), granularity=granularity)
    engine = exported(tmp_path / "early", trained, kind, backend, early)
    nobody = early.model_copy(update={"layers": (3,), "thresholds": ()})
    plain = exported(tmp_path / "plain", trained, kind, backend, nobody)
    questions = engine.prepare(texts[kind])
    sequences = [part for one in questions for part in one.sequences]
    answers = engine.answer(sequences)
    assert min(layer for one in answers for layer in one.token_layers or (one.exit_layer,)) < 3
    full = [*at_full_depth(engine, sequences, answers)]
    for one, expected in zip(full, plain.answer(sequences), strict=True):
        assert one.exit_layer == expected.exit_layer == 3
        np.testing.assert_allclose(one.logits, expected.logits, atol=0.05 if backend == "native" else 1e-4)
    losses, layers = disagreements(plain, texts[kind], None)
    assert len(losses) == len(layers) > 0
    assert losses.max() == 0
    assert {*layers.tolist()} == {plain.exported.shape.num_layers}
