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
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rivals
import torch
from resident import measure_memory
from transformers import PreTrainedModel
from workload import LANGUAGES, Sentences, data_folder, impose, read_sentences, scratch_folder, tokenizers, write_model

from halfling.cost.latency import Ratio, interleaved, paired_ratio
from halfling.engine import AdaptiveEngine, Encoded
from halfling.engine.exported import Precision
from halfling.export.write import export
from halfling.models.shapes import SHAPES
from halfling.records import EncoderShape, TaskName

EXITS = (4, 8, 12)
BATCH = 32
_BEGAN = time.monotonic()
LENGTHS: dict[Precision, range] = {"float32": range(8, 97, 8), "int8": range(4, 97)}
"""Our setting for sentences alone, as the alternative with a static graph a shape has its own. Each length in use
holds the layers again, so float32 has fewer: a sentence alone waits for its weights, and padding costs it nothing."""
EAGER, GROUPED = "transformers eager", "transformers eager, groups of like length"
"""What is deployed without a further thought: a batch padded to its longest; and in the setting found fastest."""
Candidate = Callable[[Sequence[Encoded], Sequence[int]], list[np.ndarray]]
"""Sequences, and the layer after which each leaves (whoever knows no exits ignores it), to logits."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    shape: EncoderShape
    exits: tuple[int, ...]
    tasks: tuple[TaskName, ...]
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


def other(rival: rivals.Rival) -> Candidate:
    """Return an alternative as a candidate."""
    return lambda sequences, _: rival(sequences)


def naive(rival: rivals.Rival, last: list[int]) -> Candidate:
    """Return the thesis's loop as a candidate; `last` tells it when the deepest of the batch leaves."""

    def run(sequences: Sequence[Encoded], leave_after: Sequence[int]) -> list[np.ndarray]:
        last[:] = [max(leave_after)]
        return rival(sequences)

    return run


def engines(model: Path, plan: Plan, data: Path, precision: Precision, lengths: Sequence[int]) -> dict[str, Candidate]:
    """Return our candidates of one precision; what is not yet exported is."""
    backend = "torch" if torch.cuda.is_available() else "openvino"
    loaded = {}
    for name, policy in (("off", None), ("exits", model / "policy")):
        folder = model.parent / f"{model.name}-{precision}-{name}"
        if not folder.exists():
            export(model=model, out=folder, backends=(backend,), precision=precision, policy=policy, data=data)
        loaded[name] = AdaptiveEngine.from_pretrained(folder, backend, rivals.THREADS, lengths)
    mark = f"ours {backend} {precision}"
    as_it_comes: dict[str, Candidate] = {}
    if plan.slow and lengths:
        early = model.parent / f"{model.name}-{precision}-exits"
        dynamic = AdaptiveEngine.from_pretrained(early, backend, rivals.THREADS, ())
        as_it_comes[f"{mark} without lengths, exits"] = ours(dynamic, leave=True, exits=plan.exits)
    return as_it_comes | {
        f"{mark}, exits off": ours(loaded["off"], leave=False, exits=plan.exits),
        f"{mark}, none taken": ours(loaded["exits"], leave=False, exits=plan.exits),
        f"{mark}, exits": ours(loaded["exits"], leave=True, exits=plan.exits),
    }


def write_alternatives(plain: PreTrainedModel, path: Path, calibration: list[Encoded]) -> None:
    """Write the graphs of those alternatives that read one."""
    if not torch.cuda.is_available():
        rivals.write_onnx(plain, path.with_suffix(".onnx"))
        rivals.write_openvino(plain, path.with_suffix(".xml"), calibration)


def alternatives(
    plain: PreTrainedModel, plan: Plan, path: Path, precision: Precision, size: int
) -> dict[str, rivals.Rival]:
    """Return every alternative of one precision that runs here, and transformers eager."""
    padded = {EAGER: rivals.transformers_eager(plain)}
    if plan.slow and size > 1:
        padded[GROUPED] = padded[EAGER]
    on_cpu = not torch.cuda.is_available()
    onnx, xml = path.with_suffix(".onnx"), path.with_suffix(".xml")
    texts = plan.slow and path.name == "xnli"  # what CTranslate2 can classify
    if precision == "float32" and plan.slow:
        padded["torch.compile"] = rivals.compiled(plain)
    if precision == "float32" and on_cpu:
        padded["OpenVINO bfloat16 (its default here), dynamic shapes"] = rivals.openvino_dynamic(xml, "")
    if precision == "float32" and on_cpu and plan.slow:
        padded["ONNX Runtime float32"] = rivals.onnx_runtime(onnx)
        padded["OpenVINO float32, dynamic shapes"] = rivals.openvino_dynamic(xml)
    if precision == "int8":
        int8 = xml.with_suffix(".int8.xml")
        padded["ONNX Runtime int8"] = rivals.onnx_runtime(onnx.with_suffix(".int8.onnx"))
        padded["OpenVINO int8, a static graph a shape"] = rivals.openvino_static(int8)
    if precision == "int8" and plan.slow:
        padded["OpenVINO int8, dynamic shapes"] = rivals.openvino_dynamic(int8)
        padded["torch dynamic int8"] = rivals.torch_int8(plain)
    if texts and on_cpu:
        padded[f"CTranslate2 {precision}"] = rivals.ctranslate2_encoder(plain, path.parent / "ct2", precision)
    return {name: rivals.Rival(run) for name, run in padded.items()}


