"""Which thresholds for which language, and which exit criterion: real models, whole dev, loss and arithmetic.

    python benchmarks/thresholds.py runs/real/exits/*-wikiann-* --text ../shared/data/cc100-mini

A model is an early-exit model's folder with its task's data. Models of one task are its seeds: what is printed is their
mean. Each is exported, and every exit computed once in the
native engine on one thread, on dev and on text without labels; what follows is arithmetic on these logits, which
`--scratch` keeps.

Two kinds of text without labels are held against each other: sentences of `--text` (`calibrate.text`: as long as
English dev's; for pairs, neighbours), and dev itself without its labels. Labels of other languages are read for the
tables alone, English ones where thresholds are said to be of English labels.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from halfling.calibrate.agreement import as_answered
from halfling.calibrate.search import Options, search, taken
from halfling.calibrate.text import read_text
from halfling.cost.flops import Head, flops
from halfling.engine import AdaptiveEngine
from halfling.engine.exported import EXPORTED
from halfling.exits.bound import CONFIDENCE, p_value
from halfling.exits.criteria import PER_ANSWER, Doubt, pool_tokens
from halfling.exits.policy import ExitPolicy, most_cautious
from halfling.export.write import ExportSettings, export
from halfling.files import whole_file
from halfling.models.classifier import read_checkpoint
from halfling.models.load import load_tokenizer, weights_sha256
from halfling.tasks.encode import encode
from halfling.tasks.examples import Example, read_examples
from halfling.tasks.of_model import task_of
from halfling.tasks.predict import answers
from halfling.tasks.score import tally
from halfling.tasks.task import Task

MAX_TOKENS = 128


class Texts(NamedTuple):
    """Texts of one language as every exit answers them; the first axis of most is the exit, the last one full depth.

    Attributes:
        lengths: Tokens of each text.
        counts: Answers of each text.
        logits: [exits, answers, classes], one text's answers after the other.
        gold: [exits, 2, texts], the two sides of the score by the labels (zeros where there are none).
        agree: Likewise, by full depth's own answers.
    """

    lengths: np.ndarray
    counts: np.ndarray
    logits: np.ndarray
    gold: np.ndarray
    agree: np.ndarray


def computed(model: Path, text: Path, number: int, most: int | None, scratch: Path) -> dict[tuple[str, str], Texts]:
    """Return the texts of a model by kind ("dev", "text") and language, from `scratch` where they were computed."""
    task = task_of(model)
    folder = scratch / f"{task.name}-{weights_sha256(model)[:12]}-{most or 'all'}-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for key in [(kind, code) for kind in ("dev", "text") for code in task.languages]:
        path = folder / f"{'-'.join(key)}.npz"
        if not path.is_file():
            values = _compute(model, task, *key, text, number, most, exported_at(model, scratch))
            with whole_file(path) as partial, partial.open("wb") as file:
                np.savez(file, **values._asdict())
        with np.load(path) as file:
            found[key] = Texts(**file)
    return found


def exported_at(model: Path, scratch: Path) -> Path:
    """Return where a model's export lies."""
    return scratch / f"exported-{weights_sha256(model)[:12]}"


def _compute(
    model: Path, task: Task, kind: str, code: str, text: Path, number: int, most: int | None, exported: Path
) -> Texts:
    tokenizer, engine, layers = _loaded(model, exported)
    if kind == "dev":
        examples = read_examples(task, "dev", code)[:most]
    else:
        like = read_examples(task, "dev", task.source_languages[0])
        examples = read_text(text, code, task.kind, like, tokenizer, number, seed=0)
    encoded = encode(examples, tokenizer, MAX_TOKENS)
    policy = ExitPolicy.uniform(layers, 0.5)  # any threshold: where texts leave is imposed
    per_exit = [[one.logits for one in engine.answer(encoded, [layer] * len(encoded), policy)] for layer in layers]
    itself = as_answered(task, examples, encoded, per_exit[-1])
    named = [answers(one, encoded, task.labels, _words(examples)) for one in per_exit]
    by_itself = [tally(task, itself, one) for one in named]
    by_labels = [tally(task, examples, one) for one in named] if kind == "dev" else by_itself
    print(f"{task.name} {kind} {code}: {len(examples)} texts", file=sys.stderr, flush=True)
    return Texts(
        np.array([len(one.ids) for one in encoded]),
        np.array([len(one.picked) for one in encoded]),
        np.array([np.concatenate(one) for one in per_exit]),
        np.array([(one.above, one.below) for one in by_labels]) * (kind == "dev"),
        np.array([(one.above, one.below) for one in by_itself]),
    )


