"""The native engine against the same quantised arithmetic in numpy, and against itself."""

import os
import shutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from scipy.special import erf

from halfling.engine import AdaptiveEngine, Encoded
from halfling.engine.backends.native import VARIANT, WEIGHTS, NativeLoop, variants
from halfling.engine.exported import read_exported
from halfling.errors import HalflingError
from halfling.exits import criteria
from halfling.exits.policy import ExitPolicy
from halfling.export.native import inner_group

KINDS = ["sequence", "token"]
LAYERS = (1, 2, 3)


@pytest.fixture(scope="session")
def folders(write_export):
    return {kind: write_export(kind, 0.75, backends=("native",), precision="int8") for kind in KINDS}


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
        random = np.random.default_rng(seed)
        found = []
        for number in range(num):
            ids = random.integers(0, len(tokenizer), random.integers(3, 33) if number else 32)
            picked = np.flatnonzero(random.random(len(ids)) < 0.6) if kind == "token" else np.zeros(1, np.int64)
            found.append(Encoded(ids, picked if len(picked) else np.ones(1, np.int64)))
        return found

    return make


def quantised(rows, group):
    """Return each group of each row in 127ths of its largest, as whole numbers, and these 127ths."""
    groups = rows.reshape(len(rows), -1, group)
    scales = np.abs(groups).max(axis=-1, keepdims=True) / 127
    return np.rint(groups / np.where(scales > 0, scales, 1)), scales


