"""Which thresholds for which language, and which exit criterion: real models, whole dev, loss and arithmetic.

    python benchmarks/thresholds.py runs/real/exits/*-wikiann-* --text ../shared/data/cc100-mini

A model is an early-exit model's folder with its task's data. Models of one task are its seeds: what is printed is their
mean. Each is exported, and every exit computed once in the native engine on one thread, on dev and on text without
labels; what follows is arithmetic on these logits. `--scratch` keeps both.

Two kinds of text without labels are held against each other: sentences of `--text` (`calibrate.text`: as long as
English dev's; for pairs, neighbours), and dev itself without its labels. What is fitted to dev is fitted to half of it,
and everything is judged on the other half. Labels of other languages than English are read to judge, and for nothing
else.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from halfling.calibrate.agreement import disagreements
from halfling.calibrate.search import search
from halfling.calibrate.settings import Wish
from halfling.calibrate.simulate import Trial
from halfling.calibrate.text import read_text
from halfling.calibrate.unlabelled import of_text
from halfling.engine import AdaptiveEngine
from halfling.engine.exported import EXPORTED
from halfling.errors import HalflingError
from halfling.exits.bound import CONFIDENCE
from halfling.exits.criteria import PER_ANSWER, Doubt
from halfling.exits.policy import ExitPolicy, most_cautious
from halfling.export.write import ExportSettings, export
from halfling.files import whole_file, write_text
from halfling.models.classifier import read_checkpoint
from halfling.models.load import load_tokenizer, weights_sha256
from halfling.tasks.encode import encode
from halfling.tasks.encoded import Encoded
from halfling.tasks.examples import Example, read_examples
from halfling.tasks.of_model import task_of
from halfling.tasks.score import Tally

MAX_TOKENS, MAX_EXITS = 128, 3


class Texts(NamedTuple):
    """Texts by language, with every exit of a model computed.

    Attributes:
        dev: With their labels.
        bare: The same without: right is what full depth says.
        text: Of another kind, without labels.
    """

    dev: dict[str, Trial]
    bare: dict[str, Trial]
    text: dict[str, Trial]


def computed(model: Path, text: Path, number: int, most: int | None, scratch: Path, criterion: str) -> Texts:
    """Return a model's texts; their logits come from `scratch` where they were computed."""
    task, exported = task_of(model), scratch / f"exported-{weights_sha256(model)[:12]}"
    folder = scratch / f"{task.name}-{weights_sha256(model)[:12]}-{most or 'all'}-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    if not (exported / EXPORTED).is_file():
        exported.mkdir(exist_ok=True)
        export(settings=ExportSettings(), model=model, out=exported)
    engine, tokenizer = AdaptiveEngine.from_pretrained(exported, "native", 1), load_tokenizer(model)
    layers = tuple(read_checkpoint(model).exit_layers)
    like = ExitPolicy(layers=layers[-1:], thresholds=(), criterion=criterion)
    found = Texts({}, {}, {})

    def tried(examples: Sequence[Example], name: str, *, labelled: bool) -> Trial:
        encoded = encode(examples, tokenizer, MAX_TOKENS)
        per_exit = _logits(engine, encoded, layers, folder / f"{name}.npz")
        return Trial.from_logits(
            task, engine.exported.shape, layers, examples, encoded, per_exit, like, labelled=labelled
        )

    for code in task.languages:
        examples = read_examples(task, "dev", code)[:most]
        found.dev[code] = tried(examples, f"dev-{code}", labelled=True)
        found.bare[code] = tried(examples, f"dev-{code}", labelled=False)
        usual = read_examples(task, "dev", task.source_languages[0])
        sentences = read_text(text, code, task.kind, usual, tokenizer, number, seed=0)
        found.text[code] = whole(tried(sentences, f"text-{code}", labelled=False))
        print(f"{task.name} {code}: {len(examples)} of dev, {len(sentences)} of text", file=sys.stderr, flush=True)
    return found


def _logits(
    engine: AdaptiveEngine, encoded: Sequence[Encoded], layers: tuple[int, ...], path: Path
) -> list[list[np.ndarray]]:
    """Return [answers, classes] of each text at each exit."""
    if not path.is_file():
        policy = ExitPolicy.uniform(layers, 0.5)  # any threshold: where texts exit is imposed
        per_exit = [[one.logits for one in engine.answer(encoded, [layer] * len(encoded), policy)] for layer in layers]
        with whole_file(path) as partial, partial.open("wb") as file:
            np.savez(file, logits=np.array([np.concatenate(one) for one in per_exit]))
    ends = np.cumsum([len(one.picked) for one in encoded])[:-1]
    with np.load(path) as file:
        return [np.split(one, ends) for one in file["logits"]]