@cache
def _loaded(model: Path, exported: Path) -> tuple[Any, AdaptiveEngine, tuple[int, ...]]:
    if not (exported / EXPORTED).is_file():
        exported.mkdir(exist_ok=True)
        export(settings=ExportSettings(), model=model, out=exported)
    layers = read_checkpoint(model).exit_layers
    return load_tokenizer(model), AdaptiveEngine.from_pretrained(exported, "native", 1), tuple(layers)


def _words(examples: Sequence[Example]) -> list[int] | None:
    return [len(one.words) for one in examples if hasattr(one, "words")] or None


class World(NamedTuple):
    """The texts of one language and kind, with what exits cost there.

    Attributes:
        texts: As computed.
        spent: [exits, texts], the encoder's share of the arithmetic without exits until an exit.
        head: Share of one classifier, of each text.
    """

    texts: Texts
    spent: np.ndarray
    head: np.ndarray

    def of(self, rows: np.ndarray) -> "World":
        """Return the same of some texts."""
        one, picked = self.texts, np.repeat(rows, self.texts.counts)
        part = Texts(
            one.lengths[rows], one.counts[rows], one.logits[:, picked], one.gold[..., rows], one.agree[..., rows]
        )
        whole = (self.spent[-1] + self.head)[rows].sum()
        return World(part, self.spent[:, rows] / whole, self.head[rows] / whole)


def world(texts: Texts, engine: AdaptiveEngine) -> World:
    """Return texts with their costs."""
    shape, kind = engine.exported.shape, engine.exported.kind
    head = Head(kind=kind, num_classes=len(engine.exported.labels))
    layers = EXITS
    table = {
        length: [flops(shape, [length], [layer]).total for layer in layers]
        + [flops(shape, [length], [layers[-1]], head).heads]
        for length in {*texts.lengths.tolist()}
    }
    each = np.array([table[length] for length in texts.lengths.tolist()], float).T
    whole = (each[-2] + each[-1]).sum()
    return World(texts, each[:-1] / whole, each[-1] / whole)


def pooled(worlds: Sequence[World]) -> World:
    """Return several worlds as one, each language with the same share of the arithmetic."""
    texts = Texts(
        *(np.concatenate([getattr(one.texts, name) for one in worlds], axis=-1) for name in ("lengths", "counts")),
        np.concatenate([one.texts.logits for one in worlds], axis=1),
        *(np.concatenate([getattr(one.texts, name) for one in worlds], axis=-1) for name in ("gold", "agree")),
    )
    spent, head = (np.concatenate([one[n] for one in worlds], axis=-1) / len(worlds) for n in (1, 2))
    return World(texts, spent, head)


Unsure = Callable[[World], np.ndarray]
"""The uncertainty of every text at every exit."""


def by_rule(name: str, temperatures: Sequence[float] = ()) -> Unsure:
    """Return the uncertainty by an exit criterion, each exit's logits divided by its temperature where given."""

    def unsure(one: World) -> np.ndarray:
        divided = one.texts.logits / np.array([*temperatures, *[1.0] * len(EXITS)])[: len(EXITS), None, None]
        counts = None if TAGGING is False else one.texts.counts
        each = [PER_ANSWER[name](logits.astype(np.float32)) for logits in divided]
        return np.array([row if counts is None else pool_tokens(row, counts, "mean") for row in each])

    return unsure


def by_patience(one: World) -> np.ndarray:
    """Return one minus the exits in a row that confirmed an answer, over their number."""
    doubt = Doubt(ExitPolicy.uniform(EXITS, 0.1, criterion="patience", patience=len(EXITS) - 1))
    return np.array([doubt(logits, one.texts.counts if TAGGING else None) for logits in one.texts.logits])


def features(one: World) -> np.ndarray:
    """Return what the learned criterion reads, [exits, texts, features]: entropy, margin, depth, length."""
    entropy, margin = by_rule("entropy")(one), by_rule("margin")(one)
    length = np.broadcast_to(np.log(one.texts.lengths), entropy.shape)
    depths = np.broadcast_to(np.eye(len(EXITS))[:, None], (*entropy.shape, len(EXITS)))
    return np.concatenate([np.stack([entropy, margin, np.sqrt(entropy), length], axis=-1), depths], axis=-1)


