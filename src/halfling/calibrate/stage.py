"""The calibrate stage: an early-exit model in, the policy that meets what the user asks out."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from halfling.calibrate.choose import choose
from halfling.calibrate.curve import Drawing
from halfling.calibrate.settings import CalibrateSettings
from halfling.calibrate.simulate import Trial
from halfling.calibrate.text import read_text
from halfling.calibrate.timing import Clock
from halfling.calibrate.unlabelled import of_text
from halfling.errors import HalflingError
from halfling.exits.bound import fewest
from halfling.exits.calibration import Calibration, OfLanguage
from halfling.exits.policy import ExitPolicy, most_cautious
from halfling.languages import plain_code, require_code
from halfling.models.classifier import load_classifier, read_checkpoint
from halfling.models.load import load_tokenizer, weights_sha256
from halfling.models.shapes import require_room
from halfling.records import Counts, Progress, silent
from halfling.tasks import bootstrap
from halfling.tasks.encode import encode
from halfling.tasks.encoded import Encoded
from halfling.tasks.examples import Example, dev_examples
from halfling.tasks.of_model import task_of
from halfling.tasks.task import Task

_NOBODY = 0.98
"""Of the arithmetic: where a set leaves more than this, next to nobody exits by it."""
_FEW = 30
"""Texts that bound a drop: of fewer the bound is next to nothing."""


def calibrate(
    *,
    settings: CalibrateSettings,
    model: Path,
    out: Path,
    task: Task | None = None,
    unlabelled: dict[str, Path] | None = None,
    progress: Progress = silent,
) -> Counts:
    """Write `exit_policy.json`: the policy that meets what is asked, and the curve that it was chosen from.

    Every point of the curve maximises quality less a price on arithmetic, or on time where that is measured. No exits
    is the first point. The dev split of `languages` is read, of the training languages where none are named. With
    `timing` "none" every run chooses the same. Where times are measured and only points slower than no exits meet the
    wish, no exits is chosen, even if the wish is `flops_share`.

    With `unlabelled` every language of it gets exits and thresholds of its own: by labels where `languages` names it,
    else by how far answers to the text may be from those at full depth (`unlabelled.of_text`). The languages with
    labels share a set. The policy, which any other language gets, is then the most cautious of all.

    Args:
        model: An early-exit model's folder.
        task: Data for the task that travels with the model.
        unlabelled: Text without labels by language: a file with a text a line (a pair with a tab), or a corpus, a
            packed one or a folder of files such as sw.txt, of which sentences as long as the task's are taken.

    Returns:
        The point chosen by labels, drops in points, `time_share` None when not measured; with `unlabelled` the
        arithmetic, disagreement and bound of each language, and which have labels that were used instead.

    Raises:
        HalflingError: Model, data or text cannot be read, the text is too little, or no policy reaches `flops_share` or
            `latency_ms`.
    """
    if not read_checkpoint(model).has_exits:
        raise HalflingError(f"{model}: has no exits to calibrate: give it some with `halfling exits`")
    whole = task_of(model, task)
    if settings.granularity == "token" and whole.kind != "tagging":
        raise HalflingError(f"calibrate: granularity=token is for taggers, not for {whole.kind}")
    if settings.max_disagreement is not None and not unlabelled:
        raise HalflingError(
            "calibrate: max_disagreement is of text without labels: give some with --unlabelled sw=FILE"
        )
    languages = settings.languages or whole.source_languages
    _require_codes([*(unlabelled or {})], languages)
    network = load_classifier(model)
    network = network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    require_room(network.config, settings.max_tokens, model)
    split = dev_examples(whole, languages, settings.max_examples)
    examples = [one for some in split.values() for one in some]
    tokenizer = load_tokenizer(model, network)
    encoded = encode(examples, tokenizer, settings.max_tokens)
    unseen = {code: place for code, place in (unlabelled or {}).items() if code not in split}
    drawn = {
        # One more than is read: are there more?
        code: read_text(place, code, whole.kind, examples, tokenizer, settings.text_sentences + 1, settings.seed)
        for code, place in unseen.items()
    }
    cut_off = [code for code, some in drawn.items() if len(some) > settings.text_sentences]
    drawn = {code: some[: settings.text_sentences] for code, some in drawn.items()}
    like = ExitPolicy(
        layers=tuple(network.config.exit_layers[-1:]),
        thresholds=(),
        criterion=settings.criterion,
        patience=1 if settings.criterion == "patience" else None,
        granularity=settings.granularity,
        token_pooling=settings.token_pooling,
        model=weights_sha256(model),
    )
    steps = 3 + len(drawn)
    progress(0, steps, "every exit on the dev split")
    trial = Trial.from_model(whole, network, examples, encoded, like, settings.batch_size, settings.seed)
    held = int((~trial.learned_from).sum())
    progress(1, steps, "times")
    clock, scratch = None, out / "timing"
    shutil.rmtree(scratch, ignore_errors=True)  # a killed try's
    try:
        if settings.timing == "measured" and len(trial.layers) > 1:
            clock = Clock(
                settings, model=model, task=whole, like=like, exits=trial.layers, encoded=encoded, scratch=scratch
            )
        progress(2, steps, "the trade-off")
        draws = bootstrap.resamples(len(examples), settings.resamples, settings.seed)
        drawing = Drawing(trial, clock, draws)
        drawing.draw(settings.wish, settings.max_exits)
        policy = choose(settings.wish, drawing.points, clock, "calibrate")
        chosen = drawing.points[policy]
        sets: dict[str, OfLanguage] = {}
        cut_short = {", ".join(languages): sum(one.truncated for one in encoded)}
        if unlabelled:
            by_labels = OfLanguage(
                policy=policy, from_labels=True, point=chosen, num_texts=held, confidence=bootstrap.CONFIDENCE
            )
            sets = dict.fromkeys(languages, by_labels)
        for number, (code, some) in enumerate(drawn.items(), start=3):
            progress(number, steps, f"text in {code}")
            cut = encode(some, tokenizer, settings.max_tokens)
            cut_short[code] = sum(one.truncated for one in cut)
            some, cut = _read_otherwise(some, cut)
            asked = Trial.from_model(
                whole, network, some, cut, like, settings.batch_size, settings.seed, labelled=False
            )
            more = f"set text_sentences above {settings.text_sentences}" if code in cut_off else "give more text"
            sets[code] = of_text(settings.text_wish, asked, clock, settings.max_exits, f"{unseen[code]}, {code}", more)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    wishes = {
        wish.what: wish.limit for wish in ((settings.wish, settings.text_wish) if unlabelled else (settings.wish,))
    }
    default = most_cautious([one.policy for one in sets.values()]) if sets else policy
    Calibration(
        task=whole.name,
        language=", ".join(languages),
        metric="span F1" if whole.metric == "span F1" else "accuracy",
        policy=default,
        languages=sets,
        plain_ms=clock.plain_ms if clock else None,
        timed=f"{settings.engine} {settings.precision}" if clock else None,
        curve=tuple(drawing.curve),
        **wishes,
    ).write(out / "exit_policy.json")
    progress(steps, steps, f"exits {list(policy.layers)}")
    counts: Counts = {
        "layers": chosen.layers,
        "thresholds": chosen.thresholds,
        "flops_share": round(chosen.flops_share, 4),
        "time_share": None if chosen.time_share is None else round(chosen.time_share, 3),
        "drop": round(chosen.drop, 2),
        "drop_bound": round(chosen.drop_bound, 2),
    }
    says = []
    if not policy.is_early:
        wished = f"{settings.wish.what}={settings.wish.limit:g}{' and save time' if clock else ''}"
        pairs = " (of pairs with method=joint)" if whole.kind == "pair_classification" else ""
        whose = f"by the labels of {', '.join(languages)} nobody exits" if sets else "nobody exits"
        says.append(f"{whose}: no thresholds keep {wished}: allow more, or train the exits for longer{pairs}")
    if stay := [code for code, one in sets.items() if one.point.flops_share > _NOBODY]:
        says.append(
            f"{', '.join(stay)}: hardly anybody exits, so hardly anybody does by the default either, which holds where "
            "no language is said: allow more, give more text, or leave the language out"
        )
    elif sets and not default.is_early:
        says.append(
            f"the sets of {', '.join(sets)} share no exit, so by the default, which holds where no language is said, "
            "nobody exits: set max_exits higher, or leave a language out"
        )
    read = {", ".join(languages): len(encoded)} | {code: len(some) for code, some in drawn.items()}
    says += [
        f"{code}: {number} of {read[code]} texts are longer than max_tokens={settings.max_tokens} and were cut: "
        "the bound is of what was read"
        for code, number in cut_short.items()
        if number
    ]
    if made_up := [code for code, place in unseen.items() if whole.kind == "pair_classification" and place.is_dir()]:
        says.append(
            f"{', '.join(made_up)}: pairs are neighbouring sentences of a corpus: the bound holds of these alone: give "
            "pairs of the task where you have them, two texts a line with a tab between"
        )
    if settings.wish.what == "max_drop" and policy.is_early and held < (needed := fewest(settings.wish.limit / 100)):
        says.append(
            f"{held} dev texts bound the drop: of fewer than {needed} a bound of {settings.wish.limit:g} points is too "
            "low: give more, or take the drop for a guess"
        )
    if settings.wish.what != "max_drop" and policy.is_early and (held < _FEW or chosen.drop > chosen.drop_bound):
        says.append(f"{held} dev texts bound the drop: too few: give more, or take the drop for a guess")
    told = _told(sets, default, [code for code in unlabelled or {} if code in split])
    return counts | told | ({"says": says} if says else {})


def _read_otherwise(texts: Sequence[Example], encoded: Sequence[Encoded]) -> tuple[list[Example], list[Encoded]]:
    """Return the texts whose tokens no earlier one has: how often there is a space, or what was cut, nobody reads."""
    first = {one.ids.tobytes(): number for number, one in reversed([*enumerate(encoded)])}
    kept = sorted(first.values())
    return [texts[number] for number in kept], [encoded[number] for number in kept]


def _require_codes(codes: list[str], labelled: Sequence[str]) -> None:
    """Raise where text is of what is no language, or of one that stands there twice, written otherwise.

    Raises:
        HalflingError: So it is.
    """
    known = {plain_code(code): code for code in labelled}
    for code in codes:
        require_code(code, "--unlabelled")
        if (other := known.setdefault(plain_code(code), code)) != code:
            raise HalflingError(f"--unlabelled {code}: is {other}, written otherwise: write it as {other}")


def _told(sets: dict[str, OfLanguage], default: ExitPolicy, labelled: list[str]) -> dict[str, Any]:
    """Return what is said of each language and of the default, and of text that was not needed."""
    found: dict[str, Any] = {}
    if sets:
        found["layers, default"], found["thresholds, default"] = default.layers, default.thresholds
    for code, one in sets.items():
        if not one.from_labels:
            point = one.point
            found[f"layers, {code}"], found[f"thresholds, {code}"] = point.layers, point.thresholds
            found[f"flops_share, {code}"] = round(point.flops_share, 4)
            found[f"disagreement, {code}"] = round(point.drop, 2)
            found[f"disagreement_bound, {code}"] = round(point.drop_bound, 2)
    if labelled:
        found["labels_instead_of_text"] = ", ".join(labelled)
    return found