def whole(trial: Trial) -> Trial:
    """Return a trial that thresholds are fitted to all of."""
    return trial.some(np.arange(len(trial.encoded)))


def pooled(trials: Sequence[Trial]) -> Trial:
    """Return several trials as one, each language with the same share of the arithmetic."""

    def joined(name: str) -> Any:
        return [np.concatenate(each) for each in zip(*(getattr(one, name) for one in trials), strict=True)]

    tallies = zip(*(one.tallies for one in trials), strict=True)
    costs = [np.vstack([one.encoder_flops, one.head_flops]) / one.plain_flops for one in trials]
    arithmetic = np.concatenate(costs, axis=1)
    return replace(
        trials[0],
        examples=[each for one in trials for each in one.examples],
        encoded=[each for one in trials for each in one.encoded],
        logits=joined("logits"),
        tallies=[
            Tally(np.concatenate([a.above for a in each]), np.concatenate([a.below for a in each])) for each in tallies
        ],
        encoder_flops=arithmetic[:-1],
        head_flops=arithmetic[-1],
        learned_from=np.concatenate([one.learned_from for one in trials]),
        uncertainty=None,
    )


Rule = Callable[[Trial], Trial]
"""Gives texts another uncertainty."""


def by(criterion: str, temperatures: Sequence[float] = ()) -> Rule:
    """Return the rule of an exit criterion, each exit's logits divided by its temperature where given."""

    @cache_by_identity
    def ruled(trial: Trial) -> Trial:
        like = trial.like.model_copy(update={"criterion": criterion})
        divided = [one / t for one, t in zip(trial.logits, temperatures or [1.0] * len(trial.logits), strict=True)]
        return replace(trial, like=like, logits=divided, uncertainty=None)

    return ruled


def cache_by_identity(rule: Rule) -> Rule:
    """Return a rule that gives the same trial again for the same one."""
    known: dict[int, tuple[Trial, Trial]] = {}

    def ruled(trial: Trial) -> Trial:
        if id(trial) not in known:
            known[id(trial)] = trial, rule(trial)
        return known[id(trial)][1]

    return ruled


@cache_by_identity
def by_patience(trial: Trial) -> Trial:
    """Return texts whose uncertainty is one minus the exits in a row that confirmed an answer, over their number."""
    doubt = Doubt(ExitPolicy.uniform(trial.layers, 0.1, criterion="patience", patience=len(trial.layers) - 1))
    counts = trial.counts if trial.task.kind == "tagging" else None
    return replace(trial, uncertainty=np.array([doubt(one, counts) for one in trial.logits]))


def features(trial: Trial) -> np.ndarray:
    """Return what the learned criterion reads, [exits, texts, features]: entropy, margin, depth, length."""
    every = ExitPolicy.uniform(trial.layers, 0.5)
    entropy, margin = (by(name)(trial).unsure(every) for name in ("entropy", "margin"))
    length = np.broadcast_to(np.log([len(one.ids) for one in trial.encoded]), entropy.shape)
    exits = len(trial.layers)
    depths = np.broadcast_to(np.eye(exits)[:, None], (*entropy.shape, exits))
    return np.concatenate([np.stack([entropy, margin, np.sqrt(entropy), length], axis=-1), depths], axis=-1)


def learned(train: Trial) -> Rule:
    """Return the probability that an exit disagrees with full depth, by a logistic model fitted to text alone."""
    read = features(train)[:-1]
    wrong = np.array([1 - one.above / np.maximum(one.below, 1) for one in train.tallies[:-1]]).ravel()
    wrong[np.array([one.below == 0 for one in train.tallies[:-1]]).ravel()] = 0.0
    read = read.reshape(-1, read.shape[-1])
    weights = np.zeros(read.shape[1])
    for _ in range(30):  # Newton's steps, with a small ridge
        chance = 1 / (1 + np.exp(-np.clip(read @ weights, -30, 30)))
        slope = read.T @ (chance - wrong) + 1e-2 * weights
        bend = (read * (chance * (1 - chance))[:, None]).T @ read + 1e-2 * np.eye(len(weights))
        weights -= np.linalg.solve(bend, slope)

    @cache_by_identity
    def ruled(trial: Trial) -> Trial:
        chance = 1 / (1 + np.exp(-np.clip(features(trial) @ weights, -30, 30)))
        return replace(trial, uncertainty=chance.astype(np.float32))

    return ruled