def learned(train: World) -> Unsure:
    """Return the probability that an exit disagrees with full depth, by a logistic model fitted to text alone."""
    read = features(train)[:-1].reshape(-1, 4 + len(EXITS))
    above, below = train.texts.agree[:-1, 0].ravel(), train.texts.agree[:-1, 1].ravel()
    wrong = np.where(below > 0, 1 - above / np.maximum(below, 1), 0.0)
    weights = np.zeros(read.shape[1])
    for _ in range(30):  # Newton's steps, with a small ridge
        chance = 1 / (1 + np.exp(-np.clip(read @ weights, -30, 30)))
        slope = read.T @ (chance - wrong) + 1e-2 * weights
        bend = (read * (chance * (1 - chance))[:, None]).T @ read + 1e-2 * np.eye(len(weights))
        weights -= np.linalg.solve(bend, slope)
    return lambda one: 1 / (1 + np.exp(-np.clip(features(one) @ weights, -30, 30)))


def few(one: World, most: int = 3000) -> World:
    """Return some of the texts, which thresholds are fitted to."""
    return one.of(np.random.default_rng([0, 4]).permutation(len(one.texts.lengths)) < most)


def temperatures_of(train: World) -> list[float]:
    """Return each exit's temperature: at which full depth's own answers are likeliest, on text alone."""
    final = train.texts.logits[-1].argmax(axis=-1)
    grid = np.geomspace(0.4, 4.0, 30)

    def surprise(logits: np.ndarray, temperature: float) -> float:
        scaled = logits / temperature
        top = scaled.max(axis=-1, keepdims=True)
        logs = scaled - top - np.log(np.exp(scaled - top).sum(axis=-1, keepdims=True))
        return -float(logs[np.arange(len(final)), final].mean())

    return [float(min(grid, key=lambda t, one=one: surprise(one, t))) for one in train.texts.logits[:-1]] + [1.0]


class Set(NamedTuple):
    """Thresholds in use: which exits (0-based, the last included), and one for each but the last."""

    places: tuple[int, ...]
    thresholds: tuple[float, ...]


def fit(one: World, unsure: Unsure, price: float, side: str) -> Set:
    """Return thresholds that spend least at a price (points for the whole arithmetic), by labels or by agreement."""
    above, below = np.moveaxis(getattr(one.texts, side), 1, 0)
    whole = max(below[-1].sum(), 1.0)
    score = above[-1].sum() / whole
    gain = (above - score * below) / whole
    read = unsure(one).astype(np.float32)
    found = search(Options(tuple(range(len(EXITS))), read, gain, one.spent, one.head), price / 100, 3)
    return Set(found.layers, found.thresholds)


def exits_taken(one: World, unsure: np.ndarray, chosen: Set) -> tuple[np.ndarray, float]:
    """Return the exit that each text takes, and the arithmetic of all."""
    at = taken(unsure[[*chosen.places]], chosen.thresholds)
    places = np.array(chosen.places)[at]
    rows = np.arange(len(places))
    return places, float((one.spent[places, rows] + (at + 1) * one.head).sum())


def lost(one: World, places: np.ndarray, side: str = "gold") -> float:
    """Return the points of the score that exits lose, by labels, or of agreement with full depth."""
    above, below = np.moveaxis(getattr(one.texts, side), 1, 0)
    rows = np.arange(len(places))
    return 100 * float(above[-1].sum() / below[-1].sum() - above[places, rows].sum() / below[places, rows].sum())


def disagreeing(one: World, places: np.ndarray) -> np.ndarray:
    """Return each text's disagreement with full depth, NaN where neither finds a span."""
    above, below = (one.texts.agree[places, side, np.arange(len(places))] for side in (0, 1))
    return np.where(below > 0, 1 - above / np.maximum(below, 1), np.nan)


Rows = dict[str, dict[str, tuple[float, float]]]
"""By way and language, flops_share and the points that are lost."""

PRICES = np.geomspace(0.25, 250, 16)


def at_equal_loss(
    dev: dict[str, World], ways: Callable[[float], dict[str, tuple[Unsure, Set]]], loss: float
) -> dict[str, tuple[float, float]]:
    """Return (flops_share, loss) by language where the zero-shot languages lose `loss` points in the mean.

    Between two prices it is interpolated: as if a share of the texts were answered at the one, the rest at the other.
    """
    zero_shot = [code for code in dev if code not in TRAINED]
    before = dict.fromkeys(dev, (1.0, 0.0))
    read: dict[tuple[str, Unsure], np.ndarray] = {}
    for price in PRICES:
        now = {}
        for code, (unsure, chosen) in ways(float(price)).items():
            if (code, unsure) not in read:
                read[code, unsure] = unsure(dev[code]).astype(np.float32)
            places, share = exits_taken(dev[code], read[code, unsure], chosen)
            now[code] = share, lost(dev[code], places)
        low, high = (np.mean([each[code][1] for code in zero_shot]) for each in (before, now))
        if high >= loss:
            part = (loss - low) / (high - low)
            return {
                code: tuple((1 - part) * a + part * b for a, b in zip(before[code], now[code], strict=True))
                for code in dev
            }
        before = now
    return before