def race(candidates: dict[str, Candidate], calls: list[tuple[list[Encoded], list[int]]], rounds: int) -> Any:
    """Return each candidate's seconds, round by round, for all calls together."""

    def run(candidate: Candidate) -> None:
        for sequences, leave_after in calls:
            candidate(sequences, leave_after)

    return interleaved(
        {name: partial(run, candidate) for name, candidate in candidates.items()}, rounds=rounds, warmup=1
    )


def batches(sentences: dict[str, Sentences], plan: Plan) -> dict[int, list[list[Encoded]]]:
    """Return what is read alone, and batches that hold all languages alike, by batch size."""
    turns = [one for some in zip(*(sentences[code].encoded for code in LANGUAGES), strict=True) for one in some]
    alone = [[one] for one in turns[: plan.singles * len(LANGUAGES)]]
    return {1: alone, BATCH: [turns[n * BATCH : (n + 1) * BATCH] for n in range(plan.batches)]}


def measure(task: TaskName, plan: Plan, data: Path, folder: Path, made: list[Any]) -> dict[str, Any]:
    """Measure one task at both batch sizes."""
    say(f"preparing {task}")
    big, small = made
    shape = plan.shape.model_copy(update={"vocab_size": len(small)})
    needed = -(-max(plan.batches * BATCH, plan.singles * len(LANGUAGES)) // len(LANGUAGES))
    sentences = read_sentences(task, data, big, needed, shape.vocab_size)
    models = write_model(folder / task, task, shape, plan.exits, small)
    write_alternatives(models[0], folder / task, [one for some in sentences.values() for one in some.encoded[:4]])
    on_gpu = torch.cuda.is_available()
    plain, early = (model.to("cuda" if on_gpu else "cpu") for model in models)
    found: dict[str, Any] = {}
    for size, groups in batches(sentences, plan).items():
        flat = [one for group in groups for one in group]
        leave, share = impose(shape, task, [len(one.ids) for one in flat], plan.exits)
        places = iter(leave)
        calls = [(group, [next(places) for _ in group]) for group in groups]
        found[f"batch {size}"] = {
            "sentences": len(flat),
            "tokens": sum(len(one.ids) for one in flat),
            "flops_share": share,
        }
        for precision in ("float32",) if on_gpu else plan.precisions:
            say(f"timing {task}, batch {size}, {precision}")
            lengths = LENGTHS[precision] if size == 1 and not on_gpu else ()
            fixed: dict[str, Candidate] = {}
            if precision == "float32":
                last = [plan.exits[-1]]
                fixed["transformers, naive early exit"] = naive(
                    rivals.Rival(rivals.naive_early_exit(early, last)), last
                )
            # Named nowhere here, so that they go when the race is over, before the next are made.
            found[f"batch {size}"][precision] = measure_race(
                engines(folder / task, plan, data, precision, lengths),
                alternatives(plain, plan, folder / task, precision, size),
                fixed,
                calls,
                plan,
                share,
            )
    return found


def measure_race(
    own: dict[str, Candidate],
    tuned: dict[str, rivals.Rival],
    fixed: dict[str, Candidate],
    calls: list[tuple[list[Encoded], list[int]]],
    plan: Plan,
    share: float,
) -> dict[str, Any]:
    """Race ours among themselves, then beside the alternatives: each in its best setting, but eager as it comes."""
    groups = [group for group, _ in calls]
    flat = [one for group in groups for one in group]
    for name, rival in tuned.items():
        if name != EAGER:
            rival.best_setting(groups)
    whole = {name: other(rival) for name, rival in tuned.items()}
    say("settings are chosen")
    differences = agreement(own | whole, flat[:BATCH], plan.exits[-1])
    # Sentences alone take little time, and each ratio of a round is less sure.
    close = race(own, calls, (2 if len(groups[0]) > 1 else 8) * plan.rounds)
    say("ours have been raced among themselves")
    wide = race(own | whole | fixed, calls, plan.rounds)
    return {
        "median_ms": {name: float(np.median(took)) * 1e3 / len(flat) for name, took in wide.items()},
        "settings": {name: str(rival.setting) for name, rival in tuned.items()},
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
    """Return what the thresholds are about, as ratios taken within rounds."""
    marks = sorted(name.removesuffix(", exits off") for name in close if name.endswith(", exits off"))
    ratios: dict[str, Any] = {"realisation": {}, "none_taken": {}}
    for mark in marks:
        off = close[f"{mark}, exits off"]
        time_share = paired_ratio(close[f"{mark}, exits"], off)
        ratios["realisation"][mark] = scaled(time_share, 1 / share)
        ratios["none_taken"][mark] = paired_ratio(close[f"{mark}, none taken"], off).model_dump()
    middle = {name: float(np.median(took)) for name, took in wide.items()}
    others = {name: took for name, took in middle.items() if not name.startswith("ours ")}
    fastest = min(others, key=others.__getitem__)
    best = {
        what: min((n for n in middle if n.endswith(f", {what}")), key=middle.__getitem__)
        for what in ("exits", "exits off")
    }
    ratios["fastest_other"] = fastest
    ratios["ours"] = best
    ratios["exits_against_eager"] = paired_ratio(wide[EAGER], wide[best["exits"]]).model_dump()
    if GROUPED in wide:
        ratios["exits_against_grouped"] = paired_ratio(wide[GROUPED], wide[best["exits"]]).model_dump()
    ratios["exits_against_fastest"] = paired_ratio(wide[fastest], wide[best["exits"]]).model_dump()
    ratios["off_against_fastest"] = paired_ratio(wide[fastest], wide[best["exits off"]]).model_dump()
    return ratios


def scaled(ratio: Ratio, factor: float) -> dict[str, float]:
    """Return a ratio times a factor."""
    return {name: value * factor for name, value in ratio.model_dump().items()}


def report_time(task: str, size: str, figures: dict[str, Any]) -> None:
    """Print what was measured, and beside each threshold whether it is met."""
    tokens = figures["tokens"] / figures["sentences"]
    print(f"\n{task}, {size}: {figures['sentences']} sentences of {tokens:.1f} tokens, ", end="")
    print(f"flops_share {figures['flops_share']:.3f}; ms a sentence, largest logit difference, setting")
    for raced in (figures[precision] for precision in ("float32", "int8") if precision in figures):
        for name, took in sorted(raced["median_ms"].items(), key=lambda item: item[1]):
            difference = raced["largest_difference"].get(name)
            shown = "" if difference is None else f"{difference:.1e}"
            print(f"  {name:52} {took:8.2f}  {shown:8} {raced['settings'].get(name, '')}")
        for mark in raced["realisation"]:
            verdict(f"realisation, {mark}", raced["realisation"][mark], "<=", 1.05 if size == "batch 1" else 1.10)
            verdict(f"every exit checked, none taken, {mark}", raced["none_taken"][mark], "<=", 1.03)
        verdict(f"{raced['ours']['exits']} against {EAGER}", raced["exits_against_eager"], ">=", 8.0)
        if "exits_against_grouped" in raced:
            verdict(f"{raced['ours']['exits']} against {GROUPED}", raced["exits_against_grouped"], ">=", 8.0)
        against = f"against {raced['fastest_other']}"
        verdict(f"{raced['ours']['exits']} {against}", raced["exits_against_fastest"], ">=", 1.4)
        verdict(f"{raced['ours']['exits off']} {against}", raced["off_against_fastest"], ">=", 1.0)


def report_memory(peaks: dict[str, int]) -> None:
    """Print the peak of each process."""
    print("\npeak resident size of a fresh process that tags Swahili, the whole vocabulary, MB")
    for name, peak in peaks.items():
        print(f"  {name:52} {peak / 1e6:8.0f}" + (f"  {judge(peak / 1e6, '<=', 350)}" if "ours" in name else ""))


def say(what: str) -> None:
    """Tell a person who waits what is going on, and how long it has been."""
    print(f"{time.monotonic() - _BEGAN:4.0f} s  {what}", file=sys.stderr, flush=True)


def verdict(what: str, ratio: dict[str, float], sign: str, threshold: float) -> None:
    """Print one ratio with its quartiles, and whether it meets its threshold."""
    middle, lower, upper = ratio["median"], ratio["lower"], ratio["upper"]
    print(f"  {what:90} {middle:6.3f} [{lower:.3f}, {upper:.3f}]  {judge(middle, sign, threshold)}")


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
    with scratch_folder() as scratch:
        folder = Path(scratch)
        source = data_folder(data, folder / "sample")
        made = tokenizers(source, plan.pieces, plan.vocabulary)
        for task in plan.tasks:
            found["time"][task] = measure(task, plan, source, folder, made)
            for size, figures in found["time"][task].items():
                report_time(task, size, figures)
        if plan.memory:
            say("measuring memory")
            found["memory"] = measure_memory(source, folder, made[0], plan.exits, all_of_them=plan.slow)
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
