"""Recordings: on the CPU they compute anew into tensors that are used again, on a GPU they are CUDA graphs."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from halfling.engine import AdaptiveEngine, Encoded
from halfling.engine.backends import torch_graphs
from halfling.engine.backends.torch_graphs import Recordings

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, on_gpu])]


def affine(state, shift):
    return state * 2 + shift, state.sum(1)


def both(folder):
    """Return an engine whose segments are computed and one whose segments are recorded, whatever the device."""
    computed, recorded = (AdaptiveEngine.from_pretrained(folder, "torch") for _ in range(2))
    computed.backend.recordings, recorded.backend.recordings = None, Recordings(recorded.backend.device)
    return computed, recorded


@pytest.mark.parametrize("device", DEVICES)
def test_a_recording_answers_what_it_is_given_now(device):
    recordings = Recordings(torch.device(device))
    for number in range(5):
        state, shift = torch.full((2, 3), float(number)), torch.arange(3.0)
        found, total = recordings("affine", affine, (state, shift))
        assert found.cpu().equal(2 * state + shift)
        assert total.cpu().equal(state.sum(1))


def test_a_shape_is_recorded_when_it_comes_again_and_dropped_when_others_came_since():
    recordings, calls = Recordings(torch.device("cpu"), most=2), []

    def compute(state):
        calls.append(state)
        return (state + 1,)

    first = [recordings("f", compute, (torch.zeros(2),))[0] for _ in range(4)]
    assert first[0].data_ptr() != first[1].data_ptr()
    assert first[1].data_ptr() == first[3].data_ptr()
    assert calls[-1].data_ptr() == calls[-2].data_ptr()
    recordings("g", compute, (torch.zeros(2),))  # another function on the same shape
    recordings("f", compute, (torch.zeros(3),))
    again = recordings("f", compute, (torch.zeros(2),))[0]
    assert again.data_ptr() != first[3].data_ptr()
    assert first[3].equal(torch.ones(2))


@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_recorded_segments_answer_as_computed_ones(kind, exported, tokenizer):
    _same_answers(*both(exported(kind)), kind, len(tokenizer))


def test_recorded_segments_of_tokens_that_leave_alone_answer_as_computed_ones(write_export, tokenizer):
    folder = write_export("token", 0.7, backends=("torch",), granularity="token")
    _same_answers(*both(folder), "token", len(tokenizer))


def test_what_is_read_after_another_recording_ran_is_spoilt():
    recordings = Recordings(torch.device("cpu"))
    first = [recordings(name, affine, (torch.ones(2, 3), torch.ones(3)))[0] for name in "aabb"]
    assert first[1].isnan().all()
    assert first[3].equal(torch.full((2, 3), 3.0))


def test_where_nothing_can_be_recorded_segments_are_computed_and_it_is_said_once(monkeypatch):
    def capture(*_):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch_graphs._Recording, "capture", capture)
    recordings = Recordings(torch.device("cpu"))
    recordings._aside = object()
    recordings("a", affine, (torch.ones(2, 3), torch.ones(3)))
    with pytest.warns(UserWarning, match="not permitted"):
        recordings("a", affine, (torch.ones(2, 3), torch.ones(3)))
    for _ in range(3):
        assert recordings("a", affine, (torch.ones(2, 3), torch.ones(3)))[0].equal(torch.full((2, 3), 3.0))


def test_threads_that_share_an_engine_get_their_own_answers(exported, tokenizer):
    computed, recorded = both(exported("token"))
    random = np.random.default_rng(0)
    sequences = [Encoded(random.integers(4, len(tokenizer), 9), np.arange(1, 8)) for _ in range(60)]
    expected = [computed.answer([one])[0].logits for one in sequences]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda one: recorded.answer([one])[0].logits, sequences))
    np.testing.assert_allclose(np.stack(found), np.stack(expected), atol=1e-5)


def test_segments_of_many_tokens_are_not_recorded(exported, monkeypatch):
    monkeypatch.setattr("halfling.engine.backends.torch.MOST_TOKENS", 16)
    _, engine = both(exported("token"))
    for rows in (2, 2, 4, 4):
        pairs, owners = np.zeros((rows, 8, 2), np.int32), np.zeros((rows, 8), np.int32)
        engine.backend.run(0, pairs, owners, np.zeros(4, np.int32))
        assert len(engine.backend.recordings.held) == 1


def _same_answers(computed, recorded, kind, vocab_size):
    """Ask both for other sentences of the same few lengths, alone and together, and compare when all are answered."""
    random = np.random.default_rng(0)
    expected, found = [], []
    for size in (1, 1, 1, 1, 6, 6, 6, 6):
        sequences = []
        for number in range(size):
            ids = random.integers(4, vocab_size, 5 + 3 * number)
            sequences.append(Encoded(ids, np.arange(1, 4) if kind == "token" else np.zeros(1, np.int64)))
        expected += computed.answer(sequences)
        found += recorded.answer(sequences)
    assert len({one.exit_layer for one in expected}) > 1
    assert any(each is not None for each in recorded.backend.recordings.held.values())
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other.logits, one.logits, atol=1e-5)
        assert other.exit_layer == one.exit_layer
