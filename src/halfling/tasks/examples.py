"""Examples of a task, read from its sources: labels are names, never numbers."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from halfling.errors import HalflingError
from halfling.tasks.tables import Rows, read_rows
from halfling.tasks.tags import OUTSIDE, as_iob2, fitted, is_prefixed, scheme_of
from halfling.tasks.task import Kind, Split, Task

USUAL = {
    "text": ("text", "sentence", "utterance", "premise", "sentence1", "content", "query", "question"),
    "text_pair": ("text_pair", "hypothesis", "sentence2", "text2"),
    "words": ("tokens", "words"),
    "label": ("label", "labels", "intent", "category", "class", "topic", "ner_tags", "tags", "tag"),
}
"""The names under which columns are looked for, the first that is there."""

_HELD_OUT_EVERY = 10


class TextExample(NamedTuple):
    """A text, or a pair of texts, and its class."""

    text: str
    text_pair: str | None
    label: str


class TaggedExample(NamedTuple):
    """The words of a sentence and a tag for each, spans in IOB2."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


Example = TextExample | TaggedExample


class Labelled(NamedTuple):
    """What one source holds."""

    examples: list[Example]
    scheme: str | None
    classes: tuple[str, ...] | None


def read_examples(task: Task, split: Split, language: str) -> list[Any]:
    """Return a split of a task in the order of the data.

    Raises:
        HalflingError: There is none, something in it is missing or malformed, or a label is none of the task's.
    """
    if language in task.held and (split == "train" or language not in task.dev):
        every = _read(task.source("train", language), task).examples
        held = [number % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1 for number in range(len(every))]
        if split == "dev" and not any(held):
            raise HalflingError(
                f"task {task.name}: {len(every)} training examples in {language!r} are too few to hold out every "
                f"tenth as dev: give more, or --dev {language}=FILE"
            )
        return [one for one, dev in zip(every, held, strict=True) if dev == (split == "dev")]
    return _read(task.source(split, language), task).examples


def dev_examples(task: Task, languages: Sequence[str], most: int | None = None) -> dict[str, list[Any]]:
    """Return the first examples of each language's dev split.

    Raises:
        HalflingError: There is no language, or one has no dev split.
    """
    if not languages:
        raise HalflingError(f"task {task.name}: no dev data: give them with --dev FILE")
    return {language: read_examples(task, "dev", language)[:most] for language in languages}


def understood(task: Task) -> Task:
    """Return a task with nothing left open: its kind, labels and metric follow from the training split.

    Raises:
        HalflingError: There are no data to tell them, or labels that do not fit.
    """
    kind, known = task.kind, task.labels
    sources = [*task.train.values()] or [*task.dev.values()]
    if kind is None or known is None:
        if not sources:
            raise HalflingError(f"task {task.name}: no data to tell its labels: give --train FILE")
        read = [_read(source, task) for source in sources]
        kind = kind or _kind(read[0].examples[0])
        known = known or _labels(kind, read)
    if len(known) < 2:
        raise HalflingError(f"task {task.name}: one label alone, {known[0]!r}: nothing to learn, give data with two")
    spans = kind == "tagging" and (OUTSIDE in known or is_prefixed(known))
    metric = task.metric or ("span F1" if spans else "accuracy")
    if (metric == "span F1") != spans and (metric == "span F1" or kind == "tagging"):
        raise HalflingError(f"task {task.name}: metric {metric} does not fit its labels {', '.join(known)}")
    return task.model_copy(update={"kind": kind, "labels": tuple(known), "metric": metric})


def describe(task: Task) -> dict[str, Any]:
    """Return what a task's data were understood to be: for `halfling tasks show`."""
    whole = understood(task)
    known = whole.labels or ()
    splits: dict[str, Any] = {}
    shown: list[dict[str, Any]] = []
    for split in ("train", "dev"):
        for language in whole.languages if split == "dev" else getattr(whole, split):
            examples = read_examples(whole, split, language)
            shown = shown or [one._asdict() for one in examples[:3]]
            source = getattr(whole, split).get(language) or whole.train[language]
            labels = Counter(
                label for one in examples for label in (one.tags if isinstance(one, TaggedExample) else [one.label])
            )
            splits[f"{split} {language}"] = {
                "source": source,
                "examples": len(examples),
                "scheme": _read(source, whole).scheme,
                "labels": {label: labels[label] for label in (*known, *sorted({*labels} - {*known}))},
            }
    return {"task": whole, "splits": splits, "examples": shown}


def _kind(first: Example) -> Kind:
    if isinstance(first, TaggedExample):
        return "tagging"
    return "text_classification" if first.text_pair is None else "pair_classification"


def _labels(kind: Kind, read: Sequence[Labelled]) -> tuple[str, ...]:
    """Return the classes: as the data set declares them, else sorted; of spans O, then B- and I- of each type."""
    declared = read[0].classes
    if kind != "tagging":
        found = {one.label for each in read for one in each.examples if isinstance(one, TextExample)}
        if declared and found <= {*declared}:
            return declared
        numbers = all(label.removeprefix("-").isdecimal() for label in found)
        return tuple(sorted(found, key=lambda label: (int(label) if numbers else 0, label)))
    tags = {tag for each in read for one in each.examples if isinstance(one, TaggedExample) for tag in one.tags}
    if declared and tags <= {*declared} and all(f"I{tag[1:]}" in declared for tag in tags if tag.startswith("B-")):
        return declared
    if not any(tag.startswith(("B-", "I-")) for tag in tags):
        return tuple(sorted(tags))
    types = sorted({tag[2:] for tag in tags if tag != OUTSIDE})
    return (OUTSIDE, *(f"{prefix}-{kind}" for kind in types for prefix in "BI"))


