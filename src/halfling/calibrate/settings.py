"""What calibration is asked for, and how it looks for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from halfling.bounds import Count, Part, Repeats, Seed, Size, Weight
from halfling.engine.exported import BackendName, Precision
from halfling.exits.calibration import TradeOff
from halfling.records import Settings

MOST = 99.0
"""Points of disagreement that may be allowed: a limit of all of them would be no promise."""


@dataclass(frozen=True)
class Wish:
    """The one constraint that the user sets."""

    what: Literal["max_drop", "max_disagreement", "flops_share", "latency_ms"]
    limit: float

    def is_met(self, point: TradeOff, plain_ms: float | None = None) -> bool:
        """Return whether a point meets it; a time needs that of the plain model."""
        if self.what in ("max_drop", "max_disagreement"):
            return point.drop_bound <= self.limit
        if self.what == "flops_share":
            return point.flops_share <= self.limit
        return (point.time_share or 0.0) * (plain_ms or 0.0) <= self.limit

    def choose(self, curve: Sequence[TradeOff], plain_ms: float | None = None) -> TradeOff | None:
        """Return the cheapest point within a drop, or the best within an arithmetic or time; None when there is none.

        The cheapest takes the least time where that is measured, else (and where times are alike) the least arithmetic.
        A point measured to be slower than no exits, the first of the curve, is never chosen: when only such points
        meet the wish, no exits is.
        """
        met = [point for point in curve if self.is_met(point, plain_ms)]
        quick = [point for point in met if (point.time_share or 0.0) < 1 or point == curve[0]]
        if not quick:
            return curve[0] if met else None
        if self.what in ("max_drop", "max_disagreement"):
            # Times to whole hundredths: closer than that, measured ones are a lottery.
            return min(quick, key=lambda point: (round(point.time_share or 0.0, 2), point.flops_share, point.drop))
        return max(quick, key=lambda point: (point.quality, -point.flops_share))


class CalibrateSettings(Settings):
    """What may be lost for speed, or what must be saved."""

    max_drop: Weight | None = Field(
        None,
        ge=0,
        le=100,
        description="points (0..100) of accuracy or F1 that the drop's upper bound may reach; the default: 1",
    )
    max_disagreement: Weight | None = Field(
        None,
        ge=0,
        le=MOST,
        description="points (0..100) of text without labels that may be answered otherwise than at full depth, at a "
        f"confidence of 95 %; the default: max_drop, at most {MOST:g}",
    )
    flops_share: float | None = Field(None, gt=0, le=1, description="at most so much of the arithmetic instead")
    latency_ms: Weight | None = Field(None, gt=0, description="at most so long for a sentence alone instead")
    criterion: Literal["entropy", "max_probability", "margin", "patience"] = Field(
        "margin", description="what uncertainty is: margin saves most at one loss on our students; entropy: DeeBERT's"
    )
    granularity: Literal["sentence", "token"] = Field("sentence", description="token: each of a tagger's tokens alone")
    token_pooling: Literal["mean", "max"] = Field(
        "mean", description="how a tagger's token uncertainties become the sentence's"
    )
    max_exits: Part = Field(
        3, gt=0, description="early exits in use at most: each one costs a classifier and a decision; patience uses all"
    )
    timing: Literal["measured", "none"] = Field(
        "measured",
        description="search by time too; none: slower than no exits may be chosen, but every run writes the same",
    )
    engine: BackendName = Field("native", description="who times the exported model: native, torch or onnx")
    precision: Precision = Field("int8", description="of that export; unsaid, int8 for native, else float32")
    resamples: Size = Field(1000, ge=100, description="of the dev split, for the drop's upper bound")
    languages: tuple[str, ...] | None = Field(
        None, min_length=1, description="whose dev split is read; the training languages'"
    )
    text_sentences: Count = Field(2000, gt=0, description="of each language's text without labels, at most")
    max_tokens: Size = Field(128, ge=8, description="longer inputs are cut; special tokens included")
    max_examples: Count | None = Field(None, gt=0, description="only the first so many of each language's dev; all")
    batch_size: Size = Field(64, gt=0)
    timed_sentences: Size = Field(32, gt=0)
    rounds: Repeats = Field(5, ge=2, description="of every timing")
    seed: Seed = Field(0, description="of the resamples")

    @property
    def timed(self) -> bool:
        """Whether times are measured."""
        return self.timing == "measured"

    @property
    def wish(self) -> Wish:
        """What is asked for."""
        if self.flops_share is not None:
            return Wish("flops_share", self.flops_share)
        if self.latency_ms is not None:
            return Wish("latency_ms", self.latency_ms)
        return Wish("max_drop", 1.0 if self.max_drop is None else self.max_drop)

    @property
    def text_wish(self) -> Wish:
        """What is asked for where there are no labels.

        A lost right answer is a changed one, so no more accuracy is lost. F1 may fall by more: its spans do not count
        by text.
        """
        if self.wish.what != "max_drop":
            return self.wish
        limit = min(self.wish.limit, MOST) if self.max_disagreement is None else self.max_disagreement
        return Wish("max_disagreement", limit)

    @model_validator(mode="before")
    @classmethod
    def _float32_where_there_is_a_choice(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and "precision" not in raw and raw.get("engine", "native") != "native":
            return {**raw, "precision": "float32"}
        return raw

    @model_validator(mode="after")
    def _one_wish(self) -> "CalibrateSettings":
        asked = [name for name in ("max_drop", "flops_share", "latency_ms") if getattr(self, name) is not None]
        if len(asked) > 1:
            raise ValueError(f"{' and '.join(asked)}: ask for one of them")
        if self.max_disagreement is not None and self.wish.what != "max_drop":
            raise ValueError(f"max_disagreement and {self.wish.what}: ask for one of them")
        if self.latency_ms is not None and self.timing == "none":
            raise ValueError("latency_ms asks for a time: set timing=measured")
        if self.precision == "int8" and self.engine == "torch":
            raise ValueError("precision=int8: torch runs float32 and bfloat16: set engine to native or onnx")
        if self.precision == "float32" and self.engine == "native":
            raise ValueError("precision=float32: native runs int8 only: set engine to torch or onnx")
        if self.precision == "bfloat16" and self.engine != "torch":
            raise ValueError("precision=bfloat16: only torch runs it: set engine to torch")
        return self