def temperatures_of(train: Trial) -> list[float]:
    """Return each exit's temperature: at which full depth's own answers are likeliest, on text alone."""
    final = train.logits[-1].argmax(axis=-1)
    grid = np.geomspace(0.4, 4.0, 30)

    def surprise(logits: np.ndarray, temperature: float) -> float:
        scaled = logits / temperature
        top = scaled.max(axis=-1, keepdims=True)
        logs = scaled - top - np.log(np.exp(scaled - top).sum(axis=-1, keepdims=True))
        return -float(logs[np.arange(len(final)), final].mean())

    return [float(min(grid, key=lambda t, one=one: surprise(one, t))) for one in train.logits[:-1]] + [1.0]


Fit = Callable[[float], ExitPolicy]
"""Thresholds that spend least at a price, in points for the whole arithmetic."""


def fitted(trial: Trial) -> Fit:
    """Return what fits thresholds to a trial."""
    options = trial.options()
    return cache(lambda price: trial.like.model_copy(update=search(options, price / 100, MAX_EXITS)._asdict()))


Rows = dict[str, dict[str, tuple[float, float]]]
"""By way and language, flops_share and the points that are lost."""

Way = dict[str, tuple[Rule, Fit]]
"""By language, whose uncertainty is compared with which thresholds."""

PRICES = np.geomspace(0.25, 250, 16).tolist()


def at_equal_loss(judged: dict[str, Trial], way: Way, loss: float) -> dict[str, tuple[float, float]]:
    """Return (flops_share, loss) by language where the zero-shot languages lose `loss` points in the mean.

    Between two prices it is interpolated: as if a share of the texts were answered at the one, the rest at the other.
    """
    trained = next(iter(judged.values())).task.source_languages
    before = dict.fromkeys(judged, (1.0, 0.0))
    for price in PRICES:
        now = {}
        for code, (rule, fit) in way.items():
            found = rule(judged[code]).run(fit(price))
            now[code] = found.flops_share, 100 * (judged[code].plain.score - found.tally.score)
        low, high = (
            np.mean([lost for code, (_, lost) in each.items() if code not in trained]) for each in (before, now)
        )
        if high >= loss:
            part = float((loss - low) / (high - low))
            return {
                code: ((1 - part) * was + part * share, (1 - part) * had + part * lost)
                for (code, (was, had)), (share, lost) in zip(before.items(), now.values(), strict=True)
            }
        before = now
    return before


def compare(texts: Texts, loss: float) -> tuple[Rows, Rows]:
    """Return what is left of the arithmetic at one loss, by thresholds and by criterion."""
    english = next(code for code, one in texts.dev.items() if code in one.task.source_languages)
    usual: Rule = by(texts.dev[english].like.criterion)
    judged = {code: one.halves()[1] for code, one in texts.dev.items()}
    tempered = {code: by(one.like.criterion, temperatures_of(one)) for code, one in texts.text.items()}
    labels, everywhere = fitted(texts.dev[english]), fitted(pooled([*texts.text.values()]))
    own = {code: fitted(one) for code, one in texts.text.items()}
    tempered_labels = fitted(tempered[english](texts.dev[english]))

    def same(fit: Fit) -> Way:
        return dict.fromkeys(judged, (usual, fit))

    def of_each(rule: Callable[[Trial], Rule], among: dict[str, Trial]) -> Way:
        rules = {code: rule(one) for code, one in among.items()}
        return {code: (rules[code], fitted(rules[code](one))) for code, one in among.items()}

    ways = {
        "English labels, everywhere": same(labels),
        "the same, temperatures by language": {code: (tempered[code], tempered_labels) for code in judged},
        "text of all languages, one set": same(everywhere),
        "text, a set a language": {code: (usual, own[code]) for code in judged},
        "text, the most cautious of those": same(lambda price: most_cautious([fit(price) for fit in own.values()])),
        "dev without labels, a set a language": of_each(lambda _: usual, texts.bare),
    }
    named = {name: by(name) for name in ("entropy", "margin", "max_probability")}
    rules: dict[str, Callable[[Trial], Rule]] = {name: lambda _, rule=rule: rule for name, rule in named.items()}
    rules |= {"patience": lambda _: by_patience, "learned": learned}
    return (
        {name: at_equal_loss(judged, way, loss) for name, way in ways.items()},
        {name: at_equal_loss(judged, of_each(rule, texts.text), loss) for name, rule in rules.items()},
    )


