"""What is measured of models: records that evaluation writes and reports read, one a line."""

from statistics import median
from typing import Literal, NamedTuple

from pydantic import Field

from halfling.records import Int8Drop, Origin, Record

_PRECISIONS = ("float32", "bfloat16", "int8")


class Form(NamedTuple):
    """A model in one of the forms it runs in."""

    model: str
    runtime: str
    precision: str
    exits: bool

    @property
    def label(self) -> str:
        """What the model runs in, without its name."""
        runtime = "PyTorch" if self.runtime == "pytorch" else f"engine {self.precision}"
        return f"{runtime}, exits" if self.exits else runtime

    @property
    def rank(self) -> tuple[bool, int, bool]:
        """PyTorch before the engine, float32 before int8, without exits before with: what is served comes last."""
        return self.runtime == "engine", _PRECISIONS.index(self.precision), self.exits


class Case(Record):
    """What quality and cost have in common: a model, the form it runs in, and what it is asked."""

    model: str = Field(description="name of the model")
    task: str = Field(description="name of the task")
    language: str = Field(description="code of the language of the texts")
    runtime: Literal["engine", "pytorch"] = Field(description="engine: the exported model; pytorch: transformers")
    precision: Literal["float32", "bfloat16", "int8"] = Field(description="number format of weights and products")
    exits: bool = Field(description="whether inputs may exit early")

    @property
    def form(self) -> Form:
        """The model in the form it runs in."""
        return Form(self.model, self.runtime, self.precision, self.exits)


class Scores(Case):
    """What one model scores in one language with one seed, and the arithmetic it takes."""

    seed: int = Field(description="seed of the fine-tuning that made the model")
    trained_on: bool = Field(description="whether training saw labels in this language; if not: zero-shot")
    num_examples: int = Field(description="number of dev examples that the scores are over")
    metric: str = Field(description="name of the task's own score")
    score: float = Field(description="the task's own score, 0..1")
    accuracy: float = Field(description="share of right labels, for a tagger of right word tags, 0..1")
    f1: float = Field(description="F1, 0..1: macro over labels, for a tagger over whole spans")
    mean_exit_layer: float = Field(description="layer that gave the answer, mean over examples")
    gflops: float = Field(description="10^9 operations an example: 2 per multiply-accumulate, real lengths, all heads")
    gmacs_linear: float = Field(description="10^9 multiply-accumulates of the encoder's linear layers at 128 tokens")


class Quality(Scores):
    """A line of `quality.jsonl`."""

    policy: str | None = Field(None, description="language whose exits and thresholds held; the default's")
    exit_histogram: dict[int, int] = Field(description="exit layer -> number of examples, with token exits of tokens")


class MaskedLoss(Record):
    """What one masked language model makes of one language's held-out text."""

    model: str
    language: str
    loss: float = Field(description="cross-entropy, nats per masked token")
    num_masked: int = Field(description="tokens that the loss is the mean over")


class MeasuredDrop(Int8Drop):
    """A line of `int8.jsonl`: whose drop it is."""

    model: str = Field(description="name of the model in the results")
    task: str
    seed: int = Field(description="seed of the fine-tuning that made the model")
    exits: bool = Field(description="whether inputs may exit early")
    wide_layers: tuple[int, ...] = Field(description="layers whose activations have 16 bits")


class Cost(Case):
    """A line of `costs.jsonl`: what one model costs, measured beside the others in turns."""

    rounds_ms_b1: tuple[float, ...] = Field(min_length=2, description="by round, mean time of a text alone")
    rounds_ms_b32: tuple[float, ...] = Field(min_length=2, description="by round, time of a batch of 32 texts")
    timed_gflops: float = Field(gt=0, description="as gflops, of the texts that were timed")
    peak_bytes: int = Field(description="peak resident size of a fresh process that loads and answers")
    disk_bytes: int = Field(description="size of the folder that is served")

    @property
    def latency_ms_b1(self) -> float:
        """The median over rounds."""
        return median(self.rounds_ms_b1)

    @property
    def latency_ms_b32(self) -> float:
        """The median over rounds."""
        return median(self.rounds_ms_b32)


class Result(Scores):
    """A row of `results.csv`: a quality with the cost of its case, which all seeds share."""

    latency_ms_b1: float = Field(description="time of a text alone, text to answer: median over rounds")
    latency_ms_b32: float = Field(description="time of a batch of 32 texts: median over rounds")
    timed_gflops: float = Field(description="as gflops, of the texts that were timed")
    peak_bytes: int = Field(description="peak resident size of a fresh process that loads and answers")
    disk_bytes: int = Field(description="size of the folder that is served")


class NamedOrigin(Record):
    """A line of `origins.jsonl`: what a measured model was made of."""

    name: str = Field(description="of the model in the results")
    origin: Origin
