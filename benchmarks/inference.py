"""Time and memory of our engine beside what users would deploy: one run, interleaved, the same threads and inputs.

    python benchmarks/inference.py [--quick] [--json FILE] [--data FOLDER]

XLM-R Base's shape with random weights reads the first dev sentences of PAN-X and XNLI in six languages (the embedded
sample's where `--data` is not there), one by one and in batches of 32. Where inputs leave is imposed, so that about
0.686 of the arithmetic is left, as in the thesis; exits and their criterion are computed as ever. Every alternative
runs in the setting that a trial found fastest for it: padding, groups of like length, static shapes. Transformers
eager also runs as it comes, a batch padded to its longest, which is what ours is held against. Quoted are medians over
rounds, and of ratios taken within each round, with their quartiles. One batch size and one precision are raced at a
time, transformers eager in each race: all candidates at once held 13 GB.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rivals
import torch
from resident import measure_memory
from transformers import PreTrainedModel
from workload import data_folder, export_model, impose, read_sentences, tokenizers, write_model

from halfling.cost.latency import interleaved, paired_ratio
from halfling.engine import AdaptiveEngine, Encoded
from halfling.engine.exported import BackendName, Precision
from halfling.models.shapes import SHAPES
from halfling.records import EncoderShape
from halfling.tasks import Task
from halfling.tasks.presets import preset

EXITS = (4, 8, 12)
BATCH = 32
_BEGAN = time.monotonic()
LENGTHS: dict[Precision, range] = {"float32": range(8, 97, 8), "int8": range(4, 97)}
"""Our setting for sentences alone, as the alternative with a static graph a shape has its own. Each length in use
holds the layers again, so float32 has fewer: a sentence alone waits for its weights, and padding costs it nothing."""
EAGER, GROUPED = "transformers eager", "transformers eager, groups of like length"
"""What is deployed without a further thought: a batch padded to its longest; and in the setting found fastest."""
NAIVE = "transformers, naive early exit"
LIMITS = {
    "realisation": ("<=", 1.05, 1.10),
    "none_taken": ("<=", 1.03, 1.03),
    "exits_against_eager": (">=", 8.0, 8.0),
    "exits_against_grouped": (">=", 8.0, 8.0),
    "exits_against_fastest": (">=", 1.4, 1.4),
    "off_against_fastest": (">=", 1.0, 1.0),
}
"""Of each ratio: whether it may be at most or must be at least so much, alone and in a batch."""
Candidate = Callable[[Sequence[Encoded], Sequence[int]], list[np.ndarray]]
"""Sequences, and the layer after which each leaves (whoever knows no exits ignores it), to logits."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    shape: EncoderShape
    exits: tuple[int, ...]
    tasks: tuple[str, ...]  # presets
    batches: int  # of 32; each holds all languages alike
    singles: int  # sentences of each language that are read alone
    rounds: int
    slow: bool  # also alternatives that take long to prepare, or that another setting of their own has outrun here
    precisions: tuple[Precision, ...] = ("float32", "int8")  # on a GPU float32 alone
    memory: bool = True
    pieces: int = 250_002  # of the tokenizer that cuts the sentences
    vocabulary: int = 5_002  # of the model that is timed: look-ups cost nothing


QUICK = Plan(SHAPES["xlm-roberta-base"], EXITS, ("wikiann",), 2, 2, 5, slow=False, precisions=("int8",))
FULL = Plan(SHAPES["xlm-roberta-base"], EXITS, ("wikiann", "xnli"), 2, 2, 5, slow=True)


def ours(engine: AdaptiveEngine, *, leave: bool, exits: Sequence[int]) -> Candidate:
    """Return our engine as a candidate; without `leave` every exit is checked and none taken."""
    last = exits[-1]

    def run(sequences: Sequence[Encoded], leave_after: Sequence[int]) -> list[np.ndarray]:
        wanted = list(leave_after) if leave else [last] * len(sequences)
        answers = engine.answer(sequences, leave_after=wanted)
        if [answer.exit_layer for answer in answers] != wanted:
            raise SystemExit(f"imposed {wanted}, left after {[answer.exit_layer for answer in answers]}")
        return [answer.logits for answer in answers]

    return run


