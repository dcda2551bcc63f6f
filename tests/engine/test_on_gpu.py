"""The engine on a GPU: graphs are recorded, and answers are those of the CPU."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from halfling.engine import AdaptiveEngine, Encoded
from halfling.engine.backends.torch import TorchBackend
from halfling.engine.exported import read_exported
from halfling.engine.loop import AdaptiveLoop
from halfling.engine.token_loop import TokenLoop

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
GAP = {"float32": 1e-3, "bfloat16": 0.3}
"""Of logits up to some units."""


def some(kind, number, vocabulary, seed=1):
    random = np.random.default_rng(seed)
    picked = np.arange(1, 4) if kind == "token" else np.zeros(1, np.int64)
    return [Encoded(random.integers(4, vocabulary, random.integers(5, 32)), picked) for _ in range(number)]


def on_cpu(folder):
    """Return the loop of an exported model on the CPU."""
    exported = read_exported(folder)
    backend = TorchBackend(folder, exported, None, "cpu")
    loop = TokenLoop if exported.policy.granularity == "token" else AdaptiveLoop
    return loop(exported, backend)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_a_gpu_answers_as_a_cpu_alone_and_together(kind, precision, write_export, tokenizer):
    folder = write_export(kind, 0.75, backends=("torch",), precision=precision)
    engine, reference = AdaptiveEngine.from_pretrained(folder, "torch"), on_cpu(folder)
    assert engine.backend.device.type == "cuda"
    sequences = some(kind, 24, len(tokenizer))
    layers = np.random.default_rng(2).integers(1, 4, len(sequences)).tolist()
    expected = reference.answer(sequences, layers)
    for _ in range(3):  # computed, recorded, replayed
        together = engine.answer(sequences, layers)
        alone = [engine.answer([one], [layer])[0] for one, layer in zip(sequences, layers, strict=True)]
        for wanted, *found in zip(expected, together, alone, strict=True):
            for one in found:
                assert one.exit_layer == wanted.exit_layer
                np.testing.assert_allclose(one.logits, wanted.logits, atol=GAP[precision])
    graphs = [graph for chain in engine.backend.alone.held.values() for graph in chain.graphs]
    assert len(graphs) >= 3
    assert all(graph is not None for graph in graphs)
    recorded = [each for each in engine.backend.recordings.held.values() if each is not None]
    assert recorded
    assert all(each.graph is not None for each in recorded)


@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_a_gpu_decides_as_a_cpu(kind, write_export, tokenizer):
    folder = write_export(kind, 0.75, backends=("torch",))
    engine, reference = AdaptiveEngine.from_pretrained(folder, "torch"), on_cpu(folder)
    sequences = some(kind, 60, len(tokenizer))
    expected = [one.exit_layer for one in reference.answer(sequences)]
    assert len({*expected}) > 1
    for _ in range(3):
        assert [one.exit_layer for one in engine.answer(sequences)] == expected
        assert [engine.answer([one])[0].exit_layer for one in sequences] == expected


def test_tokens_leave_alone_on_a_gpu(write_export, tokenizer):
    folder = write_export("token", 0.7, backends=("torch",), granularity="token")
    engine, reference = AdaptiveEngine.from_pretrained(folder, "torch"), on_cpu(folder)
    sequences = some("token", 12, len(tokenizer))
    expected = reference.answer(sequences)
    for _ in range(3):
        for wanted, found in zip(expected, engine.answer(sequences), strict=True):
            assert found.token_layers == wanted.token_layers
            np.testing.assert_allclose(found.logits, wanted.logits, atol=1e-3)


def test_threads_that_share_a_gpu_get_their_own_answers(write_export, tokenizer):
    engine = AdaptiveEngine.from_pretrained(write_export("token", 0.75, backends=("torch",)), "torch")
    sequences = some("token", 60, len(tokenizer), seed=3)
    expected = [engine.answer([one])[0].logits for one in sequences]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda one: engine.answer([one])[0].logits, sequences))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