def table(title: str, seeds: Sequence[Rows], codes: Sequence[str]) -> None:
    """Print flops_share, and the loss in brackets, by language and in the zero-shot mean, of all seeds the mean."""
    print(f"\n### {title}\n\n| | {' | '.join(codes)} | zero-shot mean |\n|---|{'---:|' * (len(codes) + 1)}")
    zero_shot = [code not in TRAINED for code in codes]
    for name in seeds[0]:
        # [seeds, languages, share and loss]
        found = np.array([[each[name][code] for code in codes] for each in seeds])
        cells = [f"{share:.2f} ({loss:+.2f})" for share, loss in found.mean(axis=0)]
        means = found[:, zero_shot].mean(axis=1)
        spread = f" ± {means[:, 0].std(ddof=1):.3f}" if len(seeds) > 1 else ""
        share, loss = means.mean(axis=0)
        print(f"| {name} | {' | '.join(cells)} | {share:.3f}{spread} ({loss:+.2f}) |", flush=True)


def same(codes: Sequence[str], unsure: Unsure, chosen: Set) -> dict[str, tuple[Unsure, Set]]:
    """Return one set for all languages."""
    return dict.fromkeys(codes, (unsure, chosen))


def compare(dev: dict[str, World], text: dict[str, World], loss: float, criterion: str) -> tuple[Rows, Rows]:
    """Return what is left of the arithmetic at one loss, by thresholds and by criterion."""
    codes, usual = [*dev], by_rule(criterion)
    some = {code: few(one) for code, one in dev.items()}
    english = next(code for code in codes if code in TRAINED)
    everywhere = pooled([*text.values()])
    tempered = {code: by_rule(criterion, temperatures_of(one)) for code, one in text.items()}

    def of_each(texts: dict[str, World], unsure: Callable[[World], Unsure]) -> Callable[[float], Any]:
        rules = {code: unsure(one) for code, one in texts.items()}
        return lambda price: {code: (rules[code], fit(texts[code], rules[code], price, "agree")) for code in codes}

    def cautious(price: float) -> dict[str, tuple[Unsure, Set]]:
        sets = [fit(text[code], usual, price, "agree") for code in codes]
        whole = most_cautious(
            [ExitPolicy(layers=tuple(p + 1 for p in s.places), thresholds=s.thresholds) for s in sets]
        )
        return same(codes, usual, Set(tuple(layer - 1 for layer in whole.layers), whole.thresholds))

    def tempered_english(price: float) -> dict[str, tuple[Unsure, Set]]:
        chosen = fit(some[english], tempered[english], price, "gold")
        return {code: (tempered[code], chosen) for code in codes}

    ways = {
        "English labels, everywhere": lambda p: same(codes, usual, fit(some[english], usual, p, "gold")),
        "the same, temperatures by language": tempered_english,
        "text of all languages, one set": lambda p: same(codes, usual, fit(everywhere, usual, p, "agree")),
        "text, a set a language": of_each(text, lambda _: usual),
        "text, the most cautious of those": cautious,
        "dev without labels, a set a language": of_each(some, lambda _: usual),
    }
    rules: dict[str, Callable[[World], Unsure]] = {
        name: lambda _, name=name: by_rule(name) for name in ("entropy", "margin", "max_probability")
    }
    rules |= {"patience": lambda _: by_patience, "learned": learned}
    return (
        {name: at_equal_loss(dev, way, loss) for name, way in ways.items()},
        {name: at_equal_loss(dev, of_each(text, rule), loss) for name, rule in rules.items()},
    )


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


