"""Time and memory of our engine beside what users would deploy: one run, interleaved, the same threads and inputs.

    python benchmarks/inference.py [--quick] [--json FILE] [--data FOLDER] [--trained MODEL --policy FOLDER]

XLM-R Base's shape with random weights reads the first dev sentences of PAN-X and XNLI in six languages (the embedded
sample's where `--data` is not there), one by one and in batches of 32. Where inputs leave is imposed, so that about
0.686 of the arithmetic is left, as in the thesis; exits and their criterion are computed as ever. Every alternative
runs in the setting that a trial found fastest for it: padding, groups of like length, static shapes. Quoted are
medians over rounds, and of ratios taken within each round, with their quartiles.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rivals
import torch
from resident import measure_memory
from workload import LANGUAGES, Sentences, data_folder, impose, read_sentences, scratch_folder, tokenizers, write_model

from halfling.cost.latency import Ratio, interleaved, paired_ratio
from halfling.engine import AdaptiveEngine, Encoded
from halfling.export.write import export
from halfling.models.shapes import SHAPES
from halfling.records import EncoderShape, TaskName

EXITS = (6, 12)
BATCH = 32
LENGTHS = range(4, 97)
"""Our setting for sentences alone, as the alternative with a static graph a shape has its own."""
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
    slow: bool  # whether the alternatives that take long to prepare take part
    memory: bool = True
    pieces: int = 250_002  # of the tokenizer that cuts the sentences
    vocabulary: int = 5_002  # of the model that is timed: look-ups cost nothing


QUICK = Plan(SHAPES["xlm-roberta-base"], EXITS, ("wikiann",), 1, 2, 7, slow=False)
FULL = Plan(SHAPES["xlm-roberta-base"], EXITS, ("wikiann", "xnli"), 2, 3, 7, slow=True)


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


def engines(model: Path, plan: Plan, data: Path) -> dict[str, Candidate]:
    """Export a model in every form and return our candidates."""
    backends = ("torch",) if torch.cuda.is_available() else ("openvino",)
    found: dict[str, Candidate] = {}
    for precision in ("float32",) if torch.cuda.is_available() else ("float32", "int8"):
        for name, policy in (("off", None), ("exits", model / "policy")):
            folder = model.parent / f"ours-{precision}-{name}"
            export(model=model, out=folder, backends=backends, precision=precision, policy=policy, data=data)
            for backend in backends:
                lengths = LENGTHS if (backend, precision) == ("openvino", "int8") else ()
                engine = AdaptiveEngine.from_pretrained(folder, backend, rivals.THREADS, lengths)
                mark = f"ours {backend} {precision}"
                if policy is None:
                    found[f"{mark}, exits off"] = ours(engine, leave=False, exits=plan.exits)
                else:
                    found[f"{mark}, none taken"] = ours(engine, leave=False, exits=plan.exits)
                    found[f"{mark}, exits"] = ours(engine, leave=True, exits=plan.exits)
    return found


def alternatives(
    task: TaskName, plain: Any, early: Any, plan: Plan, folder: Path, calibration: list[Encoded]
) -> tuple[dict[str, rivals.Rival], dict[str, Candidate]]:
    """Return every alternative that runs here: those with settings to try, and the naive loop."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    plain, early = plain.to(device), early.to(device)
    last = [plan.exits[-1]]
    loop = naive(rivals.Rival(rivals.naive_early_exit(early, last)), last)
    padded = {"transformers eager": rivals.transformers_eager(plain)}
    if plan.slow:
        padded["torch.compile"] = rivals.compiled(plain)
    if device == "cpu":
        onnx, xml = folder / f"{task}.onnx", folder / f"{task}.xml"
        rivals.write_onnx(plain, onnx)
        rivals.write_openvino(plain, xml, calibration)
        int8 = xml.with_suffix(".int8.xml")
        padded |= {
            "torch dynamic int8": rivals.torch_int8(plain),
            "ONNX Runtime float32": rivals.onnx_runtime(onnx),
            "ONNX Runtime int8": rivals.onnx_runtime(onnx.with_suffix(".int8.onnx")),
            "OpenVINO float32, dynamic shapes": rivals.openvino_dynamic(xml),
            "OpenVINO bfloat16 (its default here), dynamic shapes": rivals.openvino_dynamic(xml, ""),
            "OpenVINO int8, dynamic shapes": rivals.openvino_dynamic(int8),
            "OpenVINO int8, a static graph a shape": rivals.openvino_static(int8),
        }
        if plan.slow and task == "xnli":
            padded["CTranslate2 int8"] = rivals.ctranslate2_encoder(plain, folder / "ct2", "int8")
            padded["CTranslate2 float32"] = rivals.ctranslate2_encoder(plain, folder / "ct2", "float32")
    return {name: rivals.Rival(run) for name, run in padded.items()}, {"transformers, naive early exit": loop}


