"""XNLI: does a premise entail a hypothesis, contradict it, or neither (https://arxiv.org/abs/1809.05053)."""

from dataclasses import dataclass
from pathlib import Path

from halfling.errors import HalflingError
from halfling.languages import task_name
from halfling.tasks.sources import Split, hub_label_ids, hub_split, label_id, labelled_file, numbered_lines

LABELS = ("entailment", "neutral", "contradiction")
"""In the order of their numbers, the hub data set's own."""

HUB_ID = "facebook/xnli"


@dataclass(frozen=True, slots=True)
class NliExample:
    """A pair of sentences; `label` is a number into `LABELS`."""

    premise: str
    hypothesis: str
    label: int


def read_xnli(source: str | Path, split: Split, language: str) -> list[NliExample]:
    """Return a split of XNLI, in the order of the data.

    Args:
        source: A data folder with `xnli/{split}-{language}.tsv.xz` (premise, hypothesis and label between
            tabs, no header), a folder in the hub data set's form, or "hub".
        split: Train is English only.
        language: CC100's code; the data has its own name for it.

    Raises:
        HalflingError: Something is missing, truncated, malformed or outside the label scheme.
    """
    name = task_name("xnli", language)
    file = labelled_file(source, "xnli", split, name)
    return _read_hub(source, split, name) if file is None else _read_file(file)


def _read_file(path: Path) -> list[NliExample]:
    examples = []
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        match line.split("\t"):
            case [premise, hypothesis, label] if premise and hypothesis:
                examples.append(NliExample(premise, hypothesis, label_id(label, LABELS, where)))
            case _:
                raise HalflingError(
                    f"{where}: malformed: expected premise, hypothesis and label between tabs, found {line[:60]!r}"
                )
    return examples


def _read_hub(source: str | Path, split: Split, language: str) -> list[NliExample]:
    data = hub_split(source, HUB_ID, split, language)
    where = f"{HUB_ID if str(source) == 'hub' else source}, {language} {split}"
    ids = hub_label_ids(data, "label", LABELS, where)
    if missing := {"premise", "hypothesis"} - set(data.column_names):
        raise HalflingError(f"{where}: no column {sorted(missing)[0]!r}: this is not XNLI's form")
    columns = data[:]
    rows = zip(columns["premise"], columns["hypothesis"], columns["label"], strict=True)
    examples = []
    for number, (premise, hypothesis, label) in enumerate(rows):
        # The hub writes -1 where a label is withheld.
        if label is None or label < 0:
            raise HalflingError(f"{where}: row {number} has no label: this split is not for evaluation")
        examples.append(NliExample(premise, hypothesis, ids[label]))
    if not examples:
        raise HalflingError(f"{where}: empty: expected labelled examples")
    return examples
