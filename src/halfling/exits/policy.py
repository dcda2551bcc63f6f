"""The policy: where a model may stop and how sure it must be."""

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
        require_fit(self.layers, self.thresholds)
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


def require_fit(layers: tuple[int, ...], thresholds: tuple[float, ...]) -> None:
    """Raise ValueError where layers do not ascend, or thresholds are not one for each but the last."""
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