def race(candidates: dict[str, Candidate], calls: list[tuple[list[Encoded], list[int]]], rounds: int) -> Any:
    """Return each candidate's seconds, round by round, for all calls together."""

    def run(candidate: Candidate) -> None:
        for sequences, leave_after in calls:
            candidate(sequences, leave_after)

    return interleaved(
        {name: partial(run, candidate) for name, candidate in candidates.items()}, rounds=rounds, warmup=2
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
    plain, early = write_model(folder / task, task, shape, plan.exits, small)
    calibration = [one for some in sentences.values() for one in some.encoded[:4]]
    tuned, fixed = alternatives(task, plain, early, plan, folder, calibration)
    own = engines(folder / task, plan, data)
    found: dict[str, Any] = {}
    for size, groups in batches(sentences, plan).items():
        flat = [one for group in groups for one in group]
        leave, share = impose(shape, task, [len(one.ids) for one in flat], plan.exits)
        places = iter(leave)
        calls = [(group, [next(places) for _ in group]) for group in groups]
        say(f"timing {task}, batch {size}")
        for rival in tuned.values():
            rival.best_setting(groups)
        whole = {name: other(rival) for name, rival in tuned.items()}
        differences = agreement(own | whole, flat[:BATCH], plan.exits[-1])
        close = race(own, calls, 2 * plan.rounds)
        wide = race(own | whole | fixed, calls, plan.rounds)
        found[f"batch {size}"] = {
            "sentences": len(flat),
            "tokens": sum(len(one.ids) for one in flat),
            "flops_share": share,
            "median_ms": {name: float(np.median(took)) * 1e3 / len(flat) for name, took in wide.items()},
            "settings": {name: str(rival.setting) for name, rival in tuned.items()},
            "largest_difference": differences,
            **compare(close, wide, share),
        }
    return found


def agreement(candidates: dict[str, Candidate], sequences: list[Encoded], last: int) -> dict[str, float]:
    """Return the largest difference of each candidate's logits, exits off, from plain transformers'."""
    full = [last] * len(sequences)
    expected = candidates["transformers eager"](sequences, full)
    return {
        name: max(float(np.abs(one - two).max()) for one, two in zip(candidate(sequences, full), expected, strict=True))
        for name, candidate in candidates.items()
        if not name.endswith(", exits")
    }


def compare(close: dict[str, list[float]], wide: dict[str, list[float]], share: float) -> dict[str, Any]:
    """Return what the thresholds are about, as ratios taken within rounds."""
    marks = sorted({name.rpartition(", ")[0] for name in close})
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
    ratios["exits_against_eager"] = paired_ratio(wide["transformers eager"], wide[best["exits"]]).model_dump()
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
    for name, took in sorted(figures["median_ms"].items(), key=lambda item: item[1]):
        difference = figures["largest_difference"].get(name)
        shown = "" if difference is None else f"{difference:.1e}"
        print(f"  {name:52} {took:8.2f}  {shown:8} {figures['settings'].get(name, '')}")
    for mark in figures["realisation"]:
        verdict(f"realisation, {mark}", figures["realisation"][mark], "<=", 1.05 if size == "batch 1" else 1.10)
        verdict(f"every exit checked, none taken, {mark}", figures["none_taken"][mark], "<=", 1.03)
    verdict(f"{figures['ours']['exits']} against transformers eager", figures["exits_against_eager"], ">=", 8.0)
    against = f"against {figures['fastest_other']}"
    verdict(f"{figures['ours']['exits']} {against}", figures["exits_against_fastest"], ">=", 1.4)
    verdict(f"{figures['ours']['exits off']} {against}", figures["off_against_fastest"], ">=", 1.0)


def report_memory(peaks: dict[str, int]) -> None:
    """Print the peak of each process."""
    print("\npeak resident size of a fresh process that tags Swahili, the whole vocabulary, MB")
    for name, peak in peaks.items():
        print(f"  {name:52} {peak / 1e6:8.0f}" + (f"  {judge(peak / 1e6, '<=', 350)}" if "ours" in name else ""))


def say(what: str) -> None:
    """Tell a person who waits what is going on."""
    print(what, file=sys.stderr, flush=True)


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
    options.add_argument("--quick", action="store_true", help="PAN-X only, fewer alternatives: under four minutes")
    options.add_argument("--json", type=Path, help="write every figure here")
    options.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with panx/ and xnli/")
    chosen = options.parse_args()
    found = run(QUICK if chosen.quick else FULL, chosen.data)
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
