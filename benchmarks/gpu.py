"""Latency on a GPU in bfloat16: sentences alone, in 32 and in 256, exits on and off, beside what `transformers` gives.

    python benchmarks/gpu.py [MODEL] [--policy FOLDER] [--sentences FILE] [--seconds 100] [--json FILE] [--tiny]

MODEL is a trained classifier or tagger with exits; where it exits says `--policy`, a calibration's folder, or the
model itself. Its inputs leave by its own decisions. Without it a model of 6 layers of 384 with random weights takes
its place, and exits are imposed, so that about 0.686 of the arithmetic is left; so they are in XLM-R Base's shape,
which always follows, with random weights. Exits and their criterion are computed as ever.

`--sentences` has a sentence a line; without it those of the embedded sample are read. All candidates read the same
ids, in turns, round by round; quoted are medians with quartiles, ratios are taken within rounds. Every round repeats
the same sentences, so that all graphs have been recorded before the clock starts. `torch.compile` comes last, while
time is left.
Each part that fails prints why, and the others go on.
"""

import argparse
import json
import math
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median, quantiles
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from padding import Rival, Setting
from runtimes import plain, transformers_eager
from workload import impose

from halfling.cost.flops import Head, flops
from halfling.cost.latency import interleaved, paired_ratio
from halfling.engine import AdaptiveEngine, Encoded
from halfling.engine.exported import FORMAT, Exported
from halfling.engine.text import join, load_pieces, windows
from halfling.exits.calibration import Calibration
from halfling.exits.policy import ExitPolicy
from halfling.models import XLMRobertaEarlyExitConfig
from halfling.models.classifier import EARLY_EXIT, load_classifier, read_checkpoint
from halfling.models.pieces import tokenizer_of
from halfling.models.shapes import config_for, shape_of
from halfling.records import EncoderShape
from halfling.sample.language import LANGUAGES, read_language

MINI = EncoderShape(num_layers=6, width=384, num_heads=12, ffn_width=1536, vocab_size=5002, max_tokens=512)
BASE = EncoderShape(num_layers=12, width=768, num_heads=12, ffn_width=3072, vocab_size=5002, max_tokens=512)
LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
SIZES = {1: 48, 32: 128, 256: 512}
"""Sentences of a batch, and of a round."""
OFF, NONE, ON = "halfling, exits off", "halfling, every exit checked, none taken", "halfling, exits"
EAGER, SDPA, GROUPED = (
    "transformers, eager attention",
    "transformers, SDPA",
    "transformers, SDPA, four groups of like length",
)
COMPILED = "transformers, SDPA, torch.compile"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
_BEGAN = time.monotonic()


def say(what: str) -> None:
    """Tell a person who waits what is going on, and how long it has been."""
    print(f"{time.monotonic() - _BEGAN:4.0f} s  {what}", file=sys.stderr, flush=True)


