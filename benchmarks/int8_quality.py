"""What int8 costs a trained model: quality of its int8 export beside its float32 export, in six languages.

    python benchmarks/int8_quality.py MODEL DATA [--policy CALIBRATION] [--limit N] [--backend NAME] [--json FILE]

MODEL is a fine-tuned model, plain or with exits. Both exports answer the dev splits in DATA through the engine's
`predict`, texts in and labels out; int8's scales come from English dev alone. The score is span F1 (WikiANN) or
accuracy (XNLI); the bound is what the drop does not exceed with 95 % confidence, by a paired bootstrap over sentences.
With --policy both leave early, by the same thresholds.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from workload import LANGUAGES, scratch_folder

from halfling.calibrate.score import drop_bound, resamples, tally
from halfling.engine import AdaptiveEngine
from halfling.export.trained import TASK_OF
from halfling.export.write import export
from halfling.records import TaskName
from halfling.tasks import TASKS

AIM = 0.3
"""Points that may be lost, on the mean over languages."""


def answers(engine: AdaptiveEngine, task: TaskName, examples: list[Any]) -> list[Any]:
    """Return the number of each example's label, or of each of its words' tags."""
    number = {label: place for place, label in enumerate(TASKS[task].labels)}
    if task == "xnli":
        return [number[one.label or ""] for one in engine.predict([(e.premise, e.hypothesis) for e in examples])]
    return [[number[tag] for tag in one.tags or ()] for one in engine.predict([list(e.tokens) for e in examples])]


def compare(task: TaskName, examples: list[Any], float32: AdaptiveEngine, int8: AdaptiveEngine) -> dict[str, float]:
    """Return both scores and what lies between them, in points (0..100)."""
    gold = [e.label if task == "xnli" else list(e.tags) for e in examples]
    first, second = (answers(engine, task, examples) for engine in (float32, int8))
    one, other = (tally(task, gold, predicted) for predicted in (first, second))
    flat = zip(np.hstack([np.array(a) for a in first]), np.hstack([np.array(b) for b in second]), strict=True)
    return {
        "sentences": len(examples),
        "float32": 100 * one.score,
        "int8": 100 * other.score,
        "drop": 100 * (one.score - other.score),
        "bound": drop_bound(one, other, resamples(len(examples), 1000, 0), 0.95),
        "equal": float(np.mean([a == b for a, b in flat])),
    }


def measure(
    model: Path, data: Path, folder: Path, policy: Path | None, limit: int | None, backend: str
) -> dict[str, dict[str, float]]:
    """Export both and return what `compare` says, by language."""
    engines = {}
    for precision in ("float32", "int8"):
        out = folder / precision
        export(model=model, out=out, backends=(backend,), precision=precision, policy=policy, data=data)
        engines[precision] = AdaptiveEngine.from_pretrained(out, backend)
    task = TASK_OF[engines["int8"].exported.kind]
    return {
        code: compare(task, TASKS[task].read(data, "dev", code)[:limit], engines["float32"], engines["int8"])
        for code in LANGUAGES
    }


def main() -> None:
    """Measure, print a table, and write JSON where asked."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("model", type=Path)
    options.add_argument("data", type=Path)
    options.add_argument("--policy", type=Path, help="a calibration of the model: leave early")
    options.add_argument("--limit", type=int, help="only the first so many sentences of each language")
    options.add_argument("--backend", default="openvino", choices=("openvino", "onnx"))
    options.add_argument("--json", type=Path, help="write every figure here")
    chosen = options.parse_args()
    with scratch_folder() as scratch:
        found = measure(chosen.model, chosen.data, Path(scratch), chosen.policy, chosen.limit, chosen.backend)
    print("| language | sentences | float32 | int8 | drop | 95 % bound | equal labels |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for code, row in found.items():
        scores = " | ".join(f"{row[name]:.2f}" for name in ("float32", "int8", "drop", "bound"))
        print(f"| {code} | {row['sentences']:,} | {scores} | {row['equal']:.2%} |")
    mean = float(np.mean([row["drop"] for row in found.values()]))
    print(f"mean drop {mean:.2f} points: {'pass' if mean <= AIM else 'FAIL'} (<= {AIM})")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