def hold(
    dev: dict[str, World], text: dict[str, World], limits: Sequence[float], draws: int, number: int, criterion: str
) -> list[Held]:
    """Return how often what was chosen for a limit of disagreement exceeds the limit, and what is really lost."""
    usual, found = by_rule(criterion), []
    for kind, worlds in (("sentences", text), ("dev without labels", dev)):
        for code, one in worlds.items():
            half = np.random.default_rng([0, 3]).permutation(len(one.texts.lengths)) % 2 == 0
            fitted, held = few(one.of(half)), one.of(~half)
            judged = held if kind.startswith("dev") else dev[code]
            candidates = [fit(fitted, usual, float(price), "agree") for price in PRICES]
            candidates = [each for each in dict.fromkeys(candidates) if each.thresholds]
            closer = [
                Set(each.places, tuple(t * 0.75**step for t in each.thresholds))
                for each in candidates[:3]
                for step in range(1, 6)
            ]
            read = [usual(each).astype(np.float32) for each in (fitted, held, judged)]
            tried = []
            for chosen in (*candidates, *closer):
                estimate = np.nanmean(disagreeing(fitted, exits_taken(fitted, read[0], chosen)[0]))
                losses = disagreeing(held, exits_taken(held, read[1], chosen)[0])
                places, share = exits_taken(judged, read[2], chosen)
                dev_losses = disagreeing(judged, places)
                tried.append((estimate, losses, np.nanmean(dev_losses), share, lost(judged, places)))
            tried.sort(key=lambda each: each[0])
            for limit in limits:
                random, outcomes = np.random.default_rng(0), []
                for _ in range(draws):
                    rows = random.integers(0, len(held.texts.lengths), number)
                    last = None
                    for each in tried:
                        drawn = each[1][rows]
                        if p_value(drawn[~np.isnan(drawn)], limit / 100) > 1 - CONFIDENCE:
                            break
                        last = each
                    outcomes.append((0.0, 0.0, 1.0, 0.0) if last is None else (np.nanmean(last[1]), *last[2:]))
                true, there, share, real = np.array(outcomes).T
                above, on_dev, more = (np.mean(each > limit) for each in (100 * true, 100 * there, real))
                found.append(Held(kind, code, limit, above, on_dev, share.mean(), real.mean(), more))
    return found


def promises(found: Sequence[Held], draws: int, number: int) -> None:
    """Print for each kind of text and limit the worst case of all languages and seeds, and who broke a promise."""
    print(
        f"\n### Does the bound hold? {draws} draws of {number} texts bound what the other half was fitted to\n\n"
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


EXITS: tuple[int, ...] = ()
TAGGING = False
TRAINED: tuple[str, ...] = ()


def main() -> None:
    """Print a table for each question."""
    global EXITS, TAGGING, TRAINED
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--sentences", type=int, default=2000, help="of each language's text")
    parser.add_argument("--dev", type=int, help="of each language's dev, the first so many; all")
    parser.add_argument("--loss", type=float, default=0.5, help="points, the mean of the zero-shot languages")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--criterion", default="margin", choices=[*PER_ANSWER], help="where it is not the question")
    parser.add_argument("--scratch", type=Path, default=Path("runs/thresholds"))
    given = parser.parse_args()
    number = min(500, given.sentences // 2)
    of_task: dict[str, list[Path]] = {}
    for model in given.models:
        of_task.setdefault(task_of(model).name, []).append(model)
    for name, models in of_task.items():
        sets, rules, held = list[Rows](), list[Rows](), list[Held]()
        for model in models:
            task = task_of(model)
            found = computed(model, given.text, given.sentences, given.dev, given.scratch)
            _, engine, EXITS = _loaded(model, exported_at(model, given.scratch))
            TAGGING, TRAINED = task.kind == "tagging", task.source_languages
            worlds = {key: world(texts, engine) for key, texts in found.items()}
            dev, text = ({code: worlds[kind, code] for code in task.languages} for kind in ("dev", "text"))
            score = {code: one.texts.gold[-1, 0].sum() / one.texts.gold[-1, 1].sum() for code, one in dev.items()}
            print(f"\n{name}, {model.name}, native int8, without exits: ", end="")
            print(", ".join(f"{code} {100 * value:.1f} ({len(dev[code].head)})" for code, value in score.items()))
            for rows, more in zip((sets, rules), compare(dev, text, given.loss, given.criterion), strict=True):
                rows.append(more)
            held += hold(dev, text, (1.0, 2.0, 5.0), given.draws, number, given.criterion)
        said = f"flops_share (loss in points), {given.loss} points lost in the mean, {len(models)} seeds"
        table(f"{name}: which thresholds, by {given.criterion}: {said}", sets, [*dev])
        table(f"{name}: which criterion, a set a language from text: {said}", rules, [*dev])
        promises(held, given.draws, number)


if __name__ == "__main__":
    main()
