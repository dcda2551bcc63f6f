"""The native engine against the same quantised arithmetic in numpy, and against itself."""

import copy
import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from scipy.special import erf

from halfling.engine import AdaptiveEngine, Encoded
from halfling.engine.backends.native import VARIANT, WEIGHTS, NativeLoop, variants
from halfling.engine.exported import read_exported
from halfling.errors import HalflingError
from halfling.exits import criteria
from halfling.exits.policy import ExitPolicy
from halfling.export.native import write_native

KINDS = ["sequence", "token"]
BOTH = [*KINDS, "sequence-wide", "token-wide"]
"""Models of 8 bits, and those whose last two layers read activations of 16."""
LAYERS, WIDE, HEADER = (1, 2, 3), (2, 3), 1368


def write_with(patch, **options):
    """Make exports write the native file with other options than they would."""
    patch.setattr("halfling.export.write.write_native", lambda *given, **named: write_native(*given, **named | options))


@pytest.fixture(scope="session")
def folders(write_export):
    def written(kind):
        return write_export(kind, 0.75, backends=("native",), precision="int8")

    found = {kind: written(kind) for kind in KINDS}
    with pytest.MonkeyPatch.context() as patch:
        for name, layers, group in (("wide", WIDE, 16), ("mixed", (1, 3), None), ("last", (3,), None)):
            write_with(patch, wide_layers=layers, group=group)
            found |= {f"{kind}-{name}": written(kind) for kind in KINDS}
    return found


@pytest.fixture
def loop(folders):
    """A function that loads a loop with another policy, number of threads or variant."""

    def load(kind, threads=1, variant=None, **policy):
        exported = read_exported(folders[kind])
        if policy:
            exported = exported.model_copy(update={"policy": ExitPolicy.uniform(LAYERS, **policy)})
        return NativeLoop(folders[kind], exported, threads, variant)

    return load


@pytest.fixture(scope="session")
def sequences(tokenizer):
    """A function that makes sequences of random ids, of 3 to 32 tokens."""

    def make(kind, num=24, seed=0):
        kind = kind.split("-")[0]
        random = np.random.default_rng(seed)
        found = []
        for number in range(num):
            ids = random.integers(0, len(tokenizer), random.integers(3, 33) if number else 32)
            picked = np.flatnonzero(random.random(len(ids)) < 0.6) if kind == "token" else np.zeros(1, np.int64)
            found.append(Encoded(ids, picked if len(picked) else np.ones(1, np.int64)))
        return found

    return make