def engines(model: Path, plan: Plan, precision: Precision, lengths: Sequence[int]) -> dict[str, Candidate]:
    """Return our candidates of one precision; what is not yet exported is."""
    backend: BackendName = "torch" if torch.cuda.is_available() else "openvino"

    def load(exits: bool, lengths: Sequence[int] = lengths) -> AdaptiveEngine:
        folder = export_model(model, precision, exits=exits, backend=backend)
        return AdaptiveEngine.from_pretrained(folder, backend, rivals.THREADS, lengths)

    mark, early = f"ours {backend} {precision}", load(exits=True)
    found = {
        f"{mark}, exits off": ours(load(exits=False), leave=False, exits=plan.exits),
        f"{mark}, none taken": ours(early, leave=False, exits=plan.exits),
        f"{mark}, exits": ours(early, leave=True, exits=plan.exits),
    }
    if plan.slow and lengths:
        found[f"{mark} without lengths, exits"] = ours(load(exits=True, lengths=()), leave=True, exits=plan.exits)
    return found


def alternatives(
    models: Sequence[PreTrainedModel], plan: Plan, path: Path, precision: Precision, size: int
) -> dict[str, rivals.Rival]:
    """Return every alternative of one precision that runs here, and transformers eager."""
    plain, early = models
    padded = {EAGER: rivals.transformers_eager(plain)}
    if plan.slow and size > 1:
        padded[GROUPED] = padded[EAGER]
    on_cpu = not torch.cuda.is_available()
    onnx, xml, int8 = (path.with_suffix(suffix) for suffix in (".onnx", ".xml", ".int8.xml"))
    if precision == "float32" and plan.slow:
        padded["torch.compile"] = rivals.compiled(plain)
    if precision == "float32" and on_cpu:
        padded["OpenVINO bfloat16 (its default here), dynamic shapes"] = rivals.openvino_dynamic(xml, "")
    if precision == "float32" and on_cpu and plan.slow:
        padded["ONNX Runtime float32"] = rivals.onnx_runtime(onnx)
        padded["OpenVINO float32, dynamic shapes"] = rivals.openvino_dynamic(xml)
    if precision == "int8":
        padded["ONNX Runtime int8"] = rivals.onnx_runtime(onnx.with_suffix(".int8.onnx"))
        padded["OpenVINO int8, a static graph a shape"] = rivals.openvino_static(int8)
    if precision == "int8" and plan.slow:
        padded["OpenVINO int8, dynamic shapes"] = rivals.openvino_dynamic(int8)
        padded["torch dynamic int8"] = rivals.torch_int8(plain)
    if plan.slow and on_cpu and hasattr(plain.classifier, "out_proj"):  # it classifies texts, and tags nothing
        padded[f"CTranslate2 {precision}"] = rivals.ctranslate2_encoder(plain, path, precision)
    found = {name: rivals.Rival(run) for name, run in padded.items()}
    return found | ({NAIVE: rivals.NaiveEarlyExit(early)} if precision == "float32" else {})


def race(candidates: Mapping[str, Candidate], calls: list[tuple[list[Encoded], list[int]]], rounds: int) -> Any:
    """Return each candidate's seconds, round by round, for all calls together."""

    def run(candidate: Candidate) -> None:
        for sequences, leave_after in calls:
            candidate(sequences, leave_after)

    return interleaved(
        {name: partial(run, candidate) for name, candidate in candidates.items()}, rounds=rounds, warmup=1
    )


