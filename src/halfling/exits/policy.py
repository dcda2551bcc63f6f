"""The policy: where a model may stop and how sure it must be; and the calibration that chose it, or one a language."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from halfling.bounds import Share
from halfling.records import Record


class ExitPolicy(Record):
    """Where an early-exit model may stop and how sure it must be; the last exit takes whoever is left."""

    layers: tuple[int, ...] = Field(
        min_length=1, description="exits in use, ascending; the last is the encoder's last layer"
    )
    thresholds: tuple[Share, ...] = Field(
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
        _require_fit(self.layers, self.thresholds)
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


def _require_fit(layers: tuple[int, ...], thresholds: tuple[float, ...]) -> None:
    if not layers or layers[0] < 1 or list(layers) != sorted({*layers}):
        raise ValueError(f"layers {layers} are not ascending from 1")
    if len(thresholds) != len(layers) - 1:
        raise ValueError(f"expected a threshold for each exit but the last, {len(layers) - 1}, got {len(thresholds)}")


def most_cautious(policies: Sequence[ExitPolicy]) -> ExitPolicy:
    """Return the policy by which an input leaves early only where every one of these has let it leave by then.

    Exits that all of them use stay, each with the lowest threshold; with the criterion patience the longest patience.
    """
    first = policies[0]
    if not all(policy.is_early for policy in policies):
        return first.model_copy(update={"layers": first.layers[-1:], "thresholds": ()})
    if first.criterion == "patience":
        return max(policies, key=lambda policy: policy.patience or 0)
    at = [dict(zip(policy.layers, policy.thresholds, strict=False)) for policy in policies]
    lowest = {layer: min(each.get(layer, 0.0) for each in at) for layer in first.layers[:-1]}
    kept = {layer: threshold for layer, threshold in lowest.items() if threshold > 0}
    return first.model_copy(update={"layers": (*kept, first.layers[-1]), "thresholds": tuple(kept.values())})


class TradeOff(Record):
    """One point of the curve that calibration draws on the dev split of the training languages."""

    layers: tuple[int, ...]
    thresholds: tuple[Share, ...]
    patience: int | None = None
    quality: float = Field(description="the score that calibration holds (`Calibration.metric`), 0..1")
    drop: float = Field(0.0, description="points (0..100) of quality below no exits")
    drop_bound: float = Field(0.0, description="what the drop does not exceed, with the calibration's confidence")
    flops_share: float = Field(description="arithmetic with exits / without")
    time_share: float | None = Field(
        None, description="likewise, of sentences alone, on whatever was timed; None when not measured"
    )
    mean_exit_layer: float = Field(description="over sentences, with token exits over tokens")

    @model_validator(mode="after")
    def _is_a_policys(self) -> "TradeOff":
        _require_fit(self.layers, self.thresholds)
        return self


class OfLanguage(Record):
    """Exits and thresholds for one language, and what they were measured to do there."""

    policy: ExitPolicy
    from_labels: bool = Field(description="chosen by labels; else by how often answers are not full depth's")
    point: TradeOff = Field(
        description="from labels that of the curve; else `quality` is the agreement with full depth, `drop` and "
        "`drop_bound` points (0..100) of disagreement, on the half of the text that thresholds were not fitted to"
    )
    num_texts: int = Field(description="texts that the bound is of")
    confidence: float = Field(description="with which the bound holds, 0..1")

    @model_validator(mode="after")
    def _is_of_one_policy(self) -> "OfLanguage":
        if (self.point.layers, self.point.thresholds) != (self.policy.layers, self.policy.thresholds):
            raise ValueError("its point is of other exits or thresholds than its policy: calibrate again")
        return self


CALIBRATED = "exit_policy.json"
"""The file of a calibration's folder, and of an exported model that follows one."""


class Calibration(Record):
    """The chosen policies and the curve of labels; the file is `exit_policy.json`."""

    task: str
    language: str = Field("en", description="whose dev split it was chosen on")
    metric: str = Field("", description="name of the task's own score, which `quality` is")
    policy: ExitPolicy = Field(description="for every language but those of `languages`")
    languages: dict[str, OfLanguage] = Field(
        default_factory=dict, description="sets by language; `policy` is then the most cautious of all"
    )
    max_drop: float | None = Field(None, description="asked for: points (0..100) that drop_bound may reach")
    max_disagreement: float | None = Field(None, description="asked for, of text: points that the bound may reach")
    flops_share: float | None = Field(None, description="asked for: at most so much of the arithmetic")
    latency_ms: float | None = Field(None, description="asked for: at most so long for a sentence alone")
    plain_ms: float | None = Field(None, description="measured: a sentence alone without exits")
    timed: str | None = Field(None, description='whose times these are, for instance "native int8"; None: not timed')
    curve: tuple[TradeOff, ...] = Field(description="from no exits to the cheapest")

    def policy_of(self, point: TradeOff) -> ExitPolicy:
        """Return the policy that a point of the curve is."""
        changes = {"layers": point.layers, "thresholds": point.thresholds, "patience": point.patience}
        return self.policy.model_copy(update=changes)

    @property
    def policies(self) -> dict[str, ExitPolicy]:
        """The sets by language, the default left out."""
        return {code: one.policy for code, one in self.languages.items()}

    def promised(self, language: str | None) -> float | None:
        """Return how many points (0..100) of disagreement with full depth a language's set was bound to; else None.

        Nothing was promised of a set that was chosen by labels, which bound the loss of score, and nothing of the
        default (`language` None): no text of those whom it serves was looked at. Of a set by which nobody exits nothing
        need be promised.
        """
        found = self.languages.get(language or "")
        is_promise = found is not None and not found.from_labels and found.policy.is_early
        return found.point.drop_bound if found and is_promise else None

    @property
    def chosen(self) -> TradeOff | None:
        """The point of the curve that was chosen by labels."""
        by_labels = next((one.policy for one in self.languages.values() if one.from_labels), self.policy)
        wanted = by_labels.layers, by_labels.thresholds, by_labels.patience
        return next((p for p in self.curve if (p.layers, p.thresholds, p.patience) == wanted), None)
