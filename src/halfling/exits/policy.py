"""The policy: where a model may stop and how sure it must be; and the calibration that chose it."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from halfling.records import Record


class ExitPolicy(Record):
    """Where an early-exit model may stop and how sure it must be; the last exit takes whoever is left."""

    layers: tuple[int, ...] = Field(
        min_length=1, description="exits in use, ascending; the last is the encoder's last layer"
    )
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        description="one for each exit but the last: leave where the uncertainty is below; 0: nobody leaves there"
    )
    criterion: Literal["entropy", "max_probability", "margin", "patience"] = Field(
        "entropy", description="what uncertainty (0..1) is: see criteria.py"
    )
    patience: int | None = Field(
        None, gt=0, description="exits in a row that must confirm an answer; with the criterion patience only"
    )
    granularity: Literal["sentence", "token"] = Field(
        "sentence", description="who leaves: all tokens of a sentence together, or (taggers) each token alone"
    )
    token_pooling: Literal["mean", "max"] = Field(
        "mean", description="how a tagger's token uncertainties become the sentence's"
    )
    model: str | None = Field(None, description="SHA-256 of the weights it was made for; any with such exits")

    @model_validator(mode="after")
    def _fits_together(self) -> "ExitPolicy":
        if self.layers[0] < 1 or list(self.layers) != sorted({*self.layers}):
            raise ValueError(f"layers {self.layers} are not ascending from 1")
        if len(self.thresholds) != len(self.layers) - 1:
            raise ValueError(
                f"expected a threshold for each exit but the last, {len(self.layers) - 1}, got {len(self.thresholds)}"
            )
        if (self.patience is None) == (self.criterion == "patience"):
            raise ValueError(f"patience {self.patience} with the criterion {self.criterion}")
        return self

    @classmethod
    def uniform(cls, layers: tuple[int, ...], threshold: float, **more: Any) -> "ExitPolicy":
        """Return a policy with one threshold for all exits but the last."""
        return cls(layers=layers, thresholds=(threshold,) * (len(layers) - 1), **more)

    @property
    def is_early(self) -> bool:
        """Whether anybody can leave before the last exit."""
        return any(threshold > 0 for threshold in self.thresholds)


class TradeOff(Record):
    """One point of the curve that calibration draws on the dev split of the training languages."""

    layers: tuple[int, ...]
    thresholds: tuple[float, ...]
    patience: int | None = None
    quality: float = Field(description="the score that calibration holds (`Calibration.metric`), 0..1")
    drop: float = Field(0.0, description="points (0..100) of quality below no exits")
    drop_bound: float = Field(0.0, description="what the drop does not exceed, with the calibration's confidence")
    flops_share: float = Field(description="arithmetic with exits / without")
    time_share: float | None = Field(
        None, description="likewise, of sentences alone, on whatever was timed; None when not measured"
    )
    mean_exit_layer: float = Field(description="over sentences, with token exits over tokens")


class Calibration(Record):
    """The chosen policy and the curve it was chosen from; the file is `exit_policy.json`."""

    task: str
    language: str = Field("en", description="whose dev split it was chosen on")
    metric: str = Field("", description="name of the task's own score, which `quality` is")
    policy: ExitPolicy
    max_drop: float | None = Field(None, description="asked for: points (0..100) that drop_bound may reach")
    flops_share: float | None = Field(None, description="asked for: at most so much of the arithmetic")
    latency_ms: float | None = Field(None, description="asked for: at most so long for a sentence alone")
    plain_ms: float | None = Field(None, description="measured: a sentence alone without exits")
    timed: str | None = Field(None, description='whose times these are, for instance "native int8"; None: not timed')
    curve: tuple[TradeOff, ...] = Field(description="from no exits to the cheapest")

    @property
    def chosen(self) -> TradeOff | None:
        """The point of the curve that the policy is."""
        wanted = self.policy.layers, self.policy.thresholds, self.policy.patience
        return next((p for p in self.curve if (p.layers, p.thresholds, p.patience) == wanted), None)
