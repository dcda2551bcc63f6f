"""A calibration: the policies that it chose, one or one a language, and the curve that it chose from."""

from pydantic import Field, model_validator

from halfling.bounds import Share
from halfling.exits.policy import ExitPolicy, require_fit
from halfling.records import Record


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
        require_fit(self.layers, self.thresholds)
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
