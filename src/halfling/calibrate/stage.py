"""The calibrate stage: an early-exit model in, the policy that meets what the user asks out."""

import shutil
from pathlib import Path
from statistics import fmean

import torch

from halfling.calibrate.curve import Drawing
from halfling.calibrate.settings import CalibrateSettings, Wish
from halfling.calibrate.simulate import Trial
from halfling.calibrate.timing import Clock
from halfling.errors import HalflingError
from halfling.exits.policy import Calibration, ExitPolicy, TradeOff
from halfling.models.classifier import load_classifier, read_checkpoint
from halfling.models.load import load_tokenizer, weights_sha256
from halfling.models.shapes import require_room
from halfling.records import Counts, Progress, silent
from halfling.tasks.bootstrap import resamples
from halfling.tasks.encode import encode
from halfling.tasks.examples import dev_examples
from halfling.tasks.of_model import task_of
from halfling.tasks.task import Task

_MEASURED = 3
"""So many policies at most are measured as one: each is an export."""


def calibrate(
    *, settings: CalibrateSettings, model: Path, out: Path, task: Task | None = None, progress: Progress = silent
) -> Counts:
    """Write `exit_policy.json`: the policy that meets what is asked, and the curve that it was chosen from.

    Every point of the curve maximises quality less a price on arithmetic, or on time where that is measured. No exits
    is the first point. Only the dev split of the training languages is read. With `timing` "none" every run chooses the
    same. Where times are measured and only points slower than no exits meet the wish, no exits is chosen, even if the
    wish is `flops_share`.

    Args:
        model: An early-exit model's folder.
        task: Data for the task that travels with the model.

    Returns:
        The point of the chosen policy, drops in points, `time_share` None when not measured.

    Raises:
        HalflingError: Model or data cannot be read, or no policy reaches `flops_share` or `latency_ms`.
    """
    if not read_checkpoint(model).has_exits:
        raise HalflingError(f"{model}: has no exits to calibrate: give it some with `halfling exits`")
    whole = task_of(model, task)
    if settings.granularity == "token" and whole.kind != "tagging":
        raise HalflingError(f"calibrate: granularity=token is for taggers, not for {whole.kind}")
    network = load_classifier(model)
    network = network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    require_room(network.config, settings.max_tokens, model)
    languages = settings.languages or whole.source_languages
    split = dev_examples(whole, languages, settings.max_examples)
    examples = [one for some in split.values() for one in some]
    encoded = encode(examples, load_tokenizer(model, network), settings.max_tokens)
    like = ExitPolicy(
        layers=tuple(network.config.exit_layers[-1:]),
        thresholds=(),
        criterion=settings.criterion,
        patience=1 if settings.criterion == "patience" else None,
        granularity=settings.granularity,
        token_pooling=settings.token_pooling,
        model=weights_sha256(model),
    )
    progress(0, 3, "every exit on the dev split")
    trial = Trial(whole, network, examples, encoded, like, settings.batch_size, settings.seed)
    progress(1, 3, "times")
    clock, scratch = None, out / "timing"
    shutil.rmtree(scratch, ignore_errors=True)  # a killed try's
    try:
        if settings.timing == "measured" and len(trial.layers) > 1:
            clock = Clock(
                settings, model=model, task=whole, like=like, exits=trial.layers, encoded=encoded, scratch=scratch
            )
        progress(2, 3, "the trade-off")
        draws = resamples(len(examples), settings.resamples, settings.seed)
        drawing = Drawing(trial, clock, draws)
        if settings.criterion == "patience":
            for patience in range(len(trial.layers) - 2, 0, -1):
                # Any threshold up to 1 / patience means the same; half of it is clear of rounding.
                thresholds = (0.5 / patience,) * (len(trial.layers) - 1)
                every = {"layers": trial.layers, "thresholds": thresholds, "patience": patience}
                drawing.at(like.model_copy(update=every))
        else:
            drawing.close_in(settings.wish, settings.max_exits)
        policy = _choose(settings.wish, drawing, clock)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    Calibration(
        task=whole.name,
        language=", ".join(languages),
        metric="span F1" if whole.metric == "span F1" else "accuracy",
        policy=policy,
        plain_ms=clock.plain_ms if clock else None,
        timed=f"{settings.engine} {settings.precision}" if clock else None,
        curve=tuple(drawing.curve),
        **{settings.wish.what: settings.wish.limit},
    ).write(out / "exit_policy.json")
    progress(3, 3, f"exits {list(policy.layers)}")
    chosen = drawing.points[policy]
    return {
        "layers": chosen.layers,
        "thresholds": chosen.thresholds,
        "flops_share": round(chosen.flops_share, 4),
        "time_share": None if chosen.time_share is None else round(chosen.time_share, 3),
        "drop": round(chosen.drop, 2),
        "drop_bound": round(chosen.drop_bound, 2),
    }


def _choose(wish: Wish, drawing: Drawing, clock: Clock | None) -> ExitPolicy:
    """Return the policy to take.

    A time that was added up from layers is measured as one before its policy is taken, which must then still be the
    one to choose. The others are expected to be off by as much. Tokens' policies were all measured.
    """
    points, plain = drawing.points, drawing.no_exits
    plain_ms = clock.plain_ms if clock else None
    measured = {*points} if plain.granularity == "token" else {plain}
    by_time = wish.what == "latency_ms"

    def spent(point: TradeOff) -> float:
        return point.time_share or 1.0 if by_time else point.flops_share

    cheapest = min(points, key=lambda policy: spent(points[policy]))
    slower: list[float] = []
    while True:
        factor = fmean(slower) if slower else 1.0
        known = {
            policy: point if policy in measured else _slower(point, factor)
            for policy, point in points.items()
            if policy in measured or len(measured) <= _MEASURED
        }
        chosen = wish.choose([*known.values()], plain_ms)
        # Before there is said to be nothing, the cheapest is measured.
        policy = next((one for one, point in known.items() if point is chosen), cheapest if by_time else plain)
        if clock is not None and policy not in measured:
            share = clock.measured(policy)
            slower.append(share / (points[policy].time_share or 1.0))
            points[policy] = points[policy].model_copy(update={"time_share": share})
            measured.add(policy)
        elif chosen is not None:
            return policy
        else:
            least = min(known.values(), key=spent)
            took = f", time_share {least.time_share:.3f} of {plain_ms:.2f} ms" if plain_ms and least.time_share else ""
            raise HalflingError(
                f"calibrate: {wish.what}={wish.limit:g} is out of reach: the cheapest policy has flops_share "
                f"{least.flops_share:.3f}{took}"
            )


def _slower(point: TradeOff, factor: float) -> TradeOff:
    return point if point.time_share is None else point.model_copy(update={"time_share": factor * point.time_share})
