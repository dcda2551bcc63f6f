"""Quality and costs of models in one go."""

from pathlib import Path
from typing import Any

from halfling.evaluate.costs import CostSettings, measure_costs
from halfling.evaluate.quality import QualitySettings, measure_quality
from halfling.records import Counts, Progress, silent
from halfling.tasks.task import Task


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
    """Write scores, time, memory and size of models on the dev splits of their task: --model NAME=FOLDER.

    See `measure_quality` and `measure_costs`, whose files these are.
    """
    told: dict[str, Any] = {"settings": settings, "models": models, "out": out, "task": task, "progress": progress}
    return measure_quality(**told) | measure_costs(**told)
