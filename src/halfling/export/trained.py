"""A trained model as export reads it: plain or with exits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, XLMRobertaConfig

from halfling.errors import HalflingError
from halfling.exits.calibration import CALIBRATED, Calibration
from halfling.exits.policy import ExitPolicy
from halfling.languages import set_of
from halfling.models.classifier import Head, load_classifier, read_checkpoint
from halfling.models.load import load_tokenizer, weights_sha256
from halfling.models.shapes import shape_of
from halfling.records import EncoderShape


@dataclass(frozen=True)
class Trained:
    """A trained classifier, its tokenizer, its class names in the order of their numbers, and where inputs exit.

    `policies` are those of languages that have their own.
    """

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kind: Head
    labels: tuple[str, ...]
    policy: ExitPolicy
    policies: dict[str, ExitPolicy]

    @property
    def shape(self) -> EncoderShape:
        """Return the encoder's shape."""
        return shape_of(cast(XLMRobertaConfig, self.network.config))

    def policy_of(self, language: str) -> ExitPolicy:
        """Return where texts of a language exit."""
        whose = set_of(self.policies, language)
        return self.policy if whose is None else self.policies[whose]

    @torch.inference_mode()
    def exit_logits(self, ids: list[int]) -> dict[int, torch.Tensor]:
        """Return one sequence's logits of every exit that the model has, by layer: [classes] or [tokens, classes]."""
        given: dict[str, Any] = {"input_ids": torch.tensor([ids])}
        if hasattr(self.network.config, "exit_layers"):
            found = self.network(**given, all_exits=True).exit_logits
            return {layer: logits[0] for layer, logits in zip(self.network.config.exit_layers, found, strict=True)}
        return {self.shape.num_layers: self.network(**given).logits[0]}


def load_trained(model: Path, policy: Path | None) -> Trained:
    """Return the model of a folder, with the policies of a calibration's folder, or the one stored in it, or no exits.

    Raises:
        HalflingError: A folder cannot be read, or its tokenizer or the policy was made for another model.
    """
    if policy is not None and policy.is_file():
        raise HalflingError(f"{policy}: is a file: name the folder that it lies in")
    found = read_checkpoint(model)
    network = load_classifier(model).eval()
    tokenizer = load_tokenizer(model, network)
    last = found.exit_layers[-1]
    stored = getattr(network.config, "exit_policy", None)
    nobody = ExitPolicy(layers=(last,), thresholds=())
    by_language: dict[str, ExitPolicy] = {}
    if policy is not None:
        calibration = Calibration.read(policy / CALIBRATED)
        chosen, by_language = calibration.policy, calibration.policies
        if strange := {layer for point in calibration.curve for layer in point.layers} - {*found.exit_layers}:
            raise HalflingError(f"{policy}: its curve has an exit after layer {min(strange)}, {model} has none there")
    else:
        chosen = nobody if stored is None else ExitPolicy.checked(stored, f"{model}: config.json's exit_policy")
    place = policy or model
    weights = weights_sha256(model)
    for one in (chosen, *by_language.values()):
        if one.granularity == "token" and found.head != "token":
            raise HalflingError(f"{place}: lets tokens exit alone, and {model} classifies whole texts: calibrate it")
        fits = {*one.layers} <= {*found.exit_layers} and one.layers[-1] == last
        if one.model not in (None, weights) or not fits:
            raise HalflingError(
                f"{place}: its policy, with exits {list(one.layers)}, was made for another model than {model}, "
                f"with exits {list(found.exit_layers)}: calibrate this model"
            )
        if (one.granularity, one.criterion) != (chosen.granularity, chosen.criterion):
            raise HalflingError(f"{place}: its policies differ in criterion or granularity: calibrate {model} again")
    if not any(one.is_early for one in (chosen, *by_language.values())):
        chosen, by_language = nobody, {}
    return Trained(network, tokenizer, found.head, found.labels, chosen, by_language)
