"""The early-exit model: XLM-R's own layers with a classifier after chosen ones, and a loop that really stops.

Follows BranchyNet (https://arxiv.org/abs/1709.01686) and DeeBERT (https://arxiv.org/abs/2004.12993): an input leaves
at the first exit whose uncertainty is below that exit's threshold. How they leave is in `exit_loops.py`.
"""

from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformers import XLMRobertaConfig, XLMRobertaModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.xlm_roberta.modeling_xlm_roberta import (
    XLMRobertaClassificationHead,
    XLMRobertaPreTrainedModel,
)

from halfling.exits import criteria
from halfling.exits.policy import ExitPolicy
from halfling.models.exit_loops import EarlyExitOutput, leave_by_sentence, leave_by_token


@no_type_check  # transformers makes an __init__ that takes any keyword; its signature, which is checked, names fields
class XLMRobertaEarlyExitConfig(XLMRobertaConfig):
    """XLM-R's configuration and where to leave.

    Args:
        exit_layers: Layers (1-based, ascending) followed by a classifier. The encoder's last layer is always the
            last exit and is added when missing.
        exit_policy: A `records.ExitPolicy` as a dictionary: which of these exits are in use, and when an input
            leaves at one. None: nobody leaves early.
        exit_loss_weights: What each exit's cross-entropy weighs in training, in order. None: one each.
        freeze_backbone: True while exits are trained on a backbone that must not move (no dropout in it either).
    """

    model_type = "xlm-roberta-early-exit"

    exit_layers: list[int] | tuple[int, ...] = ()
    exit_policy: dict[str, Any] | None = None
    exit_loss_weights: list[float] | tuple[float, ...] | None = None
    freeze_backbone: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        last = self.num_hidden_layers
        layers = sorted({*self.exit_layers, last})
        if layers[0] < 1 or layers[-1] > last:
            raise ValueError(f"exit_layers {layers} outside 1..{last}, the layers of this encoder")
        self.exit_layers = layers
        if self.exit_loss_weights is not None and len(self.exit_loss_weights) != len(layers):
            raise ValueError(f"expected a loss weight for each of {len(layers)} exits, got {self.exit_loss_weights}")
        if self.exit_policy is not None:
            self.leave_by(ExitPolicy.model_validate(self.exit_policy))

    @property
    def policy(self) -> ExitPolicy:
        """When inputs leave: what `exit_policy` says, or never."""
        if self.exit_policy is None:
            return ExitPolicy(layers=(self.num_hidden_layers,), thresholds=())
        return ExitPolicy.model_validate(self.exit_policy)

    def leave_by(self, policy: ExitPolicy | None) -> None:
        """Let inputs leave as `policy` says from now on; None: nobody leaves early.

        Raises:
            ValueError: The policy uses an exit that this model does not have, or leaves out the last one.
        """
        used = () if policy is None else policy.layers
        if policy is not None and (not {*used} <= {*self.exit_layers} or used[-1] != self.num_hidden_layers):
            raise ValueError(f"a policy with exits {list(used)} for a model with exits {self.exit_layers}")
        self.exit_policy = None if policy is None else policy.model_dump(mode="json")


