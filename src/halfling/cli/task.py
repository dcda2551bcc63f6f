"""Labelled data on the command line: what `--train`, `--dev` and their like say of a task."""

import re
from collections.abc import Mapping, Sequence
from inspect import Parameter
from pathlib import Path
from typing import Any

import typer

from halfling.cli.options import parameter
from halfling.tasks.task import Task

_PANEL = "The task; left out: the one that travels with the model"
_SOURCE = "[LANGUAGE=]FILE"
_OPTIONS: dict[str, tuple[str, str, str]] = {
    "train": (
        "--train",
        _SOURCE,
        "Training data (CSV, TSV, JSON lines, Parquet, CoNLL); language en if not said; repeat.",
    ),
    "dev": (
        "--dev",
        _SOURCE,
        "Development data; repeat. Without any in a training language 1/10 of train is held out.",
    ),
    "kind": ("--kind", "KIND", "text_classification, pair_classification or tagging; told by the data."),
    "labels": ("--labels", "A,B,...", "The classes in their order; those of the training data."),
    "metric": ("--metric", "WORDS", "accuracy, macro F1 or span F1; accuracy, of spans span F1."),
    "text": ("--text", "COLUMN", "Of the text; text, sentence, utterance, premise."),
    "text_pair": ("--text-pair", "COLUMN", "Of the second text; text_pair, hypothesis."),
    "words": ("--words", "COLUMN", "Of a tagger's words; tokens, words; in CoNLL a number from 1."),
    "label": ("--label", "COLUMN", "Of the label or the tags; label, intent, tags."),
    "columns": ("--columns", "A,B,...", "Names of the columns of a file without a header."),
    "format": ("--format", "WORD", "csv, tsv, jsonl, parquet or conll; told by the file's ending."),
    "name": ("--task", "NAME", "In results; or a preset, with --data."),
    "data": ("--data", "PLACE", "Where a preset's data lie: a folder, or hub."),
}
_LISTS = ("labels", "columns")


def task_options() -> tuple[Parameter, ...]:
    """Return an option for everything that can be said of a task."""
    found = []
    for name, (option, metavar, text) in _OPTIONS.items():
        how = typer.Option(option, metavar=metavar, help=text, rich_help_panel=_PANEL)
        many = metavar == _SOURCE
        found.append(parameter(_name(name), list[str] | None if many else str | None, how, None))
    return tuple(found)


def task_in(given: Mapping[str, Any]) -> Task | None:
    """Return the task that options speak of, None where none was given.

    Raises:
        HalflingError: They do not fit together.
    """
    # Here: they read YAML, and `halfling predict` does without.
    from halfling.settings import check
    from halfling.tasks import presets

    said = {name: given[_name(name)] for name in _OPTIONS if given[_name(name)]}
    if not said:
        return None
    data = said.pop("data", None)
    for split in ("train", "dev"):
        if split in said:
            said[split] = _sources(said[split], split)
    said |= {name: said[name].split(",") for name in _LISTS if name in said}
    if data is not None:
        name = said.pop("name", None)
        if name not in presets.names():
            raise typer.BadParameter(
                f"--data is for a preset: name it with --task {' or --task '.join(presets.names())}"
            )
        presets.require_data(data)
        said = presets.preset(name, data, said)
    return check(Task, said, "the task")


def _sources(values: Sequence[str], split: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for value in values:
        match = re.match(r"([A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*)=(.+)", value)
        language, source = (match[1], match[2]) if match and not Path(value).exists() else ("en", value)
        if language in found:
            raise typer.BadParameter(f"--{split} {value}: {language} has a file already: name another language")
        found[language] = source
    return found


def _name(name: str) -> str:
    return f"task_{name}"
