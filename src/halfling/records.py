"""Frozen records that stages exchange, each of them JSON both ways."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from halfling.errors import HalflingError
from halfling.files import write_text

Counts = dict[str, Any]
"""What a stage counted, JSON-serialisable, for its manifest."""

Progress = Callable[[int, int, str], None]
"""Called with (done, total, note) as work goes on."""

TaskName = Literal["xnli", "wikiann"]

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What every library's random generator takes."""

_R = TypeVar("_R", bound="Record")


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
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise HalflingError(f"{path}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise HalflingError(f"{path}: not a {cls.__name__} (not UTF-8)") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise HalflingError(f"{path}: not a {cls.__name__} ({where}: {first['msg']})") from error

    def write(self, path: Path) -> None:
        """Write the record as JSON, whole or not at all."""
        write_text(path, self.model_dump_json(indent=1) + "\n")


class Settings(Record):
    """The settings of one stage; each subclass stands beside the stage that reads it."""


class EncoderShape(Record):
    """What the cost of an encoder follows from."""

    num_layers: int = Field(gt=0)
    width: int = Field(gt=0, description="hidden size")
    num_heads: int = Field(gt=0)
    ffn_width: int = Field(gt=0, description="inner width of the feed-forward block")
    vocab_size: int = Field(gt=0)
    max_tokens: int = Field(gt=0, description="longest input, special tokens included")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "EncoderShape":
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
        return self


class Quality(Record):
    """What one model does on one task in one language."""

    model: str
    task: TaskName
    language: str
    seed: int
    num_examples: int
    accuracy: float = Field(description="of labels (XNLI) or of tokens (WikiANN), 0..1")
    f1: float = Field(description="macro F1 (XNLI) or IOB2 span F1 (WikiANN), 0..1")
    mean_exit_layer: float
    exit_histogram: dict[int, int] = Field(description="exit layer -> number of examples, with token exits of tokens")
    gflops: float = Field(description="mean per example: 2 per multiply-accumulate, real lengths, all heads")
    gmacs_linear: float = Field(description="the thesis's convention: encoder linear layers at 128 tokens")


class MaskedLoss(Record):
    """What one masked language model makes of one language's held-out text."""

    model: str
    language: str
    loss: float = Field(description="cross-entropy, nats per masked token")
    num_masked: int = Field(description="tokens that the loss is the mean over")


class Cost(Record):
    """What one model costs on one task in one language, measured."""

    model: str
    task: TaskName
    language: str
    latency_ms_b1: float = Field(description="time of a sentence alone: median over rounds of the mean over 32")
    latency_ms_b32: float = Field(description="median over rounds for a batch of 32 sentences")
    timed_gflops: float = Field(description="as Quality.gflops, of the 32 sentences that were timed")
    peak_bytes: int = Field(description="peak resident size of a fresh process that tags the sentences")


class Result(Record):
    """A row of `results.csv`."""

    model: str
    task: TaskName
    language: str
    seed: int
    accuracy: float
    f1: float
    mean_exit_layer: float
    gflops: float
    gmacs_linear: float
    latency_ms_b1: float
    latency_ms_b32: float
    peak_bytes: int


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