class _EarlyExitModel(XLMRobertaPreTrainedModel):
    """The loop, shared by both tasks; a task says what a head is and how uncertainty is pooled."""

    config_class = XLMRobertaEarlyExitConfig
    tags_tokens = False

    def __init__(self, config: XLMRobertaEarlyExitConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.roberta = XLMRobertaModel(config, add_pooling_layer=False)
        # The last exit keeps the name it has in plain XLM-R models, so weights pass between the two unrenamed.
        self.classifier = self.make_head(config)
        self.exits = nn.ModuleDict({str(layer): self.make_head(config) for layer in config.exit_layers[:-1]})
        self.post_init()

    @staticmethod
    def make_head(config: XLMRobertaEarlyExitConfig) -> nn.Module:
        """Return an untrained classifier."""
        raise NotImplementedError

    def doubt(self, policy: ExitPolicy) -> criteria.Doubt:
        """Return what says at exit after exit how unsure the model is of each input that is still there."""
        return criteria.Doubt(policy)

    def train(self, mode: bool = True) -> "_EarlyExitModel":
        """Switch training mode; a frozen backbone and its classifier stay in evaluation mode."""
        super().train(mode)
        if self.config.freeze_backbone:
            self.roberta.train(False)
            self.classifier.train(False)
        return self

    def classify(self, layer: int, hidden: Tensor) -> Tensor:
        """Return the logits of the exit after `layer`."""
        head = self.classifier if layer == self.config.num_hidden_layers else self.exits[str(layer)]
        return head(hidden)

    def forward(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Tensor | None = None,
        position_ids: Int[Tensor, "batch tokens"] | None = None,
        labels: Tensor | None = None,
        word_starts: Bool[Tensor, "batch tokens"] | None = None,
        all_exits: bool = False,
        leave_below: float | None = None,
        **_: Any,
    ) -> EarlyExitOutput:
        """Return logits, and where each input left.

        Args:
            input_ids: Token ids.
            attention_mask: 1 on real tokens, 0 on padding; everything is real when absent.
            position_ids: As in XLM-R; needed for packed rows only.
            labels: Classes, [batch] or [batch, tokens] with -100 where none; given, nobody leaves early.
            word_starts: For taggers, the first sub-word of each word: their uncertainty is the sentence's, and a
                sentence is done when all of them have left. All real tokens when absent.
            all_exits: Compute every exit for every input and let nobody leave.
            leave_below: In training, tell who came as far as each exit if inputs, or with the granularity "token"
                of the policy tokens, left below this entropy; tokens that have left keep their state. Everything
                is computed all the same, so that every exit that was reached can learn.
        """
        keep = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hidden = self.roberta.embeddings(input_ids=input_ids, position_ids=position_ids)
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=hidden, attention_mask=attention_mask)
        if self.training or all_exits or labels is not None:
            return self._all_exits(hidden, mask, labels, keep if leave_below is not None else None, leave_below or 0.0)
        if keep.dim() != 2:
            raise ValueError(
                f"expected attention_mask of [batch, tokens], came {tuple(keep.shape)}: packed rows hold "
                "several sentences, which leave at different exits (use all_exits=True)"
            )
        counted = keep if word_starts is None else word_starts
        policy = self.config.policy
        if not policy.is_early:  # then what else it says changes nothing, down to the last bit
            policy = ExitPolicy(layers=(self.config.num_hidden_layers,), thresholds=())
        by_token = policy.granularity == "token"
        if by_token and not self.tags_tokens:
            raise ValueError("granularity token: only taggers have tokens that leave alone")
        leave = leave_by_token if by_token else leave_by_sentence
        # What is asked of padding does not count: an input that shrinks would lose it half way.
        return leave(self, policy, hidden, mask, keep.bool(), counted.bool() & keep.bool())

    def _all_exits(
        self, hidden: Tensor, mask: Tensor | None, labels: Tensor | None, keep: Tensor | None, leave_below: float
    ) -> EarlyExitOutput:
        exit_logits, reached = [], []
        by_token = self.config.policy.granularity == "token"
        there = None if keep is None else keep.bool()
        counted = labels != -100 if self.tags_tokens and labels is not None else there
        for number, layer in enumerate(self.roberta.encoder.layer, start=1):
            after = layer(hidden, mask)
            hidden = after if there is None or not by_token else torch.where(there[..., None], after, hidden)
            if number in self.config.exit_layers:
                exit_logits.append(self.classify(number, hidden))
                if there is None or counted is None:
                    continue
                reached.append(there if self.tags_tokens else there.any(dim=1))
                unsure = criteria.normalised_entropy(exit_logits[-1].detach().float().cpu().numpy())
                if self.tags_tokens and not by_token:
                    votes = counted.cpu().numpy()
                    unsure = criteria.pool_tokens(unsure[votes], votes.sum(axis=1), "mean")
                goes = torch.from_numpy(criteria.leaves(unsure, leave_below)).to(hidden.device)
                there = there & ~(goes if goes.dim() == 2 else goes[:, None])
        loss = None
        if labels is not None:
            weights = self.config.exit_loss_weights or [1.0] * len(exit_logits)
            loss = sum(
                weight * F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten())
                for weight, logits in zip(weights, exit_logits, strict=True)
                if weight
            )
        last = torch.full((hidden.shape[0],), self.config.num_hidden_layers, device=hidden.device)
        return EarlyExitOutput(
            loss=loss,
            logits=exit_logits[-1],
            exit_layers=last,
            exit_logits=tuple(exit_logits),
            reached=tuple(reached) or None,
        )


class XLMRobertaEarlyExitForSequenceClassification(_EarlyExitModel):
    """XLM-R that classifies a text, or a pair of texts, after each of its exits."""

    @staticmethod
    def make_head(config: XLMRobertaEarlyExitConfig) -> nn.Module:
        """Return dense and tanh on `<s>`, then classes."""
        return XLMRobertaClassificationHead(config)


class XLMRobertaEarlyExitForTokenClassification(_EarlyExitModel):
    """XLM-R that tags tokens after each of its exits; a sentence leaves as a whole, or each token alone."""

    tags_tokens = True

    @staticmethod
    def make_head(config: XLMRobertaEarlyExitConfig) -> nn.Module:
        """Return classes on each token."""
        return nn.Linear(config.hidden_size, config.num_labels)

    def __init__(self, config: XLMRobertaEarlyExitConfig) -> None:
        super().__init__(config)
        chosen = config.classifier_dropout
        self.dropout = nn.Dropout(config.hidden_dropout_prob if chosen is None else chosen)

    def classify(self, layer: int, hidden: Tensor) -> Tensor:
        """Return the logits of the exit after `layer`, with dropout before it in training."""
        return super().classify(layer, self.dropout(hidden))