class Reference:
    """The quantised arithmetic, in double precision where it is not of whole numbers."""

    def __init__(self, folder):
        from halfling.export.int8 import largest_of_channels
        from halfling.export.sentences import sentences
        from halfling.export.trained import load_trained
        from halfling.tasks.of_model import task_of

        trained = load_trained(folder, None)
        self.weights = {name: weight.numpy() for name, weight in trained.network.state_dict().items()}
        self.config = trained.network.config
        self.reach = largest_of_channels(trained, sentences(trained, task_of(folder)).ids)

    def linear(self, rows, weight, bias, group=None):
        scales = np.abs(weight).max(axis=1).astype(np.float32) / np.float32(127)
        whole = np.rint(weight.astype(np.float32) / scales[:, None])
        values, steps = quantised(rows, group or rows.shape[1])
        groups = whole.reshape(len(whole), -1, values.shape[-1])
        return np.einsum("rgi,ogi,rg->ro", values, groups, steps[..., 0]) * scales + bias

    def layer_norm(self, rows, name):
        mean, variance = rows.mean(axis=1, keepdims=True), rows.var(axis=1, keepdims=True)
        rows = (rows - mean) / np.sqrt(variance + self.config.layer_norm_eps)
        return rows * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def factors(self, norm, *readers):
        """Return what each channel of a norm's output is multiplied by, and the weights that read it are divided."""
        need = np.max([np.abs(self.weights[f"{reader}.weight"]).max(axis=0) for reader in readers], axis=0)
        return np.sqrt(need / self.reach[f"{norm}.LayerNorm"]).astype(np.float32)

    def readers(self, layer):
        """Return which linear layers read the states after a layer."""
        if layer == self.config.num_hidden_layers:
            return ["classifier.dense"]
        return [f"roberta.encoder.layer.{layer}.attention.self.{part}" for part in ("query", "key", "value")]

    def embed(self, ids):
        name = "roberta.embeddings"
        table = self.weights[f"{name}.word_embeddings.weight"][ids]
        scales = np.abs(table).max(axis=1, keepdims=True) / np.float32(127)
        words = np.rint(table / np.where(scales > 0, scales, 1)) * scales
        places = self.weights[f"{name}.position_embeddings.weight"][2 : 2 + len(ids)]
        return self.layer_norm(
            words + places + self.weights[f"{name}.token_type_embeddings.weight"][0], f"{name}.LayerNorm"
        )

    def layer(self, number, states, asked):
        """Return the states after a layer that changes those of the tokens `asked` only."""
        here, heads = f"roberta.encoder.layer.{number}", self.config.num_attention_heads
        before = "roberta.embeddings" if number == 0 else f"roberta.encoder.layer.{number - 1}.output"
        depth = self.config.hidden_size // heads
        parts = self.readers(number)
        factors = self.factors(before, *parts)
        joint = np.concatenate([self.weights[f"{part}.weight"] for part in parts]) / factors
        joint[: len(joint) // 3] *= depth**-0.5
        bias = np.concatenate([self.weights[f"{part}.bias"] for part in parts])
        bias[: len(bias) // 3] *= depth**-0.5
        query, key, value = (
            part.reshape(len(states), heads, depth).transpose(1, 0, 2)
            for part in np.split(self.linear(states * factors, joint, bias), 3, axis=1)
        )
        scores = query[:, asked] @ key.transpose(0, 2, 1)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        context = (shares / shares.sum(axis=-1, keepdims=True) @ value).transpose(1, 0, 2).reshape(len(asked), -1)
        dense = f"{here}.attention.output.dense"
        mixed = self.linear(context, self.weights[f"{dense}.weight"], self.weights[f"{dense}.bias"]) + states[asked]
        middle = self.layer_norm(mixed, f"{here}.attention.output.LayerNorm")
        up, down = f"{here}.intermediate.dense", f"{here}.output.dense"
        factors = self.factors(f"{here}.attention.output", up)
        inner = self.linear(middle * factors, self.weights[f"{up}.weight"] / factors, self.weights[f"{up}.bias"])
        inner = inner * 0.5 * (1 + erf(inner / np.sqrt(2)))
        more = -inner.shape[1] % 64
        inner, narrow = (np.pad(each, ((0, 0), (0, more))) for each in (inner, self.weights[f"{down}.weight"]))
        group = inner_group(inner.shape[1])
        after = self.linear(inner, narrow, self.weights[f"{down}.bias"], group) + middle
        states = states.copy()
        states[asked] = self.layer_norm(after, f"{here}.output.LayerNorm")
        return states

    def logits(self, layer, states):
        last = layer == self.config.num_hidden_layers
        name = "classifier" if last else f"exits.{layer}"
        if f"{name}.dense.weight" in self.weights:
            factors = self.factors(f"roberta.encoder.layer.{layer - 1}.output", *self.readers(layer))
            weight, bias = (self.weights[f"{name}.dense.{part}"] for part in ("weight", "bias"))
            states = np.tanh(self.linear(states * factors, weight / factors, bias))
            name = f"{name}.out_proj"
        return states @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

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
        layers, logits = np.zeros(len(states), int), np.zeros((len(states), self.config.num_labels))
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
def references(trained):
    return {kind: Reference(trained[kind]) for kind in KINDS}


def same(one, two):
    return np.array_equal(one.logits, two.logits) and (one.exit_layer, one.uncertainty, one.token_layers) == (
        two.exit_layer,
        two.uncertainty,
        two.token_layers,
    )


@pytest.mark.parametrize("variant", variants())
@pytest.mark.parametrize("kind", KINDS)
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
    # and with it, through attention, all of its sequence: seldom.
    assert np.quantile(apart, 0.75) < 1e-5
    assert max(apart) < 0.1


def test_variants_that_fuse_products_agree_bit_for_bit(loop, sequences):
    fused = [name for name in variants() if name != "plain"]
    answers = [loop("token", variant=name).answer(sequences("token")) for name in fused]
    for others in answers[1:]:
        assert all(same(a, b) for a, b in zip(answers[0], others, strict=True))


@pytest.mark.parametrize("variant", variants())
@pytest.mark.parametrize("by_token", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_and_threads_change_no_bit(kind, by_token, variant, loop, sequences):
    if by_token and kind == "sequence":
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


def test_tokens_leave_alone_as_numpy_lets_them(loop, references, sequences):
    some = sequences("token", 30)
    answers = loop("token", threshold=0.7, granularity="token").answer(some)
    agree = 0
    for one, answer in zip(some, answers, strict=True):
        logits, layers = references["token"].tokens_alone(one, 0.7)
        agree += answer.token_layers == tuple(layers) and np.abs(answer.logits - logits).max() < 1e-5
        assert answer.exit_layer == max(answer.token_layers)
    assert len({answer.exit_layer for answer in answers}) > 1
    assert agree >= 24  # seldom, rounding falls the other way


def test_imposed_exits_are_taken_and_nobody_leaves_at_threshold_zero(loop, sequences):
    some = sequences("token")
    imposed = [1 + number % 3 for number in range(len(some))]
    assert [answer.exit_layer for answer in loop("token").answer(some, imposed)] == imposed
    assert {answer.exit_layer for answer in loop("token", threshold=0.0).answer(some)} == {3}


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

    from halfling.export.write import ExportSettings, export

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

    def answers(backend, precision):
        out = tmp_path / f"{backend}-{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        export(settings=ExportSettings(backends=(backend,), precision=precision), model=model, out=out)
        return np.concatenate([answer.logits for answer in AdaptiveEngine.from_pretrained(out).answer(some)])

    exact = answers("torch", "float32")
    evened = np.abs(answers("native", "int8") - exact).mean()
    monkeypatch.setattr("halfling.export.native.evening", lambda reach, weight: np.ones_like(reach))
    assert evened < 0.5 * np.abs(answers("native", "int8") - exact).mean()


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

        for size in [0, 1, 1000, 1112, 2000, len(whole) - 64, *random.integers(0, len(whole), 20)]:
            refused += try_out(whole[:size], True)
        refused += try_out(whole + bytes(64), True)
        for place in [*range(0, 96), *random.integers(0, 1112 + 16 * 28, 100)]:
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
