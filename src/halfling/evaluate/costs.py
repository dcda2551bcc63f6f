"""Time and memory of several models on one task, as they are served, measured side by side."""

import json
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from halfling.bounds import Repeats
from halfling.cost.latency import interleaved, spread
from halfling.cost.memory import peak_bytes
from halfling.evaluate.quality import QualitySettings, measure_quality, measured_task
from halfling.evaluate.runtime import Runtime, load_runtime, mean_gflops
from halfling.files import names_in, write_text
from halfling.records import Counts, Progress, Settings, json_lines, silent
from halfling.results import Cost
from halfling.tasks.examples import Example, dev_examples
from halfling.tasks.task import Task

BATCH = 32


class CostSettings(Settings):
    """How thoroughly time and memory are measured."""

    languages: tuple[str, ...] | None = Field(
        None, min_length=1, description="dev splits to take texts from; all of the task's"
    )
    rounds: Repeats = Field(7, ge=2, description="timed rounds, every model once in each")
    warmup: Repeats = Field(2, description="untimed rounds before")

    @property
    def timed(self) -> bool:
        """Whether times are measured: they are."""
        return True


def measure_costs(
    *, settings: CostSettings, models: dict[str, Path], out: Path, task: Task | None = None, progress: Progress = silent
) -> Counts:
    """Write time, memory and size of models side by side: --model NAME=FOLDER.

    Each line of `costs.jsonl` is a `records.Cost`. The first 32 texts of a language's dev split go through every model,
    one by one and as one batch, in rounds in which the models take turns. Time runs from characters to labels. Memory
    is the peak of a fresh process that loads the model and answers those batches, one number for each model.

    Returns:
        The largest spread (interquartile range / median) of any timing.
    """
    runtimes = {name: load_runtime(folder) for name, folder in models.items()}
    whole = measured_task(next(iter(models.values())), task, next(iter(runtimes.values())).labels)
    texts = dev_examples(whole, settings.languages or whole.languages, BATCH)
    total = len(texts) + len(models)
    peaks: dict[str, int] = {}
    for number, (name, folder) in enumerate(models.items()):
        progress(number, total, f"memory of {name}")
        peaks[name] = _peak(folder, [*texts.values()])
    lines, spreads = [], []
    for number, (language, examples) in enumerate(texts.items(), start=len(models)):
        progress(number, total, f"time in {language}")
        rounds: dict[str, Any] = {"rounds": settings.rounds, "warmup": settings.warmup}
        alone = interleaved(
            {name: partial(_one_by_one, one, examples, language) for name, one in runtimes.items()}, **rounds
        )
        batch = interleaved(
            {name: partial(one.answer, examples, BATCH, language) for name, one in runtimes.items()}, **rounds
        )
        spreads += [spread(seconds) for seconds in (*alone.values(), *batch.values())]
        lines += [
            Cost(
                **one.form(name),
                task=whole.name,
                language=language,
                rounds_ms_b1=tuple(1e3 * seconds / len(examples) for seconds in alone[name]),
                rounds_ms_b32=tuple(1e3 * seconds for seconds in batch[name]),
                timed_gflops=mean_gflops(one, one.answer(examples, BATCH, language), len(examples)),
                peak_bytes=peaks[name],
                disk_bytes=sum((models[name] / file).stat().st_size for file in names_in(models[name])),
            )
            for name, one in runtimes.items()
        ]
    progress(total, total, "")
    write_text(out / "costs.jsonl", json_lines(lines))
    return {"largest_spread": round(max(spreads), 3)}


def _one_by_one(runtime: Runtime, examples: Sequence[Example], language: str) -> None:
    for example in examples:
        runtime.answer([example], 1, language)


def _peak(folder: Path, batches: Sequence[Sequence[Example]]) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch) / "work.json"
        work.write_text(json.dumps({"folder": str(folder), "batches": batches}), encoding="utf-8")
        return peak_bytes([sys.executable, "-m", "halfling.evaluate.fresh_process", str(work)])


class EvaluateSettings(QualitySettings, CostSettings):
    """On how much quality is measured, and how thoroughly costs are."""


def evaluate(
    *,
    settings: EvaluateSettings,
    models: dict[str, Path],
    out: Path,
    task: Task | None = None,
    progress: Progress = silent,
) -> Counts:
    """Write what `measure_quality` and `measure_costs` write: scores, time, memory and size, --model NAME=FOLDER."""
    told: dict[str, Any] = {"settings": settings, "models": models, "out": out, "task": task, "progress": progress}
    return measure_quality(**told) | measure_costs(**told)