def _read(source: str, task: Task) -> Labelled:
    rows = read_rows(source, task)
    words = _column(rows, task, "words", task.kind == "tagging")
    if words is not None and task.kind in (None, "tagging"):
        return _tagged(rows, words, task)
    text = _column(rows, task, "text", True)
    pair = _column(rows, task, "text_pair", task.kind == "pair_classification")
    label = _column(rows, task, "label", True)
    if task.kind == "text_classification" and task.text_pair is None:
        pair = None
    assert text is not None
    assert label is not None
    examples: list[TextExample] = []
    pairs = rows.columns[pair] if pair else [None] * len(rows.columns[text])
    for number, (one, two, given) in enumerate(
        zip(rows.columns[text], pairs, rows.columns[label], strict=True), start=1
    ):
        where = f"{rows.where}, row {number}"
        if isinstance(given, list):
            raise HalflingError(f"{where}: several labels a text ({given!r}): halfling learns one label a text")
        _require(one, text, where)
        if pair:
            _require(two, pair, where)
        examples.append(TextExample(one, two, _label(given, label, where)))
    if not examples:
        raise HalflingError(f"{rows.where}: empty: expected labelled examples")
    if task.labels:
        found = [one.label for one in examples]
        _require_known(rows, (None if label in task.labels else label for label in found), found, task.labels)
    return Labelled([*examples], None, rows.classes.get(label))


def _tagged(rows: Rows, words: str, task: Task) -> Labelled:
    label = "tags" if rows.kind_of_row == "sentence" else _column(rows, task, "label", True)
    assert label is not None
    sentences: list[tuple[tuple[str, ...], list[str]]] = []
    for number, (some, tags) in enumerate(zip(rows.columns[words], rows.columns[label], strict=True), start=1):
        where = f"{rows.where}, {rows.kind_of_row} {number}"
        if not isinstance(some, list) or not isinstance(tags, list) or len(some) != len(tags):
            raise HalflingError(
                f"{where}: expected a list of words and as many tags, found {some!r} and {tags!r}"[:300]
            )
        if not all(isinstance(word, str) for word in some):
            raise HalflingError(f"{where}: no {words}: {some!r} holds what is no text"[:300])
        if some:
            sentences.append((tuple(some), [_label(tag, label, where) for tag in tags]))
    if not sentences:
        raise HalflingError(f"{rows.where}: empty: expected labelled sentences")
    try:
        scheme = scheme_of(tags for _, tags in sentences)
    except ValueError as error:
        raise HalflingError(f"{rows.where}: {error}") from error
    kept = scheme in ("tags", "IOB2")
    examples = [
        TaggedExample(some, tuple(tags if kept else as_iob2(tags, prefixed=scheme != "types")))
        for some, tags in sentences
    ]
    if task.labels:
        strange = (_misfit(one.tags, task.labels) for one in examples)
        _require_known(rows, strange, (tag for one in examples for tag in one.tags), task.labels)
    return Labelled([*examples], scheme, rows.classes.get(label))


def _require_known(rows: Rows, strange: Iterable[str | None], found: Iterable[str], labels: Sequence[str]) -> None:
    """Refuse a label that is none of the task's, the `strange` one of its row; both sets are named."""
    for number, label in enumerate(strange, start=1):
        if label is not None:
            raise HalflingError(
                f"{rows.where}, {rows.kind_of_row} {number}: label {label!r} is none of the task's "
                f"({', '.join(labels)}); the data have {', '.join(sorted({*found}))[:300]}"
            )


def _misfit(tags: Sequence[str], labels: Sequence[str]) -> str | None:
    """Return the first tag for which a model with these labels has no word, None if it has one for each."""
    return next((tag for tag, own in zip(tags, fitted(tags, labels), strict=True) if own is None), None)


def _column(rows: Rows, task: Task, what: str, needed: bool) -> str | None:
    """Return the name of a column: as the task says, else the first usual one that is there."""
    named = getattr(task, what)
    if rows.kind_of_row == "sentence":  # CoNLL, whose columns have numbers
        return what if what == "words" else None
    if named is not None and named not in rows.columns:
        raise HalflingError(f"{rows.where}: no column {named!r}: there are {', '.join(rows.columns)}")
    found = named or next((name for name in USUAL[what] if name in rows.columns), None)
    if found is None and needed:
        raise HalflingError(
            f"{rows.where}: no column of the {what}: there are {', '.join(rows.columns)}: "
            f"say which with --{what.replace('_', '-')} NAME"
        )
    return found


def _require(text: Any, column: str, where: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise HalflingError(f"{where}: no {column}: {text!r} is no text")


def _label(value: Any, column: str, where: str) -> str:
    """Return the name of a label; a number that stands for none, or what is neither name nor number, is refused."""
    if isinstance(value, str) and value.strip():
        return value
    if type(value) is int and value not in (-1, -100):
        return str(value)
    # `true` is "True" in one library and "true" in the next, 1.0 is "1" in another file.
    named_otherwise = isinstance(value, bool | float) and value == value
    why = "write names or whole numbers" if named_otherwise else "label every example, or name another split"
    raise HalflingError(f"{where}: no {column}: {value!r} is no label: {why}"[:300])
