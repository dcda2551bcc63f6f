"""Where to leave: a threshold from English dev, for a loss of quality that the user names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from halfling import criteria
from halfling.cost.flops import Head, flops
from halfling.models import EARLY_EXIT_MODELS
from halfling.models.folder import load_model, load_tokenizer, weights_sha256
from halfling.models.shapes import require_room, shape_of
from halfling.records import Calibration, Counts, ExitPolicy, Progress, Settings, TaskName, TradeOff, silent
from halfling.tasks import TASKS
from halfling.tasks.predict import predict, word_labels


class CalibrateSettings(Settings):
    """What may be lost for speed."""

    task: TaskName = Field(description='"xnli" or "wikiann"')
    max_drop: float = Field(1.0, ge=0, description="points (0..100) of accuracy or F1 on English dev")
    thresholds: int = Field(51, ge=2, description="how many thresholds are tried, evenly from 0 to 1")
    max_tokens: int = Field(128, ge=8, description="longer inputs are cut; special tokens included")
    max_examples: int | None = Field(None, gt=0, description="only the first so many of dev; all")
    batch_size: int = Field(64, gt=0)


@dataclass(frozen=True)
class _Exits:
    """What every exit says of every example: uncertainty [exits, examples], and labels by exit and example."""

    layers: list[int]
    uncertainty: np.ndarray
    labels: list[list[Any]]


def head_of(task: TaskName, exit_layers: tuple[int, ...] = ()) -> Head:
    """Return the classifiers of a task's model, for counting their arithmetic."""
    return Head(
        kind="sequence" if task == "xnli" else "token",
        num_classes=len(TASKS[task].labels),
        layers=exit_layers,
    )


def calibrate(
    *, settings: CalibrateSettings, model: Path, data: str | Path, out: Path, progress: Progress = silent
) -> Counts:
    """Write `exit_policy.json`: the threshold that spends the least arithmetic within `max_drop`, and the curve.

    The exits are computed once for all examples; a threshold then only chooses among their answers, which equals
    running the model with it (a test holds this). Only English dev is read.

    Returns:
        The threshold chosen, its `flops_share`, and its `drop` in points.
    """
    task = TASKS[settings.task]
    network = load_model(EARLY_EXIT_MODELS[settings.task], model)
    require_room(network.config, settings.max_tokens, model)
    examples = task.read(data, "dev", "en")[: settings.max_examples]
    encoded = task.encode(examples, load_tokenizer(model), settings.max_tokens)
    progress(0, 2, "every exit on English dev")
    answers = predict(network, encoded, settings.batch_size, all_exits=True)
    assert answers.exit_logits is not None
    pooling: Literal["mean"] = "mean"
    layers = network.config.exit_layers
    exits = _Exits(
        layers=layers,
        uncertainty=np.array([[_uncertainty(one, pooling) for one in per_exit] for per_exit in answers.exit_logits]),
        labels=[
            [_labels(one, encoded, number) for number, one in enumerate(per_exit)] for per_exit in answers.exit_logits
        ],
    )
    progress(1, 2, "thresholds")
    shape, head = shape_of(network.config), head_of(settings.task, tuple(layers))
    plain_flops = flops(shape, answers.num_tokens, [layers[-1]] * len(examples), head_of(settings.task)).total
    curve = []
    for threshold in np.linspace(0, 1, settings.thresholds):
        taken = _first_sure(exits.uncertainty, float(threshold))
        left_after = [layers[place] for place in taken]
        predicted = [exits.labels[place][number] for number, place in enumerate(taken)]
        # With threshold 0 the intermediate exits are not computed at all.
        spent = flops(shape, answers.num_tokens, left_after, head).total if threshold else plain_flops
        curve.append(
            TradeOff(
                layers=tuple(layers),
                thresholds=(round(float(threshold), 6),) * (len(layers) - 1),
                quality=getattr(task.score(encoded.gold, predicted), task.headline),
                flops_share=spent / plain_flops,
                mean_exit_layer=float(np.mean(left_after)),
            )
        )
    chosen = choose(curve, settings.max_drop)
    policy = ExitPolicy(
        layers=chosen.layers, thresholds=chosen.thresholds, token_pooling=pooling, model=weights_sha256(model)
    )
    Calibration(task=settings.task, policy=policy, max_drop=settings.max_drop, curve=tuple(curve)).write(
        out / "exit_policy.json"
    )
    progress(2, 2, f"thresholds {chosen.thresholds}")
    drop = 100 * (curve[0].quality - chosen.quality)
    return {
        "thresholds": chosen.thresholds,
        "flops_share": round(chosen.flops_share, 4),
        "drop": round(drop, 2),
    }


def choose(curve: list[TradeOff], max_drop: float) -> TradeOff:
    """Return the cheapest point whose quality is within `max_drop` points of the first, which has no exits."""
    floor = curve[0].quality - max_drop / 100
    return min((point for point in curve if point.quality >= floor), key=lambda p: (p.flops_share, p.thresholds))


def _first_sure(uncertainty: np.ndarray, threshold: float) -> np.ndarray:
    """Return the place (0-based) of each example's exit: the first below the threshold, or the last of all."""
    sure = criteria.leaves(uncertainty, threshold)
    sure[-1] = True
    return sure.argmax(axis=0)


def _uncertainty(logits: Tensor, pooling: Any) -> float:
    values = criteria.normalised_entropy(logits.numpy())
    if values.ndim == 0:
        return float(values)
    return float(criteria.pool_tokens(values[None], np.ones((1, len(values)), dtype=bool), pooling)[0])


def _labels(logits: Tensor, encoded: Any, number: int) -> Any:
    best = logits.argmax(dim=-1).tolist()
    return best if encoded.word_positions is None else word_labels(best, encoded.word_positions[number])