def table(title: str, seeds: Sequence[Rows], codes: Sequence[str], trained: Sequence[str]) -> None:
    """Print flops_share, or another share, and the loss in brackets: by language and zero-shot, the mean of seeds."""
    print(f"\n### {title}\n\n| | {' | '.join(codes)} | zero-shot mean |\n|---|{'---:|' * (len(codes) + 1)}")
    zero_shot = [code not in trained for code in codes]
    for name in seeds[0]:
        # [seeds, languages, share and loss]
        found = np.array([[each[name][code] for code in codes] for each in seeds])
        cells = [f"{share:.2f} ({loss:+.2f})" for share, loss in found.mean(axis=0)]
        means = found[:, zero_shot].mean(axis=1)
        spread = f" ± {means[:, 0].std(ddof=1):.3f}" if len(seeds) > 1 else ""
        share, loss = means.mean(axis=0)
        print(f"| {name} | {' | '.join(cells)} | {share:.3f}{spread} ({loss:+.2f}) |", flush=True)


class Held(NamedTuple):
    """What draws of text promised of one language, and what came of it.

    Attributes:
        kind: Of the text.
        code: The language.
        limit: Of disagreement, in points.
        above: Share of draws whose choice disagrees by more on the text that was drawn from.
        above_on_dev: Likewise on dev.
        share: Mean flops_share on dev.
        loss: Mean points lost on dev by the labels.
        lost_more: Share of draws that lose more than the limit.
    """

    kind: str
    code: str
    limit: float
    above: float
    above_on_dev: float
    share: float
    loss: float
    lost_more: float


def hold(texts: Texts, limits: Sequence[float], draws: int, number: int) -> list[Held]:
    """Return how often what calibration chooses for a limit of disagreement exceeds it, and what is really lost.

    Each draw is of so many texts, with replacement; `of_text` then does as in `halfling calibrate`, its halves drawn
    too. Where it refuses so little text, nobody exits.
    """
    found = []
    for kind, trials in (("sentences", texts.text), ("dev without labels", texts.bare)):
        for code, trial in trials.items():
            random = np.random.default_rng(0)
            nobody = trial.like.model_copy(update={"layers": trial.layers[-1:], "thresholds": ()})

            @cache
            def truth(policy: ExitPolicy, trial: Trial = trial, code: str = code) -> tuple[float, ...]:
                outcome, dev = texts.bare[code].run(policy), texts.dev[code]
                there = 100 * float(disagreements(trial.run(policy).tally).mean())
                on_dev = 100 * float(disagreements(outcome.tally).mean())
                return there, on_dev, outcome.flops_share, 100 * (dev.plain.score - dev.run(policy).tally.score)

            outcomes: dict[float, list[tuple[float, ...]]] = {limit: [] for limit in limits}
            for _ in range(draws):
                drawn = trial.some(random.integers(0, len(trial.encoded), number))
                drawn = replace(drawn, learned_from=random.permutation(number) % 2 == 0)
                for limit in limits:
                    try:
                        policy = of_text(Wish("max_disagreement", limit), drawn, None, MAX_EXITS, code).policy
                    except HalflingError:
                        policy = nobody
                    outcomes[limit].append(truth(policy))
            for limit, each in outcomes.items():
                there, on_dev, share, loss = np.array(each).T
                above, above_on_dev, more = (float(np.mean(one > limit)) for one in (there, on_dev, loss))
                found.append(Held(kind, code, limit, above, above_on_dev, share.mean(), loss.mean(), more))
    return found


def promises(found: Sequence[Held], draws: int, number: int) -> None:
    """Print for each kind of text and limit the worst case of all languages and seeds, and who broke a promise."""
    print(
        f"\n### Does the bound hold? {draws} draws of {number} texts\n\n"
        "| text | limit | cases | above it on the same text, % of draws: mean, worst | on dev: mean, worst | "
        "flops_share, loss on dev | loss above the limit, worst |\n|---|" + "---:|" * 6
    )
    for kind, limit in dict.fromkeys((each.kind, each.limit) for each in found):
        some = [each for each in found if (each.kind, each.limit) == (kind, limit)]
        above, on_dev, share, loss, more = 100 * np.array([each[3:] for each in some]).T
        print(
            f"| {kind} | {limit:g} | {len(some)} | {above.mean():.1f}, {above.max():.1f} | {on_dev.mean():.1f}, "
            f"{on_dev.max():.1f} | {share.mean() / 100:.2f}, {loss.mean() / 100:+.2f} | {more.max():.1f} |"
        )
    for each in found:
        if max(each.above, each.above_on_dev) > 1 - CONFIDENCE:
            print(
                f"- {each.kind}, {each.code}, limit {each.limit:g}: above it in {100 * each.above:.1f} % of draws, "
                f"on dev in {100 * each.above_on_dev:.1f} %"
            )