class File:
    """The weights file, read in order."""

    def __init__(self, path):
        self.content, self.next = path.read_bytes(), 0
        numbers = struct.unpack_from("<15i", self.content, 24)
        self.sections, self.by_token, self.layers, self.width, self.heads, self.depth, self.inner = numbers[:7]
        self.group, self.inner_group, self.word_group, self.vocabulary, self.positions = numbers[7:12]
        self.classes, self.exits, self.pooled = numbers[12:]
        self.epsilon = struct.unpack_from("<f", self.content, 84)[0]
        self.exit_layers = struct.unpack_from(f"<{self.exits}i", self.content, 88)
        self.wide = [bool(byte) for byte in self.content[1112 : 1112 + self.layers]]

    def section(self):
        place, size = struct.unpack_from("<QQ", self.content, HEADER + 16 * self.next)
        self.next += 1
        return self.content[place : place + size]

    def floats(self, *shape):
        return np.frombuffer(self.section(), np.float32).reshape(shape)

    def linear(self, inputs, outputs, group, wide, floor=None):
        outputs, content = -(-outputs // 64) * 64, self.section()
        values = np.frombuffer(content, np.int8, inputs * outputs).reshape(-1, inputs // 4, 64, 4)
        values = values.transpose(0, 2, 1, 3).reshape(outputs, inputs)
        scales, bias = np.frombuffer(content, np.float32, 2 * outputs, inputs * outputs).reshape(2, outputs)
        sums = np.frombuffer(content, np.int32, -1, (inputs + 8) * outputs).reshape(-1, outputs)
        np.testing.assert_array_equal(sums, -128 * values.reshape(outputs, -1, group).sum(axis=2, dtype=int).T)
        return Layer8(values.astype(float), scales, bias, group, wide, floor)


class Layer8(NamedTuple):
    """A linear layer in 8 bits, whose inputs are counted from `floor`, or from -largest to largest."""

    values: np.ndarray
    scales: np.ndarray
    bias: np.ndarray
    group: int
    wide: bool
    floor: float | None

    def __call__(self, rows):
        groups = rows.reshape(len(rows), -1, self.group)
        if self.floor is not None and not self.wide:
            groups = groups - self.floor
        levels = 32639 if self.wide else 127 if self.floor is None else 255
        steps = np.abs(groups).max(axis=-1, keepdims=True) / levels
        whole = np.rint(groups / np.where(steps > 0, steps, 1))
        weights = self.values.reshape(len(self.values), -1, self.group)
        return np.einsum("rgi,ogi,rg->ro", whole, weights, steps[..., 0]) * self.scales + self.bias


class Reference:
    """The quantised arithmetic of a file, in double precision where it is not of whole numbers."""

    def __init__(self, folder):
        self.file = file = File(folder / WEIGHTS)
        width, context = file.width, file.heads * file.depth
        self.words = np.frombuffer(file.section(), np.int8).reshape(file.vocabulary, -1, file.word_group)
        self.word_scales, self.places = file.floats(file.vocabulary, -1, 1), file.floats(-1, width)
        self.norm, self.layers, self.heads = file.floats(4, width), [], {}
        for wide in file.wide:
            self.layers.append(
                (
                    file.linear(width, 3 * (-(-context // 64) * 64), file.group, wide),
                    file.linear(context, width, context, wide),
                    file.floats(4, width),
                    file.linear(width, file.inner, file.group, wide),
                    file.linear(file.inner, width, file.inner_group, wide, -0.17),
                    file.floats(4, width),
                )
            )
        for layer in file.exit_layers:
            wide = file.wide[min(layer, file.layers - 1)]
            dense = file.linear(width, width, file.group, wide) if file.pooled else None
            self.heads[layer] = dense, file.floats(file.classes, width), file.floats(file.classes)
        assert file.next == file.sections

    def layer_norm(self, rows, norm):
        mean, variance = rows.mean(axis=1, keepdims=True), rows.var(axis=1, keepdims=True)
        return (rows - mean) / np.sqrt(variance + self.file.epsilon) * norm[0] + norm[1]

    def embed(self, ids):
        words = (self.words[ids] * self.word_scales[ids].astype(float)).reshape(len(ids), -1)
        return self.layer_norm(words + self.places[: len(ids)], self.norm)

    def even_after(self, layer):
        """Return factors and shifts of the states after a layer (0: embeddings)."""
        return (self.layers[layer - 1][-1] if layer else self.norm)[2:]

    def layer(self, number, states, asked):
        """Return the states after a layer that changes those of the tokens `asked` only."""
        projections, attended, attention_norm, up, down, output_norm = self.layers[number]
        factors, shifts = self.even_after(number)
        query, key, value = (
            part[:, : self.file.heads * self.file.depth].reshape(len(states), self.file.heads, -1).transpose(1, 0, 2)
            for part in np.split(projections(states * factors + shifts), 3, axis=1)
        )
        scores = query[:, asked] @ key.transpose(0, 2, 1)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        context = (shares / shares.sum(axis=-1, keepdims=True) @ value).transpose(1, 0, 2).reshape(len(asked), -1)
        middle = self.layer_norm(attended(context)[:, : self.file.width] + states[asked], attention_norm)
        inner = up(middle * attention_norm[2] + attention_norm[3])
        inner = inner * 0.5 * (1 + erf(inner / np.sqrt(2)))
        states = states.copy()
        states[asked] = self.layer_norm(down(inner)[:, : self.file.width] + middle, output_norm)
        return states

    def logits(self, layer, states):
        dense, weights, bias = self.heads[layer]
        if dense is not None:
            factors, shifts = self.even_after(layer)
            states = np.tanh(dense(states * factors + shifts)[:, : self.file.width])
        return states @ weights.T.astype(float) + bias

    def exit_logits(self, one):
        """Return the logits of the places picked after each layer."""
        states, found = self.embed(one.ids), {}
        for layer in LAYERS:
            states = self.layer(layer - 1, states, np.arange(len(states)))
            found[layer] = self.logits(layer, states[one.picked])
        return found

    def tokens_alone(self, one, threshold):
        """Return the logits of the places picked and the layer after which each token left, each by its entropy."""
        states = self.embed(one.ids)
        there, wanted = np.ones(len(states), bool), np.zeros(len(states), bool)
        wanted[one.picked] = True
        layers, logits = np.zeros(len(states), int), np.zeros((len(states), self.file.classes))
        for layer in LAYERS:
            asked = np.flatnonzero(there)
            states = self.layer(layer - 1, states, asked)
            now = self.logits(layer, states[asked])
            logits[asked], layers[asked] = now, layer
            there[asked[criteria.normalised_entropy(now) < threshold]] = False
            if not (there & wanted).any():
                break
        return logits[one.picked], layers


@pytest.fixture(scope="session")
def references(folders):
    return {kind: Reference(folder) for kind, folder in folders.items()}


def same(one, two):
    return np.array_equal(one.logits, two.logits) and (one.exit_layer, one.uncertainty, one.token_layers) == (
        two.exit_layer,
        two.uncertainty,
        two.token_layers,
    )


def answers_of(model, sequences, out, backend):
    """Return the logits of a model exported for a backend."""
    from halfling.export.write import ExportSettings, export

    out.mkdir()
    precision = "int8" if backend == "native" else "float32"
    export(settings=ExportSettings(backends=(backend,), precision=precision, max_int8_drop=None), model=model, out=out)
    return np.concatenate([answer.logits for answer in AdaptiveEngine.from_pretrained(out).answer(sequences)])


@pytest.mark.parametrize("variant", variants())
@pytest.mark.parametrize("kind", BOTH)
def test_every_exit_says_what_numpy_says_of_the_same_whole_numbers(kind, variant, loop, references, sequences):
    some = sequences(kind, 12)
    expected = [references[kind].exit_logits(one) for one in some]
    loaded = loop(kind, variant=variant)
    assert loaded.variant == variant
    apart = []
    for layer in LAYERS:
        answers = loaded.answer(some, [layer] * len(some))
        apart += [np.abs(a.logits - e[layer]).max() for a, e in zip(answers, expected, strict=True)]
    # Where single and double precision fall on two sides of a half, one activation differs by a whole step,
    # and with it, through attention, all of its sequence: seldom. With 16 bits steps are small, and that is frequent.
    assert np.quantile(apart, 0.75) < (4e-4 if kind.endswith("wide") else 1e-5)
    assert max(apart) < 0.1


@pytest.mark.parametrize("variant", variants())
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_of_eight_bits_may_follow_one_of_sixteen(kind, variant, loop, references, sequences):
    some, loaded = sequences(kind, 12), loop(f"{kind}-mixed", variant=variant)
    for layer in LAYERS:
        answers = np.concatenate([answer.logits for answer in loaded.answer(some, [layer] * len(some))])
        expected = np.concatenate([references[f"{kind}-mixed"].exit_logits(one)[layer] for one in some])
        # Steps of 16 bits that differ make others of 8 differ.
        assert np.abs(answers - expected).mean() < 0.02 * expected.std()


def test_more_layers_of_sixteen_bits_are_closer_to_the_trained_model(trained, tokenizer, tmp_path, monkeypatch):
    random = np.random.default_rng(1)
    some = [Encoded(random.integers(0, len(tokenizer), 20), np.arange(20)) for _ in range(20)]
    exact = answers_of(trained["token"], some, tmp_path / "exact", "torch")
    apart = []
    for layers in ((), (1,), (1, 2, 3)):
        write_with(monkeypatch, wide_layers=layers)
        found = answers_of(trained["token"], some, tmp_path / f"wide-{len(layers)}", "native")
        apart.append(np.abs(found - exact).mean())
    assert apart[2] < 0.8 * apart[0]
    assert apart[2] < apart[1] < apart[0]


@pytest.mark.parametrize("layers", [(0,), (4,), (-1, 2)])
def test_wide_layers_that_are_none_are_refused(layers, trained, tmp_path, monkeypatch):
    write_with(monkeypatch, wide_layers=layers)
    with pytest.raises(ValueError, match="layers 1 to 3"):
        answers_of(trained["token"], [], tmp_path / "wide", "native")


def test_a_folder_of_another_version_is_refused_with_what_to_do(folders, tmp_path):
    shutil.copytree(folders["token"], tmp_path / "model")
    with (tmp_path / "model" / WEIGHTS).open("r+b") as file:
        file.seek(8)
        file.write(b"\1")
    with pytest.raises(HalflingError, match="written by another version: export the model again"):
        NativeLoop(tmp_path / "model", read_exported(folders["token"]), 1)


def test_variants_that_fuse_products_agree_bit_for_bit(loop, sequences):
    fused = [name for name in variants() if name != "plain"]
    answers = [loop("token", variant=name).answer(sequences("token")) for name in fused]
    for others in answers[1:]:
        assert all(same(a, b) for a, b in zip(answers[0], others, strict=True))


@pytest.mark.parametrize("variant", variants())
@pytest.mark.parametrize("by_token", [False, True])
@pytest.mark.parametrize("kind", [*BOTH, "token-last"])
def test_neighbours_and_threads_change_no_bit(kind, by_token, variant, loop, sequences):
    if by_token and kind.startswith("sequence"):
        pytest.skip("a classifier's tokens do not leave alone")
    policy = {"threshold": 0.75, "granularity": "token" if by_token else "sentence"}
    some = sequences(kind, 40)
    alone = [loop(kind, 1, variant, **policy).answer([one])[0] for one in some]
    assert len({answer.exit_layer for answer in alone}) > 1
    for threads, order in product((1, 2, 3), (1, -1)):
        loaded = loop(kind, threads, variant, **policy)
        for given, expected in ((some, alone), (some[:2], alone[:2]), (some[:1], alone[:1])):
            found = loaded.answer(given[::order])[::order]
            assert all(same(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("criterion", "pooling"),
    [("entropy", "mean"), ("entropy", "max"), ("max_probability", "mean"), ("margin", "mean"), ("patience", "mean")],
)
@pytest.mark.parametrize("kind", KINDS)
def test_sequences_leave_where_the_policy_says(kind, criterion, pooling, loop, sequences):
    policy = {"criterion": criterion, "token_pooling": pooling, "patience": 1 if criterion == "patience" else None}
    some = sequences(kind, 30)
    at = {layer: loop(kind, threshold=0.5, **policy).answer(some, [layer] * len(some)) for layer in LAYERS}
    # Half of them are sure enough at the first exit; patience may let nobody leave there.
    threshold = 0.5 if criterion == "patience" else float(np.median([one.uncertainty for one in at[1]]))
    loaded = loop(kind, threshold=threshold, **policy)
    taken = set()
    for number, found in enumerate(loaded.answer(some)):
        doubt = criteria.Doubt(loaded.policy)
        for layer in LAYERS:
            logits = at[layer][number].logits
            unsure = doubt(logits, np.array([len(logits)]) if kind == "token" else None)[0]
            assert at[layer][number].uncertainty == pytest.approx(unsure, abs=1e-6)
            if unsure < threshold or layer == LAYERS[-1]:
                break
        assert found.exit_layer == layer
        np.testing.assert_array_equal(found.logits, logits)
        taken.add(layer)
    assert len(taken) > 1


@pytest.mark.parametrize(("kind", "apart"), [("token", 1e-5), ("token-wide", 4e-4)])
def test_tokens_leave_alone_as_numpy_lets_them(kind, apart, loop, references, sequences):
    some = sequences("token", 30)
    answers = loop(kind, threshold=0.7, granularity="token").answer(some)
    agree = 0
    for one, answer in zip(some, answers, strict=True):
        logits, layers = references[kind].tokens_alone(one, 0.7)
        agree += answer.token_layers == tuple(layers) and np.abs(answer.logits - logits).max() < apart
        assert answer.exit_layer == max(answer.token_layers)
    assert len({answer.exit_layer for answer in answers}) > 1
    assert agree >= 27  # seldom, rounding falls the other way


def test_imposed_exits_are_taken_and_nobody_leaves_at_threshold_zero(loop, sequences):
    some = sequences("token")
    imposed = [1 + number % 3 for number in range(len(some))]
    assert [answer.exit_layer for answer in loop("token").answer(some, imposed)] == imposed
    assert {answer.exit_layer for answer in loop("token", threshold=0.0).answer(some)} == {3}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", BOTH)
def test_places_that_nobody_asks_wait_at_exits_and_that_changes_no_bit(kind, threads, loop, sequences):
    asked = [Encoded(one.ids, np.zeros(1, np.int64)) for one in sequences(kind, num=40)]
    all_asked = [Encoded(one.ids, np.arange(len(one.ids))) for one in asked]  # at an exit nothing can wait then
    leave_after = [LAYERS[number % 3] for number in range(len(asked))]
    network = loop(kind, threads)
    first = np.array([answer.logits[0] for answer in network.answer(asked, leave_after)])
    whole = np.array([answer.logits[0] for answer in network.answer(all_asked, leave_after)])
    np.testing.assert_array_equal(first, whole)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", BOTH)
def test_who_left_before_changes_no_bit(kind, threads, loop, sequences):
    some = [Encoded(one.ids, one.picked[:1]) for one in sequences(kind, 40)]
    network = loop(kind, threads, threshold=0.75)
    first = network.answer(some)  # while everybody may leave, an exit's layer is computed in two passes
    assert len({answer.exit_layer for answer in first}) > 1
    for _ in range(40):
        network.answer(some, [LAYERS[-1]] * len(some))
    assert all(same(a, b) for a, b in zip(network.answer(some), first, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_answers_texts_with_it(kind, folders, texts):
    engine = AdaptiveEngine.from_pretrained(folders[kind])
    assert isinstance(engine.loop, NativeLoop)
    together = engine.predict(texts[kind])
    assert together == [engine.predict([text])[0] for text in texts[kind]]
    assert all(one.label if kind == "sequence" else one.tags for one in together)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_as_close_to_the_trained_model_as_eight_bits_are(kind, write_export, folders, texts, tokenizer):
    exact = AdaptiveEngine.from_pretrained(write_export(kind, 0.75, backends=("torch",)))
    native = AdaptiveEngine.from_pretrained(folders[kind])
    random = np.random.default_rng(1)
    some = [
        Encoded(random.integers(0, len(tokenizer), 20), np.arange(1 if kind == "sequence" else 20)) for _ in range(40)
    ]
    pairs = zip(exact.answer(some, [3] * 40), native.answer(some, [3] * 40), strict=True)
    apart, reach = np.array([[np.abs(a.logits - b.logits).mean(), a.logits.std()] for a, b in pairs]).mean(axis=0)
    assert 0 < apart < 0.1 * reach


def test_channels_that_are_large_and_matter_little_take_no_bits_of_others(trained, tokenizer, tmp_path, monkeypatch):
    """A norm's output times 30 in three channels, undone in the weights that read it."""
    from safetensors.numpy import load_file, save_file

    model = tmp_path / "model"
    shutil.copytree(trained["token-plain"], model)
    weights, channels = load_file(model / "model.safetensors"), [3, 17, 30]
    for number in range(3):
        here = f"roberta.encoder.layer.{number}"
        for part in ("weight", "bias"):
            weights[f"{here}.attention.output.LayerNorm.{part}"][channels] *= 30
        weights[f"{here}.intermediate.dense.weight"][:, channels] /= 30
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    random = np.random.default_rng(1)
    some = [Encoded(random.integers(0, len(tokenizer), 20), np.arange(20)) for _ in range(20)]

    exact = answers_of(model, some, tmp_path / "exact", "torch")
    evened = np.abs(answers_of(model, some, tmp_path / "evened", "native") - exact).mean()
    monkeypatch.setattr("halfling.export.native.evening", lambda reach, _: np.ones_like(reach))
    assert evened < 0.5 * np.abs(answers_of(model, some, tmp_path / "uneven", "native") - exact).mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: Encoded(one.ids + 10**6, one.picked), "vocabulary"),
        (lambda one: Encoded(one.ids + 2**33, one.picked), "vocabulary"),
        (lambda one: Encoded(-1 - one.ids, one.picked), "vocabulary"),
        (lambda one: Encoded(np.zeros(33, int), one.picked), "longer"),
        (lambda one: Encoded(one.ids[:0], one.picked[:0]), "without tokens"),
        (lambda one: Encoded(one.ids, one.picked + 40), "outside"),
        (lambda one: Encoded(one.ids, one.picked - 40), "outside"),
    ],
)
def test_what_is_no_sequence_of_the_model_is_refused(change, message, loop, sequences):
    one, loaded = sequences("token", 1)[0], loop("token")
    with pytest.raises(ValueError, match=message):
        loaded.answer([one, change(one)])
    assert len(loaded.answer([one])) == 1


def test_no_sequences_no_answers_and_no_places_no_logits(loop):
    loaded = loop("token")
    assert loaded.answer([]) == []
    (answer,) = loaded.answer([Encoded(np.array([0, 5, 2]), np.zeros(0, np.int64))])
    assert (answer.logits.shape, answer.exit_layer, answer.uncertainty) == ((0, 7), 3, 1.0)


def test_python_threads_may_share_one(loop, sequences):
    some, loaded = sequences("token"), loop("token", 2)
    alone = [loaded.answer([one])[0] for one in some]
    with ThreadPoolExecutor(16) as pool:
        for found in pool.map(lambda _: loaded.answer(some), range(64)):
            assert all(same(a, b) for a, b in zip(found, alone, strict=True))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_may_go_on_with_it(loop, sequences):
    some, loaded = sequences("token"), loop("token", 2)
    expected = loaded.answer(some)  # the threads are there
    child = os.fork()
    if not child:
        found = loaded.answer(some)
        os._exit(0 if all(same(a, b) for a, b in zip(found, expected, strict=True)) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert all(same(a, b) for a, b in zip(loaded.answer(some), expected, strict=True))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_process_forked_while_others_compute_answers(folders, sequences):
    some, engine = sequences("token"), AdaptiveEngine.from_pretrained(folders["token"], threads=2)
    expected, done = engine.answer(some), threading.Event()
    busy = threading.Thread(target=lambda: [engine.answer(some) for _ in iter(done.is_set, True)])
    busy.start()
    try:
        for _ in range(20):
            child = os.fork()
            if not child:
                signal.alarm(60)
                found = engine.answer(some)
                os._exit(0 if all(same(a, b) for a, b in zip(found, expected, strict=True)) else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        busy.join()


@pytest.mark.parametrize("copied", [copy.copy, pickle.dumps])
def test_what_holds_a_file_is_not_copied(copied, loop, folders):
    for one in (loop("token"), AdaptiveEngine.from_pretrained(folders["token"]).pieces):
        with pytest.raises(TypeError, match="maps a file, and cannot be copied or pickled"):
            copied(one)


@pytest.mark.parametrize("layers", [(2, 4), (1, 2)])
@pytest.mark.parametrize("where", ["policy", "policies"])
def test_a_policy_that_is_not_of_these_weights_is_refused_when_they_are_loaded(layers, where, folders):
    exported = read_exported(folders["token"])
    other = ExitPolicy(layers=layers, thresholds=(0.5,))
    changed = exported.model_copy(update={where: other if where == "policy" else {"sw": other}})
    with pytest.raises(HalflingError, match=r"the policy.*: calibrate and export the model again$"):
        NativeLoop(folders["token"], changed, 1)


def test_another_variant_is_chosen_by_the_environment_and_unknown_ones_are_refused(folders, monkeypatch):
    monkeypatch.setenv(VARIANT, "plain")
    assert AdaptiveEngine.from_pretrained(folders["token"]).loop.variant == "plain"
    monkeypatch.setenv(VARIANT, "abacus")
    with pytest.raises(HalflingError, match=r"'abacus': this processor does not run it: choose from .*plain"):
        AdaptiveEngine.from_pretrained(folders["token"])


def test_weights_of_another_model_are_refused(folders, tmp_path):
    shutil.copytree(folders["token"], tmp_path / "model")
    shutil.copyfile(folders["sequence"] / WEIGHTS, tmp_path / "model" / WEIGHTS)
    with pytest.raises(HalflingError, match="not the model that the folder speaks of"):
        NativeLoop(tmp_path / "model", read_exported(folders["token"]), 1)


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("criterion", ["entropy", "max_probability", "margin"])
def test_what_is_no_number_is_never_sure(criterion, pooling, folders, tmp_path):
    content = bytearray((folders["token"] / WEIGHTS).read_bytes())
    sections = struct.unpack_from("<i", content, 24)[0]
    for bias in (sections - 1, sections - 3, sections - 5):  # each exit has weights and a bias
        place, size = struct.unpack_from("<QQ", content, HEADER + 16 * bias)
        content[place : place + size] = np.full(size // 4, np.nan, np.float32).tobytes()
    (tmp_path / WEIGHTS).write_bytes(content)
    policy = ExitPolicy.uniform(LAYERS, 1.0, criterion=criterion, token_pooling=pooling)
    exported = read_exported(folders["token"]).model_copy(update={"policy": policy})
    answer = NativeLoop(tmp_path, exported, 1).answer([Encoded(np.arange(9), np.arange(9))])[0]
    assert answer.exit_layer == LAYERS[-1]
    assert np.isnan(answer.uncertainty)


def test_no_memory_says_so(loop, monkeypatch):
    loaded = loop("token")
    whole = loaded._library
    monkeypatch.setattr(
        loaded, "_library", SimpleNamespace(**vars(whole) | {"halfling_answer": lambda *_: b"no memory"})
    )
    with pytest.raises(MemoryError):
        loaded.answer([Encoded(np.arange(9), np.arange(9))])
    monkeypatch.setattr(loaded, "_library", whole)


def test_damaged_weights_are_refused_or_answered_and_never_crash(folders, tmp_path):
    """Bytes of the header are changed one by one, lengths cut, weights made into anything: in another process."""
    script = """
        import sys, numpy as np
        from pathlib import Path
        from halfling.engine.backends.native import WEIGHTS, NativeLoop
        from halfling.engine import Encoded
        from halfling.engine.exported import read_exported
        from halfling.errors import HalflingError

        folder, scratch = Path(sys.argv[1]), Path(sys.argv[2])
        exported, whole = read_exported(folder), (folder / WEIGHTS).read_bytes()
        random, refused = np.random.default_rng(0), 0
        one = Encoded(np.arange(9), np.arange(9))

        def try_out(content, must_refuse):
            (scratch / WEIGHTS).write_bytes(content)
            try:
                loaded = NativeLoop(scratch, exported, 1)
            except HalflingError:
                return 1
            assert not must_refuse
            loaded.answer([one])
            return 0

        for size in [0, 1, 1000, 1368, 2000, len(whole) - 64, *random.integers(0, len(whole), 20)]:
            refused += try_out(whole[:size], True)
        refused += try_out(whole + bytes(64), True)
        for place in [*range(0, 96), *random.integers(0, 1368 + 16 * 28, 100)]:
            changed = bytearray(whole)
            changed[place] ^= 1 << int(random.integers(8))
            refused += try_out(bytes(changed), True)
        for value in (0, 0x7F, 0x80, 0xFF):
            for start in range(4096, len(whole), len(whole) // 8):
                try_out(whole[:start] + bytes([value]) * (len(whole) - start), False)
        print(refused)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), folders["token"], tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 26 + 1 + 196


def test_what_calls_compute_in_is_kept_for_those_that_want_more(loop):
    one, mapped = Encoded(np.full(32, 5, np.int32), np.array([1, 2], np.int32)), []
    load = loop("token", threads=4)
    # Two sequences are shared by all threads; of many each thread has its own.
    for number in (2, 80, 2, 80, 60, 3, 80, 2):
        load.answer([one] * number)
        mapped.append(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))[1])
    assert len({*mapped[2:]}) == 1
