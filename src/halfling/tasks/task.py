"""A task is a value: its kind, its labels, and where each split in each language comes from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from halfling.errors import HalflingError
from halfling.files import TASK_SOURCES, write_json
from halfling.records import Settings

Kind = Literal["text_classification", "pair_classification", "tagging"]
Split = Literal["train", "dev"]
Metric = Literal["accuracy", "macro F1", "span F1"]
Format = Literal["csv", "tsv", "jsonl", "parquet", "conll"]

TASK_FILE = "task.json"
"""What travels with a model."""

_SOURCES = ("train", "dev")


class Task(Settings):
    """Labelled data and what is asked of them. What is left out is told by the data (`examples.understood`).

    A source is a file (CSV, TSV, JSON lines, Parquet or CoNLL, also compressed), or `hub:NAME:CONFIGURATION:SPLIT` for
    a data set of the Hugging Face hub or a folder of its form. One with `{language}` in it stands for one a language.
    """

    name: str = Field("task", description="in results and on the page")
    kind: Kind | None = Field(None, description="text_classification, pair_classification or tagging; told by the data")
    labels: tuple[str, ...] | None = Field(
        None, min_length=2, description="names of the classes in their order; those of the training split"
    )
    metric: Metric | None = Field(
        None, description="what the task is judged by: accuracy, macro F1 or span F1; accuracy, of spans span F1"
    )
    train: dict[str, str] = Field(
        default_factory=dict,
        description="source of the training split by language (en if not said): CSV, TSV, JSON lines, Parquet, CoNLL",
    )
    dev: dict[str, str] = Field(
        default_factory=dict,
        description="of the development split; without any in a training language every tenth of train is held out",
    )
    format: Format | None = Field(None, description="of the files; told by their endings")
    columns: tuple[str, ...] | None = Field(None, description="names of the columns of a file without a header")
    text: str | None = Field(None, description="column of the text; text, sentence, utterance, premise, ...")
    text_pair: str | None = Field(None, description="column of the second text; text_pair, hypothesis, ...")
    words: str | None = Field(None, description="column of a tagger's words; tokens, words. In CoNLL a number from 1")
    label: str | None = Field(None, description="column of the label or the tags; label, intent, tags, ner_tags, ...")
    held_out: tuple[str, ...] | None = Field(
        None, description="of a trained model: languages whose every tenth training example it never learned from"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_source_a_language(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        said = dict(raw)
        spoken = {"train": said.pop("train_languages", None), "dev": said.pop("languages", None)}
        for split in _SOURCES:
            given, codes = said.get(split), spoken[split]
            codes = [codes] if isinstance(codes, str) else codes
            if isinstance(given, str):
                if "{language}" in given and codes is None:
                    raise ValueError(f"{split} {given!r}: say which with languages or train_languages")
                said[split] = {code: given.replace("{language}", code) for code in codes or ("en",)}
            elif isinstance(given, Mapping) and codes is not None:
                if strange := [code for code in codes if code not in given]:
                    raise ValueError(f"{split} has no source in {strange[0]!r}: it has {', '.join(map(str, given))}")
                said[split] = {code: given[code] for code in codes}
        return said

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels and len({*labels}) < len(labels):
            raise ValueError(f"{', '.join(labels)}: one label stands there twice")
        return labels

    @property
    def held(self) -> tuple[str, ...]:
        """Languages whose every tenth training example is dev: all of them when none has a dev split of its own.

        Of a trained model what its training held out: what it learned from is dev never.
        """
        if self.held_out is not None:
            return tuple(code for code in self.held_out if code in self.train)
        return () if {*self.train} & {*self.dev} else tuple(self.train)

    @property
    def source_languages(self) -> tuple[str, ...]:
        """Languages with training labels whose dev split selects and calibrates; of a ready model those with dev."""
        return tuple(code for code in self.train if code in self.languages) or tuple(self.dev)

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages that have a dev split, in the order they were given."""
        return tuple(dict.fromkeys((*self.held, *self.dev)))

    @property
    def head(self) -> Literal["sequence", "token"]:
        """What a model for it answers: once a text, or once a word."""
        return "token" if self.kind == "tagging" else "sequence"

    def source(self, split: Split, language: str) -> str:
        """Return where a split of a language comes from.

        Raises:
            HalflingError: The task has none.
        """
        known: dict[str, str] = getattr(self, split)
        if language not in known:
            there = ", ".join(known) or "none at all"
            raise HalflingError(
                f"task {self.name}: no {split} data in {language!r} (there is {there}): "
                f"give them with --{split} {language}=FILE"
            )
        return known[language]

    def description(self) -> str:
        """Return what the task is, without the places of its files: with their contents, all that work depends on."""
        files, said = self.files(), self.model_dump(mode="json")
        for split in _SOURCES:
            for code, source in said[split].items():
                if local := _local(source):
                    said[split][code] = source.replace(str(local), f"file {files.index(local)}", 1)
        return json.dumps(said, sort_keys=True)

    def files(self) -> list[Path]:
        """Return every file of the task's, and every folder here in the hub's form, once.

        Raises:
            HalflingError: A folder is named as a file.
        """
        sources = [source for split in _SOURCES for source in getattr(self, split).values()]
        for source in sources:  # before anybody looks at all that lies in it
            if not source.startswith("hub:") and Path(source).is_dir():
                raise HalflingError(f"{source}: is a folder, not a file of labelled data: name a file")
        named = map(_local, sources)
        return [path for path in dict.fromkeys(named) if path]

    def with_sources(self, other: "Task | None") -> "Task":
        """Return this task with whatever another says of data: training sources, dev by language, format, columns."""
        if other is None:
            return self
        data = {"train", "metric", "format", "columns", "text", "text_pair", "words", "label"} & other.model_fields_set
        # Language by language: without its own dev, a training language would be judged by what it learned from.
        return self.model_copy(update={name: getattr(other, name) for name in data} | {"dev": self.dev | other.dev})

    def write(self, folder: Path) -> None:
        """Write the task into a model's folder: what it is, and apart from that where its data lie."""
        write_json(folder / TASK_FILE, self.model_dump(mode="json", exclude={*_SOURCES}))
        places = {
            split: {code: _absolute(source) for code, source in getattr(self, split).items()} for split in _SOURCES
        }
        write_json(folder / TASK_SOURCES, places)


def read_task(folder: Path) -> Task | None:
    """Return the task that travels with a model, None when none does.

    Raises:
        HalflingError: The file is damaged.
    """
    if not (folder / TASK_FILE).is_file():
        return None
    task = Task.read(folder / TASK_FILE)
    sources = Task.read(folder / TASK_SOURCES) if (folder / TASK_SOURCES).is_file() else Task()
    return task.with_sources(sources)


def _local(source: str) -> Path | None:
    """Return the file or folder here that a source names; None of a data set of the hub itself."""
    if not source.startswith("hub:"):
        return Path(source)
    folder = Path(source.split(":")[1])
    return folder if folder.is_dir() else None


def _absolute(source: str) -> str:
    local = _local(source)
    return source.replace(str(local), str(local.resolve()), 1) if local else source
