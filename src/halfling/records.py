"""Frozen records that stages exchange, each of them JSON both ways."""

import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from halfling import json_text
from halfling.bounds import Count, Part, Size
from halfling.errors import HalflingError
from halfling.files import read_text, write_text

Counts = dict[str, Any]
"""What a stage counted, JSON-serialisable, for its manifest."""

Progress = Callable[[int, int, str], None]
"""Called with (done, total, note) as work goes on."""

_R = TypeVar("_R", bound="Record")

_MOST_BYTES = 2**28
"""Of a file of records, one a line."""


def silent(done: int, total: int, note: str = "") -> None:
    """Report progress to nobody."""


class Record(BaseModel):
    """A frozen value with named, typed fields; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls: type[_R], path: Path) -> _R:
        """Return the record that `path` holds as JSON.

        Raises:
            HalflingError: The file is missing or is not such a record.
        """
        return cls.checked(json_text.read(path), str(path))

    @classmethod
    def checked(cls: type[_R], said: Any, where: str) -> _R:
        """Return the record that `said` describes.

        Raises:
            HalflingError: It is not such a record. The message begins with `where`.
        """
        try:
            return cls.model_validate(said)
        except ValidationError as error:
            raise HalflingError(f"{where}: {cls._misfit(error)}") from error

    @classmethod
    def read_lines(cls: type[_R], path: Path) -> list[_R]:
        """Return the records that `path` holds as JSON, one a line.

        Raises:
            HalflingError: A line is not such a record.
        """
        records = []
        # Not `splitlines`, which parts at characters that JSON leaves as they are.
        for number, line in enumerate(read_text(path, _MOST_BYTES).removesuffix("\n").split("\n"), start=1):
            if number == 1 and not line:
                break  # an empty file
            try:
                records.append(cls.model_validate(json_text.parse(line, f"{path}, line {number}")))
            except ValidationError as error:
                raise HalflingError(f"{path}, line {number}: {cls._misfit(error)}: make the file anew") from error
        return records

    @classmethod
    def _misfit(cls, error: ValidationError) -> str:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "line"
        return f"not a {cls.__name__} ({where}: {first['msg']})"

    def write(self, path: Path) -> None:
        """Write the record as JSON, whole or not at all."""
        write_text(path, self.model_dump_json(indent=1) + "\n")


def json_lines(records: Iterable[Record]) -> str:
    """Return records as JSON, one a line."""
    return "".join(record.model_dump_json() + "\n" for record in records)


class Settings(Record):
    """The settings of one stage; each subclass stands beside the stage that reads it. Numbers are bounded: `bounds`."""

    model_config = ConfigDict(allow_inf_nan=False)

    @property
    def timed(self) -> bool:
        """Whether the stage measures times, and wants the machine to itself."""
        return False

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, raw: Any) -> Any:
        for key in raw if isinstance(raw, dict) else ():
            if key not in cls.model_fields:
                near = difflib.get_close_matches(str(key), cls.model_fields, n=1, cutoff=0)[0]
                raise PydanticCustomError("unknown_key", "the nearest known is {near}", {"key": str(key), "near": near})
        return raw


class EncoderShape(Record):
    """What the cost of an encoder follows from."""

    num_layers: Part
    width: Size = Field(gt=0, description="hidden size")
    num_heads: Size = Field(gt=0)
    ffn_width: Size = Field(gt=0, description="inner width of the feed-forward block")
    vocab_size: Count = Field(gt=0)
    max_tokens: Size = Field(gt=0, description="longest input, special tokens included")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "EncoderShape":
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
        return self


class Origin(Record):
    """What a model that was not trained here was made of; it travels in `config.json` as `origin`."""

    model: str = Field(description="hub id, or the name of a folder or file")
    note: str = Field(description="in words, with the licence where it is known")


class Int8Drop(Record):
    """What int8 costs in one language: an export's answers against the model's own in float32, on the same examples.

    Each bound holds with 95 % confidence.
    """

    backend: str = Field(description="who answered in int8")
    language: str
    num_examples: int = Field(description="number of dev examples that both answered")
    metric: str = Field(description="name of the score: span F1 or accuracy")
    float32: float = Field(description="the score of the model in PyTorch, 0..1")
    int8: float = Field(description="the score of the export, 0..1")
    drop: float = Field(description="points (0..100) of float32 less int8")
    lower: float = Field(description="points that the drop exceeds")
    bound: float = Field(description="points that the drop does not exceed")
    suffices: bool = Field(
        description="whether there are enough of them to hold the drop against the limit that was asked for"
    )


class Manifest(Record):
    """What a finished stage says of itself; its presence means that the folder is whole."""

    stage: str
    fingerprint: str = Field(description="hash of stage, version of halfling, settings and inputs")
    settings: dict[str, Any]
    inputs: dict[str, str] = Field(description="role -> SHA-256")
    versions: dict[str, str]
    seed: int
    seconds: float = Field(description="work time of the try that finished")
    counts: Counts
    files: dict[str, int] = Field(description="path -> bytes")
    stamp: str = Field("", description="hash of the files' inodes, sizes and times: while they are so, so is `digest`")
    digest: str = Field(description="SHA-256 of the folder's names and contents, this file left out")
