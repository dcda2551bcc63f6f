"""WikiANN in XTREME's split (PAN-X): names of people, organisations and places in Wikipedia's sentences.

Sources: https://aclanthology.org/P17-1178 (data), https://arxiv.org/abs/2003.11080 (split).
"""

from dataclasses import dataclass
from pathlib import Path

from halfling.errors import HalflingError
from halfling.languages import task_name
from halfling.tasks.sources import Split, hub_label_ids, hub_split, label_id, labelled_file, numbered_lines

LABELS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")
"""IOB2 tags in the order of their numbers, the hub data set's own."""

OUTSIDE = 0
"""The number of O."""

HUB_ID = "unimelb-nlp/wikiann"


@dataclass(frozen=True, slots=True)
class NerExample:
    """A sentence; `tags` holds a number into `LABELS` for each token."""

    tokens: tuple[str, ...]
    tags: tuple[int, ...]


def read_wikiann(source: str | Path, split: Split, language: str) -> list[NerExample]:
    """Return a split of WikiANN, in the order of the data.

    Args:
        source: A data folder with `panx/{split}-{language}.tsv.xz` (a token, a tab and its tag a line, a
            blank line between sentences), a folder in the hub data set's form, or "hub".
        split: Train is English only.
        language: CC100's code; the data has its own name for it.

    Raises:
        HalflingError: Something is missing, truncated, malformed or outside the tag scheme.
    """
    name = task_name("wikiann", language)
    file = labelled_file(source, "panx", split, name)
    return _read_hub(source, split, name) if file is None else _read_file(file)


def _read_file(path: Path) -> list[NerExample]:
    sentences: list[list[tuple[str, int]]] = [[]]
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        match line.split("\t"):
            case [""]:
                sentences.append([])
            case [token, tag] if token:
                sentences[-1].append((token, label_id(tag, LABELS, where)))
            case _:
                raise HalflingError(f"{where}: malformed: expected a token, a tab and a tag, found {line[:60]!r}")
    # The last sentence may or may not be closed by a blank line.
    examples = [
        NerExample(tuple(token for token, _ in sentence), tuple(tag for _, tag in sentence))
        for sentence in sentences
        if sentence
    ]
    if not examples:
        raise HalflingError(f"{path}: empty: expected labelled sentences")
    return examples


def _read_hub(source: str | Path, split: Split, language: str) -> list[NerExample]:
    data = hub_split(source, HUB_ID, split, language)
    where = f"{HUB_ID if str(source) == 'hub' else source}, {language} {split}"
    ids = hub_label_ids(data, "ner_tags", LABELS, where)
    if "tokens" not in data.column_names:
        raise HalflingError(f"{where}: no column 'tokens': this is not WikiANN's form")
    columns = data[:]
    examples = []
    for number, (tokens, tags) in enumerate(zip(columns["tokens"], columns["ner_tags"], strict=True)):
        if len(tokens) != len(tags):
            raise HalflingError(f"{where}: row {number} has {len(tokens)} tokens and {len(tags)} tags")
        if tokens:
            examples.append(NerExample(tuple(tokens), tuple(ids[tag] for tag in tags)))
    if not examples:
        raise HalflingError(f"{where}: empty: expected labelled sentences")
    return examples