@contextmanager
def part(name: str) -> Iterator[None]:
    """Do a part; one that fails says why, and the next one follows."""
    say(name)
    try:
        yield
    except Exception:
        print(f"\n{name}: failed", flush=True)
        print(traceback.format_exc()[-2000:], flush=True)  # of torch.compile it is long, and the end says what happened


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what takes longer."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"took longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.1))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Candidate:
    """A model with what it reads: ours in two settings, and plain for the others.

    Attributes:
        leave: The layer after which each sentence leaves where that is imposed, else None.
    """

    def __init__(self, name: str, folder: Path, scratch: Path, policy: ExitPolicy, sequences: list[Encoded]) -> None:
        self.name, self.folder, self.policy, self.sequences = name, folder, policy, sequences
        found = read_checkpoint(folder)
        self.kind, self.labels = found.head, found.labels
        early = load_classifier(folder)
        self.shape = shape_of(early.config)
        self.plain = {kind: plain(early, kind).to(DEVICE, torch.bfloat16) for kind in ("eager", "sdpa")}
        (scratch / "torch").symlink_to(folder.resolve(), target_is_directory=True)
        (scratch / "tokenizer.json").symlink_to((folder / "tokenizer.json").resolve())
        nobody = ExitPolicy(layers=policy.layers[-1:], thresholds=())
        self.off, self.on = (
            AdaptiveEngine(
                scratch,
                Exported(
                    format=FORMAT,
                    kind=self.kind,
                    labels=self.labels,
                    shape=self.shape,
                    precision="bfloat16",
                    policy=chosen,
                    tokenizer="tokenizers",
                    backends=("torch",),
                    files={},
                    checksum="",
                ),
                "torch",
                None,
            )
            for chosen in (nobody, policy)
        )
        self.leave: dict[int, list[int]] | None = None

    def few(self, size: int) -> list[Encoded]:
        """Return the sentences of a round."""
        return self.sequences[: SIZES[size]]

    def taken(self, size: int) -> list[int]:
        """Return the layer after which each sentence of a round leaves."""
        if self.leave is not None:
            return self.leave[size]
        found: list[int] = []
        for start in range(0, SIZES[size], size):
            found += [one.exit_layer for one in self.on.answer(self.few(size)[start : start + size])]
        return found

    def ours(self, size: int) -> dict[str, Callable[[], Any]]:
        """Return our candidates for batches of a size."""
        few, last = self.few(size), self.policy.layers[-1]

        def run(engine: AdaptiveEngine, leave: list[int] | None) -> None:
            for n in range(0, len(few), size):
                engine.answer(few[n : n + size], None if leave is None else leave[n : n + size])

        return {
            OFF: partial(run, self.off, None),
            NONE: partial(run, self.on, [last] * len(few)),
            ON: partial(run, self.on, None if self.leave is None else self.leave[size]),
        }

    def others(self, size: int) -> dict[str, Callable[[], Any]]:
        """Return the alternatives for batches of a size."""
        few = self.few(size)

        def run(rival: Rival) -> None:
            for n in range(0, len(few), size):
                rival(few[n : n + size])

        eager, sdpa = (transformers_eager(self.plain[kind]) for kind in ("eager", "sdpa"))
        found = {EAGER: Rival(eager, Setting(size, 8)), SDPA: Rival(sdpa, Setting(size, 8))}
        if size > 1:
            found[GROUPED] = Rival(sdpa, Setting(size // 4, 8))
        return {name: partial(run, rival) for name, rival in found.items()}

    def compiled(self, size: int) -> Callable[[], Any]:
        """Return `torch.compile` of the model for batches of a size."""
        model = torch.compile(self.plain["sdpa"], dynamic=True)
        rival, few = Rival(transformers_eager(_Module(model, self.plain["sdpa"])), Setting(size, 8)), self.few(size)

        def run() -> None:
            for n in range(0, len(few), size):
                rival(few[n : n + size])

        return run


class _Module:
    """A compiled model with the parameters of its original, whose device `transformers_eager` asks for."""

    def __init__(self, compiled: Any, original: torch.nn.Module) -> None:
        self.compiled, self.original = compiled, original

    def parameters(self) -> Any:
        return self.original.parameters()

    def __call__(self, **given: Any) -> Any:
        return self.compiled(**given)


def read_lines(file: Path | None) -> list[str]:
    """Return sentences, languages in turns."""
    if file is not None:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    each = [read_language(code).plain for code in LANGUAGES]
    return [text.replace("{", "").replace("}", "") for some in zip(*each, strict=False) for text in some]


def encoded(folder: Path, lines: Sequence[str], most: int) -> list[Encoded]:
    """Return sentences as the model of a folder reads them."""
    pieces = load_pieces(folder, "tokenizers")
    if read_checkpoint(folder).head == "sequence":
        return [Encoded(np.array(join(ids, None, most)[0]), np.zeros(1, np.int64)) for ids in pieces(lines)]
    found = (windows(pieces(line.split()), most) for line in lines)
    return [parts[0] for parts in found if parts]


def estimated(lines: Sequence[str], shape: EncoderShape) -> list[Encoded]:
    """Return random ids: a piece for every four characters of a word."""
    random = np.random.default_rng(0)
    found = []
    for line in lines:
        lengths = [math.ceil(len(word) / 4) for word in line.split()][:150]
        ends = np.cumsum(lengths)
        ids = np.concatenate([[0], random.integers(4, shape.vocab_size - 1, ends[-1]), [2]])[: shape.max_tokens]
        picked = 1 + ends - np.array(lengths)
        found.append(Encoded(ids, picked[picked < len(ids) - 1]))
    return found


def refilled(sequences: Sequence[Encoded], shape: EncoderShape) -> list[Encoded]:
    """Return sequences as long as these with ids of another vocabulary."""
    return [
        Encoded(np.where(one.ids < 4, one.ids, 4 + one.ids % (shape.vocab_size - 5)), one.picked) for one in sequences
    ]


def write_random(folder: Path, shape: EncoderShape, exits: Sequence[int]) -> ExitPolicy:
    """Write a tagger with random weights and exits, and return a policy that checks them all."""
    torch.manual_seed(0)
    config = config_for(shape)
    named = {"id2label": dict(enumerate(LABELS)), "label2id": {label: n for n, label in enumerate(LABELS)}}
    model = EARLY_EXIT["token"](XLMRobertaEarlyExitConfig(**config.to_dict() | named | {"exit_layers": list(exits)}))
    model.save_pretrained(folder)
    tokenizer_of([("▁a", -1.0), ("▁", -2.0), ("a", -3.0)], 512).save_pretrained(folder)
    return ExitPolicy.uniform(tuple(exits), 0.5)


def stored_policy(model: Path, policy: Path | None) -> ExitPolicy:
    """Return where a trained model exits."""
    if policy is not None:
        return Calibration.read(policy / "exit_policy.json").policy
    if (model / "exit_policy.json").is_file():
        return Calibration.read(model / "exit_policy.json").policy
    stored = getattr(load_classifier(model).config, "exit_policy", None)
    if stored is None:
        raise SystemExit(f"{model}: holds no policy: name a calibration's folder with --policy")
    return ExitPolicy.model_validate(stored)


def share_of(one: Candidate, size: int) -> float:
    """Return the arithmetic that exits leave."""
    lengths = [len(sequence.ids) for sequence in one.few(size)]
    plain = Head(kind=one.kind, num_classes=len(one.labels))
    early = plain.model_copy(update={"layers": one.policy.layers})
    whole = flops(one.shape, lengths, [one.shape.num_layers] * len(lengths), plain).total
    return flops(one.shape, lengths, one.taken(size), early).total / whole


def agreement(one: Candidate) -> str:
    """Return how our answers, exits off, compare with SDPA's in bfloat16, in words."""
    few = one.sequences[:64]
    expected = Rival(transformers_eager(one.plain["sdpa"]), Setting(32, 8))(few)
    found = [*one.off.answer(few[:32]), *(one.off.answer([each])[0] for each in few[32:])]
    gap = max(float(np.abs(a.logits - b).max()) for a, b in zip(found, expected, strict=True))
    same = np.concatenate([a.logits.argmax(-1) == b.argmax(-1) for a, b in zip(found, expected, strict=True)]).mean()
    largest = max(float(np.abs(b).max()) for b in expected)
    return f"beside SDPA logits differ by at most {gap:.3f} (largest logit {largest:.1f}), labels agree in {same:.2%}"


def race(one: Candidate, size: int, calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    """Time candidates in turns, print a table and ratios, and return them."""
    few = one.few(size)
    share = share_of(one, size)
    took = interleaved(calls, rounds=rounds, warmup=3)
    tokens = sum(len(each.ids) for each in few) / len(few)
    recorded = (
        len(one.on.backend.alone.held)
        if size == 1
        else sum(each is not None for each in getattr(one.on.backend.recordings, "held", {}).values())
    )
    print(f"\n{one.name}, batch {size}: {len(few)} sentences of {tokens:.1f} tokens, flops_share {share:.3f}, ", end="")
    print(f"{rounds} rounds, {recorded} shapes recorded\n")
    print("| candidate | ms a sentence | quartiles | exits are faster by |\n|---|---:|---|---:|")
    found: dict[str, Any] = {"flops_share": share, "tokens": tokens, "candidates": {}}
    for name, seconds in sorted(took.items(), key=lambda item: median(item[1])):
        each = [1e3 * second / len(few) for second in seconds]
        low, _, high = quantiles(each, n=4, method="inclusive")
        ratio = paired_ratio(seconds, took[ON])
        print(
            f"| {name} | {median(each):.4f} | {low:.4f} to {high:.4f} | "
            f"{ratio.median:.2f} [{ratio.lower:.2f}, {ratio.upper:.2f}] |"
        )
        found["candidates"][name] = {"ms": each, "ratio_to_exits": ratio.model_dump()}
    time_share = paired_ratio(took[ON], took[OFF])
    checked = paired_ratio(took[NONE], took[OFF])
    realisation = [value / share for value in (time_share.median, time_share.lower, time_share.upper)]
    print(
        f"\ntime_share {time_share.median:.3f}; realisation (time_share / flops_share) {realisation[0]:.3f} "
        f"[{realisation[1]:.3f}, {realisation[2]:.3f}]; every exit checked / exits off "
        f"{checked.median:.3f} [{checked.lower:.3f}, {checked.upper:.3f}]",
        flush=True,
    )
    return found | {"time_share": time_share.model_dump(), "realisation": realisation, "checked": checked.model_dump()}


def on_the_device(one: Candidate, tokens: int = 32) -> None:
    """Print how long the graphs of a row take on the device alone, which no host can beat."""
    for name, engine in ((OFF, one.off), (ON, one.on)):
        held = engine.backend.alone.held
        length = min([key for key in held if key >= tokens] or held)
        chain = held[length]
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        took = []
        for graph in chain.graphs:
            begin.record()
            for _ in range(100):
                graph.replay()
            end.record()
            end.synchronize()
            took.append(10 * begin.elapsed_time(end))
        print(f"{one.name}, {name}, a row of {length} tokens, microseconds a segment on the device: ", end="")
        print(", ".join(f"{value:.0f}" for value in took), flush=True)


def measure(one: Candidate, rounds: int) -> dict[str, Any]:
    """Race a model's candidates at every size."""
    found: dict[str, Any] = {}
    with part(f"{one.name}: agreement"):
        print(f"\n{one.name}: {agreement(one)}", flush=True)
    for size in SIZES:
        with part(f"{one.name}: batch {size}"):
            found[f"batch {size}"] = race(one, size, one.ours(size) | one.others(size), rounds)
    if DEVICE.type == "cuda":
        with part(f"{one.name}: on the device"):
            on_the_device(one)
    return found


def run(arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Measure everything, and print it as it comes."""
    card = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"
    print(f"{card}, torch {torch.__version__}, bfloat16; every round repeats the same sentences; embeddings included")
    if DEVICE.type == "cuda":
        # Its plans take time for each new shape; the others know masks too.
        torch.backends.cuda.enable_cudnn_sdp(False)
    lines = list(islice(cycle(read_lines(arguments.sentences)), max(SIZES.values()) + 64))
    shrink = {"num_layers": 6, "width": 48, "ffn_width": 96} if arguments.tiny else {}
    mini, base = (shape.model_copy(update=shrink) for shape in (MINI, BASE))
    found: dict[str, Any] = {"card": card, "torch": torch.__version__}
    candidates: list[Candidate] = []
    sequences: list[Encoded] = []

    def place(name: str) -> Path:
        (scratch / name / "engine").mkdir(parents=True)
        return scratch / name

    def imposed(name: str, shape: EncoderShape, exits: tuple[int, ...]) -> Candidate:
        folder = place(name.replace(" ", "-"))
        policy = write_random(folder / "model", shape, exits)
        own = refilled(sequences, shape) if sequences else estimated(lines, shape)
        one = Candidate(f"{name}, random weights, imposed exits", folder / "model", folder / "engine", policy, own)
        task: Any = SimpleNamespace(head="token", labels=LABELS)
        one.leave = {size: impose(shape, task, [len(each.ids) for each in one.few(size)], exits)[0] for size in SIZES}
        return one

    with part("the first model"):
        if arguments.model is not None:
            policy = stored_policy(arguments.model, arguments.policy)
            sequences = encoded(arguments.model, lines, shape_of(load_classifier(arguments.model).config).max_tokens)
            folder = place("trained")
            candidates.append(Candidate("trained", arguments.model, folder / "engine", policy, sequences))
            print(f"\ntrained: exits after {policy.layers}, thresholds {policy.thresholds}")
    if not candidates:
        with part("6 x 384"):
            candidates.append(imposed("6 x 384", mini, (2, 4, 6)))
    if candidates:
        found[candidates[0].name] = measure(candidates[0], arguments.rounds)
    with part("XLM-R Base"):
        candidates.append(imposed("XLM-R Base", base, (2, 4, 6) if arguments.tiny else (4, 8, 12)))
        found[candidates[-1].name] = measure(candidates[-1], arguments.rounds)
    for one, size in [(one, size) for one in candidates for size in (32, 1, 256)]:
        left = arguments.seconds - (time.monotonic() - _BEGAN)
        if left < 15:
            say("no time for more of torch.compile")
            break
        with part(f"{one.name}: torch.compile, batch {size}, {left:.0f} s are left"):
            began = time.monotonic()
            with limit(min(left - 8, 40)):
                compiled = one.compiled(size)
                compiled()
                compiled()
            print(f"\ntorch.compile(dynamic=True) was ready after {time.monotonic() - began:.0f} s")
            calls = {**one.ours(size), COMPILED: compiled}
            found[one.name][f"batch {size}, compiled"] = race(one, size, calls, arguments.rounds)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--policy", type=Path, help="a calibration's folder")
    parser.add_argument("--sentences", type=Path, help="a sentence a line")
    parser.add_argument("--seconds", type=float, default=100, help="of all; torch.compile gets what is left")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--tiny", action="store_true", help="a tiny shape, to try the script")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run(given, Path(folder))
    if given.json:
        given.json.write_text(json.dumps(result, indent=1))
