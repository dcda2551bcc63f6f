"""The calibrate stage: an early-exit model in, the policy that meets what the user asks out."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean

import torch
from transformers import PreTrainedModel

from halfling.calibrate.curve import Drawing
from halfling.calibrate.in_engine import InEngine
from halfling.calibrate.score import resamples
from halfling.calibrate.settings import CalibrateSettings
from halfling.calibrate.simulate import Trial
from halfling.calibrate.timing import Clock, InTorch, spread
from halfling.errors import HalflingError
from halfling.exits.policy import Calibration, ExitPolicy, TradeOff
from halfling.fingerprint import reading
from halfling.models import EARLY_EXIT_MODELS
from halfling.models.load import load_model, load_tokenizer, weights_sha256
from halfling.models.shapes import require_room
from halfling.records import Counts, Progress, silent
from halfling.tasks import TASKS, Encoded
from halfling.tasks.sources import labelled_files

_MEASURED = 3
"""So many policies at most are measured as one: with an engine, each is an export."""


@reading(data=labelled_files)
def calibrate(
    *, settings: CalibrateSettings, model: Path, data: str | Path, out: Path, progress: Progress = silent
) -> Counts:
    """Write `exit_policy.json`: the policy chosen for what was asked, and the curve that it was chosen from.

    Every point of the curve maximises quality less a price on arithmetic, or on time where that is measured; prices
    rise until the cheapest policy is reached, and close in on where the wish is just met (`Drawing.close_in`). No exits
    is the first point. Only English dev is read. With `timing` "none" every run chooses the same; where times are
    measured, a point measured to be slower than no exits is passed over, and no exits is chosen where only such
    points meet the wish, even if it is `flops_share`.

    Returns:
        The chosen policy's exits and thresholds, `drop` and `drop_bound` in points, `flops_share`, and `time_share`
        (None when not measured).

    Raises:
        HalflingError: Model or data cannot be read, or no policy reaches `flops_share` or `latency_ms`.
    """
    task = TASKS[settings.task]
    network = load_model(EARLY_EXIT_MODELS[settings.task], model)
    network = network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    require_room(network.config, settings.max_tokens, model)
    examples = task.read(data, "dev", "en")[: settings.max_examples]
    encoded = task.encode(examples, load_tokenizer(model), settings.max_tokens)
    like = ExitPolicy(
        layers=tuple(network.config.exit_layers[-1:]),
        thresholds=(),
        criterion=settings.criterion,
        patience=1 if settings.criterion == "patience" else None,
        granularity=settings.granularity,
        token_pooling=settings.token_pooling,
        model=weights_sha256(model),
    )
    progress(0, 3, "every exit on English dev")
    trial = Trial(settings.task, network, encoded, like, settings.batch_size, settings.seed)
    progress(1, 3, "times")
    with _clock(settings, model, network, encoded, data, like, out / "timing") as clock:
        progress(2, 3, "the trade-off")
        drawing, policy, chosen = _choose(settings, trial, clock, len(examples))
    Calibration(
        task=settings.task,
        policy=policy,
        plain_ms=clock.plain_ms if clock else None,
        timed=_who(settings) if clock else None,
        curve=tuple(drawing.curve),
        **{settings.wish.what: settings.wish.limit},
    ).write(out / "exit_policy.json")
    progress(3, 3, f"exits {list(policy.layers)}")
    return {
        "layers": chosen.layers,
        "thresholds": chosen.thresholds,
        "flops_share": round(chosen.flops_share, 4),
        "time_share": None if chosen.time_share is None else round(chosen.time_share, 3),
        "drop": round(chosen.drop, 2),
        "drop_bound": round(chosen.drop_bound, 2),
    }


@contextmanager
def _clock(
    settings: CalibrateSettings,
    model: Path,
    network: PreTrainedModel,
    encoded: Encoded,
    data: str | Path,
    like: ExitPolicy,
    scratch: Path,
) -> Iterator[Clock | None]:
    """Yield measured times, or None; what is exported for them is deleted after."""
    exits = network.config.exit_layers
    if settings.timing == "none" or len(exits) == 1:
        yield None
        return
    sentences = spread(encoded, settings.timed_sentences)
    if settings.engine is None:
        yield Clock(InTorch(network, sentences), exits, settings.rounds)
        return
    shutil.rmtree(scratch, ignore_errors=True)  # a killed try's
    try:
        computes = InEngine(
            model=model,
            like=like,
            task=settings.task,
            exits=exits,
            sentences=sentences,
            backend=settings.engine,
            precision=settings.precision,
            fixed_rows=settings.fixed_rows,
            data=data,
            scratch=scratch,
        )
        yield Clock(computes, exits, settings.rounds)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _who(settings: CalibrateSettings) -> str:
    fixed = ", rows of fixed lengths" if settings.fixed_rows else ""
    return "the model in PyTorch" if settings.engine is None else f"{settings.engine} {settings.precision}{fixed}"


def _choose(
    settings: CalibrateSettings, trial: Trial, clock: Clock | None, num_examples: int
) -> tuple[Drawing, ExitPolicy, TradeOff]:
    """Return the curve, and what was chosen from it."""
    wish, like = settings.wish, trial.like
    draws = resamples(num_examples, settings.resamples, settings.seed)
    drawing = Drawing(trial, clock, draws, settings.confidence)
    if settings.criterion == "patience":
        for policy in _patient(trial.layers, like):
            drawing.at(policy)
    else:
        drawing.close_in(wish, settings.max_exits)
    plain_ms = clock.plain_ms if clock else None
    measured = {like: drawing.points[like]}
    by_time = wish.what == "latency_ms"

    def spent(point: TradeOff) -> float:
        return point.time_share or 1.0 if by_time else point.flops_share

    cheapest = min(drawing.points, key=lambda policy: spent(drawing.points[policy]))
    slower: list[float] = []
    while True:
        # What was added up from layers is measured as one before it is taken, and must then still be the one to choose.
        # The others are expected to be off by as much (but for tokens, whose policies were all measured).
        factor = fmean(slower) if slower and like.granularity == "sentence" else 1.0
        known = measured if len(measured) > _MEASURED else _expected(drawing.points, measured, factor)
        chosen = wish.choose([*known.values()], plain_ms)
        if chosen is not None:
            policy = next(one for one, point in known.items() if point is chosen)
            if clock is None or policy in measured:
                return drawing, policy, chosen
        elif clock is None or not by_time or cheapest in measured:
            least = min(known.values(), key=spent)
            took = f", time_share {least.time_share:.3f} of {plain_ms:.2f} ms" if plain_ms and least.time_share else ""
            raise HalflingError(
                f"calibrate: {wish.what}={wish.limit:g} is out of reach: the cheapest policy has flops_share "
                f"{least.flops_share:.3f}{took}"
            )
        else:
            policy = cheapest  # before there is said to be nothing
        before, share = drawing.points[policy], clock.measured(policy)
        if before.time_share:
            slower.append(share / before.time_share)
        drawing.points[policy] = measured[policy] = before.model_copy(update={"time_share": share})


def _expected(
    points: Mapping[ExitPolicy, TradeOff], measured: Mapping[ExitPolicy, TradeOff], factor: float
) -> dict[ExitPolicy, TradeOff]:
    """Return all points, the times of those not measured multiplied by a factor."""
    return {
        policy: point
        if policy in measured or point.time_share is None
        else point.model_copy(update={"time_share": factor * point.time_share})
        for policy, point in points.items()
    }


def _patient(layers: tuple[int, ...], like: ExitPolicy) -> list[ExitPolicy]:
    """Return every patience from the longest to one, with all exits in use."""
    shared = like.model_dump(exclude={"layers", "thresholds", "patience"})
    return [
        # Any threshold up to 1 / patience means the same; half of it is clear of rounding.
        ExitPolicy.uniform(layers, 0.5 / patience, **shared, patience=patience)
        for patience in range(len(layers) - 2, 0, -1)
    ]
