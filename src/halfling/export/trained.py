"""A trained model as export reads it: plain or with exits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from transformers import PreTrainedModel, XLMRobertaConfig

from halfling.errors import HalflingError
from halfling.exits.policy import Calibration, ExitPolicy
from halfling.models import EARLY_EXIT_MODELS, XLMRobertaEarlyExitConfig
from halfling.models.load import load_model, weights_sha256
from halfling.models.shapes import shape_of
from halfling.records import EncoderShape, TaskName
from halfling.tasks import TASKS

Kind = Literal["sequence", "token"]
TASK_OF: dict[Kind, TaskName] = {"sequence": "xnli", "token": "wikiann"}
"""Whose sentences have this kind's form: pairs, or words."""


@dataclass(frozen=True)
class Trained:
    """A trained classifier.

    Attributes:
        network: As transformers or we define it, in evaluation mode.
        kind: Of its answers.
        labels: Names of its classes, in the order of their numbers.
        policy: Where inputs leave.
    """

    network: PreTrainedModel
    kind: Kind
    labels: tuple[str, ...]
    policy: ExitPolicy

    @property
    def shape(self) -> EncoderShape:
        """Return the encoder's shape."""
        return shape_of(cast(XLMRobertaConfig, self.network.config))

    @torch.inference_mode()
    def exit_logits(self, ids: list[int]) -> dict[int, torch.Tensor]:
        """Return the logits of every exit in the policy for one sequence, by layer: [classes] or [tokens, classes]."""
        given: dict[str, Any] = {"input_ids": torch.tensor([ids])}
        if isinstance(self.network.config, XLMRobertaEarlyExitConfig):
            found = self.network(**given, all_exits=True).exit_logits
            return {layer: logits[0] for layer, logits in zip(self.network.config.exit_layers, found, strict=True)}
        return {self.shape.num_layers: self.network(**given).logits[0]}


def load_trained(model: Path, policy: Path | None) -> Trained:
    """Return the model of a folder, with the policy of a calibration's folder.

    Without one, inputs leave as the model's own configuration says, or never.

    Raises:
        HalflingError: A folder cannot be read, or the policy was made for another model.
    """
    if not (model / "config.json").is_file():
        raise HalflingError(f"{model}: no model here (no config.json): name a fine-tuned model's folder")
    try:
        config = XLMRobertaEarlyExitConfig.get_config_dict(model)[0]
        named = str((config.get("architectures") or [""])[0])
    except (AttributeError, TypeError, LookupError) as error:
        raise HalflingError(f"{model / 'config.json'}: no model's configuration ({error})") from error
    kind: Kind | None = next(
        (kind for kind in TASK_OF if named.endswith(f"For{kind.capitalize()}Classification")), None
    )
    if kind is None or not named.startswith("XLMRoberta"):
        raise HalflingError(f"{model}: a {named or 'model of no name'}, not an XLM-R that classifies texts or tokens")
    has_exits = config.get("model_type") == XLMRobertaEarlyExitConfig.model_type
    network = load_model(EARLY_EXIT_MODELS[TASK_OF[kind]] if has_exits else TASKS[TASK_OF[kind]].model_class, model)
    labels = tuple(network.config.id2label[number] for number in range(network.config.num_labels))
    if len({*labels}) < max(2, len(labels)):
        raise HalflingError(f"{model}: its labels are {', '.join(labels)}: export needs two at least, all different")
    last = network.config.num_hidden_layers
    if policy is None:
        stored = getattr(network.config, "exit_policy", None) or {"layers": (last,), "thresholds": ()}
        return Trained(network.eval(), kind, labels, ExitPolicy.model_validate(stored))
    chosen = Calibration.read(policy / "exit_policy.json").policy
    if chosen.granularity == "token" and kind != "token":
        raise HalflingError(f"{policy}: lets tokens leave alone, and {model} classifies whole texts: calibrate it")
    exits = tuple(network.config.exit_layers) if has_exits else (last,)
    if (
        chosen.model not in (None, weights_sha256(model))
        or not {*chosen.layers} <= {*exits}
        or chosen.layers[-1] != last
    ):
        raise HalflingError(
            f"{policy}: its policy, with exits {list(chosen.layers)}, was made for another model than {model}, "
            f"with exits {list(exits)}: calibrate this model"
        )
    return Trained(network.eval(), kind, labels, chosen)
