"""A sentence alone in PyTorch: on the CPU segments are computed where a GPU replays them, in the same order."""

import numpy as np
import pytest

from halfling.engine import AdaptiveEngine, Encoded
from halfling.engine.backends.torch_rows import Rows
from halfling.errors import HalflingError
from halfling.export.write import ExportSettings
from halfling.settings import read_settings


def both(folder):
    """Return an engine whose loop answers a sentence alone, and one with a chain for each length."""
    looped, chained = (AdaptiveEngine.from_pretrained(folder, "torch") for _ in range(2))
    looped.backend.alone = None
    chained.backend.alone = Rows(chained.backend.segment, chained.exported, chained.backend.device)
    return looped, chained


def some(kind, number, vocabulary):
    random = np.random.default_rng(1)
    picked = np.arange(1, 4) if kind == "token" else np.zeros(1, np.int64)
    return [Encoded(random.integers(4, vocabulary, random.integers(5, 32)), picked) for _ in range(number)]


@pytest.mark.parametrize("more", [{}, {"criterion": "margin"}, {"criterion": "patience", "patience": 1}])
@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_a_row_alone_answers_as_the_loop_does(kind, more, write_export, tokenizer):
    looped, chained = both(write_export(kind, 0.75, backends=("torch",), **more))
    sequences = some(kind, 24, len(tokenizer))
    pairs = [(looped.answer([one])[0], chained.answer([one])[0]) for one in sequences]
    for layer in (1, 2, 3):
        pairs += [(looped.answer([one], [layer])[0], chained.answer([one], [layer])[0]) for one in sequences[:4]]
    assert len({expected.exit_layer for expected, _ in pairs[:24]}) > 1
    for expected, found in pairs:
        assert found.exit_layer == expected.exit_layer
        np.testing.assert_allclose(found.logits, expected.logits, atol=1e-5)
        assert found.uncertainty == pytest.approx(expected.uncertainty, abs=1e-5)
    assert {*chained.backend.alone.held} == {8, 16, 24, 32}


def test_the_next_segment_is_started_before_an_exit_is_judged(write_export, tokenizer, monkeypatch):
    _, engine = both(write_export("sequence", 0.75, backends=("torch",)))
    (one,) = some("sequence", 1, len(tokenizer))
    engine.answer([one])
    (chain,) = engine.backend.alone.held.values()
    seen = []
    for name in ("start", "wait"):
        kept = getattr(chain, name)
        monkeypatch.setattr(chain, name, lambda n, name=name, kept=kept: (seen.append((name, n)), kept(n))[1])
    assert engine.answer([one], [2])[0].exit_layer == 2
    assert seen == [("start", 0), ("start", 1), ("wait", 0), ("start", 2), ("wait", 1)]


def test_answers_stay_what_they_were_when_others_came(write_export, tokenizer):
    _, engine = both(write_export("token", 0.75, backends=("torch",)))
    sequences = some("token", 6, len(tokenizer))
    first = [engine.answer([one])[0].logits for one in sequences]
    before = [logits.copy() for logits in first]
    for one in reversed(sequences):
        engine.answer([one])
    for one, other in zip(first, before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_id_beyond_the_vocabulary_is_refused_before_the_device_sees_it(write_export, tokenizer):
    for engine in both(write_export("sequence", 0.75, backends=("torch",))):
        with pytest.raises(ValueError, match="the vocabulary is 0 to"):
            engine.answer([Encoded(np.array([0, len(tokenizer), 2]), np.zeros(1, np.int64))])


@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_bfloat16_answers_nearly_as_float32(kind, write_export, tokenizer):
    exact, _ = both(write_export(kind, None, backends=("torch",)))
    looped, chained = both(write_export(kind, None, backends=("torch",), precision="bfloat16"))
    assert str(looped.backend.network.dtype) == "torch.bfloat16"
    sequences = some(kind, 8, len(tokenizer))
    for engine in (looped, chained):
        for expected, found in zip(exact.answer(sequences), engine.answer(sequences), strict=True):
            assert found.logits.dtype == np.float32
            gap = np.abs(found.logits - expected.logits).max()
            assert 0 < gap < 0.1 * np.abs(expected.logits).max() + 0.1


def test_bfloat16_is_for_torch_alone():
    with pytest.raises(HalflingError, match="bfloat16: only torch"):
        read_settings(ExportSettings, ["precision=bfloat16"])


def test_only_a_gpu_has_chains(write_export):
    engine = AdaptiveEngine.from_pretrained(write_export("sequence", 0.75, backends=("torch",)), "torch")
    assert (engine.backend.alone is None) == (engine.backend.device.type == "cpu")