def distances(texts: Texts) -> list[dict[str, tuple[float, float]]]:
    """Return for each exit but the last, by language, its answers that are full depth's, %, and the points it is below.

    As if everybody exited there: no threshold plays a part.
    """
    return [
        {
            code: (
                100 - 100 * float(disagreements(texts.bare[code].tallies[place]).mean()),
                100 * (dev.plain.score - dev.tallies[place].score),
            )
            for code, dev in texts.dev.items()
        }
        for place in range(len(next(iter(texts.dev.values())).layers) - 1)
    ]


class Measured(NamedTuple):
    """What there is to print of one model; lists in the place of tuples where it was read from a file."""

    scores: str
    sets: Rows
    rules: Rows
    held: list[Held]
    exits: list[dict[str, tuple[float, float]]]


def measure(model: Path, given: argparse.Namespace) -> Measured:
    """Return what there is to print of a model, from `--scratch` where the same was measured before."""
    asked = [str(getattr(given, name)) for name in ("text", "sentences", "dev", "loss", "draws", "drawn", "limits")]
    key = hashlib.sha256("\n".join([weights_sha256(model), given.criterion, *asked]).encode()).hexdigest()[:16]
    given.scratch.mkdir(parents=True, exist_ok=True)
    path = given.scratch / f"measured-{key}.json"
    if not path.is_file():
        write_text(path, json.dumps(_measure(model, given)))
    scores, sets, rules, held, exits = json.loads(path.read_text(encoding="utf-8"))
    return Measured(scores, sets, rules, [Held(*each) for each in held], exits)


def _measure(model: Path, given: argparse.Namespace) -> Measured:
    texts = computed(model, given.text, given.sentences, given.dev, given.scratch, given.criterion)
    scores = ", ".join(f"{code} {100 * one.plain.score:.1f} ({len(one.encoded)})" for code, one in texts.dev.items())
    held = hold(texts, given.limits, given.draws, given.drawn)
    return Measured(scores, *compare(texts, given.loss), held, distances(texts))


def main() -> None:
    """Print a table for each question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=2000, help="of each language's text")
    parser.add_argument("--dev", type=int, help="of each language's dev, the first so many; all")
    parser.add_argument("--loss", type=float, default=0.5, help="points, the mean of the zero-shot languages")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--drawn", type=int, default=1000, help="texts of a draw")
    parser.add_argument("--limits", type=float, nargs="*", default=[1.0, 2.0, 5.0], help="of disagreement, points")
    parser.add_argument("--jobs", type=int, default=1, help="models at a time")
    parser.add_argument("--criterion", default="margin", choices=[*PER_ANSWER], help="where it is not the question")
    parser.add_argument("--scratch", type=Path, default=Path("runs/thresholds"))
    given = parser.parse_args()
    of_task: dict[str, list[Path]] = {}
    for model in given.models:
        of_task.setdefault(task_of(model).name, []).append(model)
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        found = {name: [pool.submit(measure, model, given) for model in models] for name, models in of_task.items()}
        for name, models in of_task.items():
            task, seeds = task_of(models[0]), [one.result() for one in found[name]]
            for model, one in zip(models, seeds, strict=True):
                print(f"\n{name}, {model.name}, native int8, without exits: {one.scores}")
            said = f"flops_share (loss in points), {given.loss} points lost in the mean, {len(models)} seeds"
            for title, rows in (
                (f"which thresholds, by {given.criterion}", [one.sets for one in seeds]),
                ("which criterion, a set a language from text", [one.rules for one in seeds]),
            ):
                table(f"{name}: {title}: {said}", rows, task.languages, task.source_languages)
            of_exits: list[Rows] = [{f"exit {n}": one for n, one in enumerate(each.exits, 1)} for each in seeds]
            far = "answers that are full depth's, % (points below it), if all exited there"
            table(f"{name}: {far}, {len(models)} seeds", of_exits, task.languages, task.source_languages)
            promises([each for one in seeds for each in one.held], given.draws, given.drawn)


if __name__ == "__main__":
    main()