def measure(task: Task, plan: Plan, folder: Path, made: Sequence[Any]) -> dict[str, Any]:
    """Measure one task at both batch sizes."""
    say(f"preparing {task.name}")
    big, small = made
    path, codes, on_gpu = folder / task.name, len(task.languages), torch.cuda.is_available()
    shape = plan.shape.model_copy(update={"vocab_size": len(small)})
    needed = -(-max(plan.batches * BATCH, plan.singles * codes) // codes)
    sentences = read_sentences(task, big, needed, shape.vocab_size)
    models = write_model(path, task, shape, plan.exits, small)
    if not on_gpu:
        rivals.write_onnx(models[0], path.with_suffix(".onnx"))
        some = [one for few in sentences.values() for one in few[:4]]
        rivals.write_openvino(models[0], path.with_suffix(".xml"), some)
    models = [model.to("cuda" if on_gpu else "cpu") for model in models]
    # What is read alone, and batches, hold all languages alike.
    turns = [one for few in zip(*sentences.values(), strict=True) for one in few]
    alone, batches = turns[: plan.singles * codes], turns[: plan.batches * BATCH]
    found: dict[str, Any] = {}
    for size, flat in ((1, alone), (BATCH, batches)):
        leave, share = impose(shape, task, [len(one.ids) for one in flat], plan.exits)
        calls = [(flat[n : n + size], leave[n : n + size]) for n in range(0, len(flat), size)]
        found[f"batch {size}"] = {
            "sentences": len(flat),
            "tokens": sum(len(one.ids) for one in flat),
            "flops_share": share,
        }
        for precision in ("float32",) if on_gpu else plan.precisions:
            say(f"timing {task.name}, batch {size}, {precision}")
            # Named nowhere here, so that they go when the race is over, before the next are made.
            found[f"batch {size}"][precision] = measure_race(
                engines(path, plan, precision, LENGTHS[precision] if size == 1 and not on_gpu else ()),
                alternatives(models, plan, path, precision, size),
                calls,
                plan,
                share,
            )
    return found


def measure_race(
    own: dict[str, Candidate],
    others: dict[str, rivals.Rival],
    calls: list[tuple[list[Encoded], list[int]]],
    plan: Plan,
    share: float,
) -> dict[str, Any]:
    """Race ours among themselves, then beside the alternatives: each in its best setting, two as they come."""
    groups = [group for group, _ in calls]
    flat = [one for group in groups for one in group]
    for name, rival in others.items():
        if name not in (EAGER, NAIVE):
            rival.best_setting(groups)
    say("settings are chosen")
    differences = agreement({**own, **others}, flat[:BATCH], plan.exits[-1])
    # Sentences alone take little time, and each ratio of a round is less sure.
    close = race(own, calls, (2 if len(groups[0]) > 1 else 8) * plan.rounds)
    say("ours have been raced among themselves")
    wide = race({**own, **others}, calls, plan.rounds)
    return {
        "median_ms": {name: float(np.median(took)) * 1e3 / len(flat) for name, took in wide.items()},
        "settings": {name: str(rival.setting) for name, rival in others.items()},
        "largest_difference": differences,
        **compare(close, wide, share),
    }


def agreement(candidates: dict[str, Candidate], sequences: list[Encoded], last: int) -> dict[str, float]:
    """Return the largest difference of each candidate's logits, exits off, from plain transformers'."""
    full = [last] * len(sequences)
    expected = candidates[EAGER](sequences, full)
    return {
        name: max(float(np.abs(one - two).max()) for one, two in zip(candidate(sequences, full), expected, strict=True))
        for name, candidate in candidates.items()
        if not name.endswith(", exits")
    }


def compare(close: dict[str, list[float]], wide: dict[str, list[float]], share: float) -> dict[str, Any]:
    """Return what `LIMITS` are of, as ratios taken within rounds."""
    (off,) = (name for name in close if name.endswith(", exits off"))
    mark = off.removesuffix(", exits off")
    middle = {name: float(np.median(took)) for name, took in wide.items()}
    exits = min((name for name in middle if name.endswith(", exits")), key=middle.__getitem__)
    fastest = min((name for name in middle if not name.startswith("ours ")), key=middle.__getitem__)
    pairs = {
        "realisation": (close[f"{mark}, exits"], [share * seconds for seconds in close[off]]),
        "none_taken": (close[f"{mark}, none taken"], close[off]),
        "exits_against_eager": (wide[EAGER], wide[exits]),
        "exits_against_grouped": (wide.get(GROUPED), wide[exits]),
        "exits_against_fastest": (wide[fastest], wide[exits]),
        "off_against_fastest": (wide[fastest], wide[off]),
    }
    ratios = {name: paired_ratio(one, other).model_dump() for name, (one, other) in pairs.items() if one}
    return {"ours": {"exits": exits, "exits off": off}, "fastest_other": fastest, "ratios": ratios}


def report_time(task: str, size: str, figures: dict[str, Any]) -> None:
    """Print what was measured, and beside each limit whether it is met."""
    tokens = figures["tokens"] / figures["sentences"]
    print(f"\n{task}, {size}: {figures['sentences']} sentences of {tokens:.1f} tokens, ", end="")
    print(f"flops_share {figures['flops_share']:.3f}; ms a sentence, largest logit difference, setting")
    for raced in (figures[precision] for precision in ("float32", "int8") if precision in figures):
        for name, took in sorted(raced["median_ms"].items(), key=lambda item: item[1]):
            difference = raced["largest_difference"].get(name)
            shown = "" if difference is None else f"{difference:.1e}"
            print(f"  {name:52} {took:8.2f}  {shown:8} {raced['settings'].get(name, '')}")
        print(f"  {raced['ours']['exits']}; the fastest other is {raced['fastest_other']}")
        for name, ratio in raced["ratios"].items():
            sign, *limits = LIMITS[name]
            verdict = judge(ratio["median"], sign, limits[size != "batch 1"])
            print(f"  {name:25} {ratio['median']:6.3f} [{ratio['lower']:.3f}, {ratio['upper']:.3f}]  {verdict}")


def report_memory(peaks: dict[str, int]) -> None:
    """Print the peak of each process."""
    print("\npeak resident size of a fresh process that tags Swahili, the whole vocabulary, MB")
    for name, peak in peaks.items():
        print(f"  {name:52} {peak / 1e6:8.0f}" + (f"  {judge(peak / 1e6, '<=', 350)}" if "ours" in name else ""))


def say(what: str) -> None:
    """Tell a person who waits what is going on, and how long it has been."""
    print(f"{time.monotonic() - _BEGAN:4.0f} s  {what}", file=sys.stderr, flush=True)


def judge(value: float, sign: str, threshold: float) -> str:
    """Return whether a value meets its threshold, in words."""
    met = value <= threshold if sign == "<=" else value >= threshold
    return f"{'pass' if met else 'FAIL'} ({sign} {threshold:g})"


def run(plan: Plan, data: Path) -> dict[str, Any]:
    """Measure everything of a plan, and print it as it comes."""
    torch.set_num_threads(rivals.THREADS)
    found: dict[str, Any] = {
        "machine": {
            "cores": os.cpu_count(),
            "threads": rivals.THREADS,
            "python": platform.python_version(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "exits": plan.exits,
        "time": {},
    }
    with tempfile.TemporaryDirectory(prefix="halfling-benchmark-") as scratch:
        folder = Path(scratch)
        source = data_folder(data, folder / "sample")
        made = tokenizers(source, plan.pieces, plan.vocabulary)
        for name in plan.tasks:
            found["time"][name] = measure(Task(**preset(name, str(source))), plan, folder, made)
            for size, figures in found["time"][name].items():
                report_time(name, size, figures)
        if plan.memory:
            say("measuring memory")
            tagger = Task(**preset("wikiann", str(source)))
            found["memory"] = measure_memory(tagger, plan.shape, folder, made[0], plan.exits, all_of_them=plan.slow)
            report_memory(found["memory"])
    return found


def main() -> None:
    """Measure, print, and write JSON where asked."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="PAN-X in int8, fewer alternatives: about four minutes")
    options.add_argument("--json", type=Path, help="write every figure here")
    options.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with panx/ and xnli/")
    chosen = options.parse_args()
    found = run(QUICK if chosen.quick else FULL, chosen.data)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
