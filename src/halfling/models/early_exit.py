"""The early-exit model: XLM-R's own layers with a classifier after chosen ones, and a loop that really stops.

Follows BranchyNet (https://arxiv.org/abs/1709.01686) and DeeBERT (https://arxiv.org/abs/2004.12993): an input leaves
at the first exit whose normalised entropy is below a threshold. We differ in one way: inputs that leave are taken
out of the batch, so that those that stay are computed alone; DeeBERT's code stops for a batch of one only.
"""

from dataclasses import dataclass
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import XLMRobertaConfig, XLMRobertaModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.xlm_roberta.modeling_xlm_roberta import (
    XLMRobertaClassificationHead,
    XLMRobertaPreTrainedModel,
)
from transformers.utils import ModelOutput

from halfling import criteria


@no_type_check  # transformers makes an __init__ that takes any keyword; its signature, which is checked, names fields
class XLMRobertaEarlyExitConfig(XLMRobertaConfig):
    """XLM-R's configuration and where to leave.

    Args:
        exit_layers: Layers (1-based, ascending) followed by a classifier. The encoder's last layer is always the
            last exit and is added when missing.
        exit_threshold: Leave at the first exit whose uncertainty (0..1) is below. 0: nobody leaves early.
        exit_token_pooling: How a tagger's token uncertainties become the sentence's: "mean" or "max".
        freeze_backbone: True while exits are trained on a backbone that must not move (no dropout in it either).
    """

    model_type = "xlm-roberta-early-exit"

    exit_layers: list[int] | tuple[int, ...] = ()
    exit_threshold: float = 0.0
    exit_token_pooling: str = "mean"
    freeze_backbone: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        last = self.num_hidden_layers
        layers = sorted({*self.exit_layers, last})
        if layers[0] < 1 or layers[-1] > last:
            raise ValueError(f"exit_layers {layers} outside 1..{last}, the layers of this encoder")
        if not 0 <= self.exit_threshold <= 1:
            raise ValueError(f"exit_threshold {self.exit_threshold} outside 0..1")
        if self.exit_token_pooling not in ("mean", "max"):
            raise ValueError(f'exit_token_pooling {self.exit_token_pooling!r} is neither "mean" nor "max"')
        self.exit_layers = layers


@dataclass
class EarlyExitOutput(ModelOutput):
    """What an early-exit model returns.

    Attributes:
        loss: Sum of the exits' cross-entropies, each weighted by `exit_loss_weights`, when labels were given.
        logits: Of the exit that each input took: [batch, classes], or [batch, tokens, classes].
        exit_layers: The layer after which each input left, [batch].
        uncertainty: Normalised entropy (0..1) at the exit taken, [batch]; NaN where none was computed.
        exit_logits: Logits of every exit in order, in training and with `all_exits=True`.
    """

    loss: Float[Tensor, ""] | None = None
    logits: Float[Tensor, "batch *tokens classes"] | None = None
    exit_layers: Int[Tensor, " batch"] | None = None
    uncertainty: Float[Tensor, " batch"] | None = None
    exit_logits: tuple[Tensor, ...] | None = None


class _EarlyExitModel(XLMRobertaPreTrainedModel):
    """The loop, shared by both tasks; a task says what a head is and how uncertainty is pooled."""

    config_class = XLMRobertaEarlyExitConfig

    def __init__(self, config: XLMRobertaEarlyExitConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.roberta = XLMRobertaModel(config, add_pooling_layer=False)
        # The last exit keeps the name it has in plain XLM-R models, so weights pass between the two unrenamed.
        self.classifier = self.make_head(config)
        self.exits = nn.ModuleDict({str(layer): self.make_head(config) for layer in config.exit_layers[:-1]})
        self.exit_loss_weights = [1.0] * len(config.exit_layers)
        self.post_init()

    @staticmethod
    def make_head(config: XLMRobertaEarlyExitConfig) -> nn.Module:
        """Return an untrained classifier."""
        raise NotImplementedError

    def uncertainty(self, logits: Tensor, counted: Tensor) -> Float[Tensor, " batch"]:
        """Return the normalised entropy (0..1) of each input; `counted` is True on tokens that vote."""
        raise NotImplementedError

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

    def logits_shape(self, batch: int, tokens: int) -> tuple[int, ...]:
        """Return the shape of a batch's logits."""
        raise NotImplementedError

    def forward(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Tensor | None = None,
        position_ids: Int[Tensor, "batch tokens"] | None = None,
        labels: Tensor | None = None,
        word_starts: Bool[Tensor, "batch tokens"] | None = None,
        all_exits: bool = False,
        **_: Any,
    ) -> EarlyExitOutput:
        """Return logits, and where each input left.

        Args:
            input_ids: Token ids.
            attention_mask: 1 on real tokens, 0 on padding; everything is real when absent.
            position_ids: As in XLM-R; needed for packed rows only.
            labels: Classes, [batch] or [batch, tokens] with -100 where none; given, nobody leaves early.
            word_starts: For taggers, the first sub-word of each word: their uncertainty is the sentence's.
                All real tokens when absent.
            all_exits: Compute every exit for every input and let nobody leave.
        """
        keep = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hidden = self.roberta.embeddings(input_ids=input_ids, position_ids=position_ids)
        mask = create_bidirectional_mask(config=self.config, inputs_embeds=hidden, attention_mask=attention_mask)
        if self.training or all_exits or labels is not None:
            return self._all_exits(hidden, mask, labels)
        if keep.dim() != 2:
            raise ValueError(
                f"expected attention_mask of [batch, tokens], came {tuple(keep.shape)}: packed rows hold "
                "several sentences, which leave at different exits (use all_exits=True)"
            )
        counted = keep.bool() if word_starts is None else word_starts
        return self._adaptive(hidden, mask, keep.bool(), counted)

    def _all_exits(self, hidden: Tensor, mask: Tensor | None, labels: Tensor | None) -> EarlyExitOutput:
        exit_logits = []
        for number, layer in enumerate(self.roberta.encoder.layer, start=1):
            hidden = layer(hidden, mask)
            if number in self.config.exit_layers:
                exit_logits.append(self.classify(number, hidden))
        loss = None
        if labels is not None:
            loss = sum(
                weight * F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten())
                for weight, logits in zip(self.exit_loss_weights, exit_logits, strict=True)
                if weight
            )
        last = torch.full((hidden.shape[0],), self.config.num_hidden_layers, device=hidden.device)
        return EarlyExitOutput(loss=loss, logits=exit_logits[-1], exit_layers=last, exit_logits=tuple(exit_logits))

    def _adaptive(self, hidden: Tensor, mask: Tensor | None, keep: Tensor, counted: Tensor) -> EarlyExitOutput:
        config = self.config
        batch, tokens = keep.shape
        rows = torch.arange(batch, device=hidden.device)
        taken = torch.full((batch,), config.num_hidden_layers, device=hidden.device)
        unsure = torch.full((batch,), float("nan"), device=hidden.device)
        logits = hidden.new_zeros(self.logits_shape(batch, tokens))
        for number, layer in enumerate(self.roberta.encoder.layer, start=1):
            hidden = layer(hidden, mask)
            is_last = number == config.num_hidden_layers
            if number not in config.exit_layers or (not is_last and config.exit_threshold == 0):
                continue
            here = self.classify(number, hidden)
            here_unsure = self.uncertainty(here, counted)
            leave = torch.ones_like(here_unsure, dtype=torch.bool) if is_last else here_unsure < config.exit_threshold
            if not leave.any():
                continue
            gone, stay = rows[leave], ~leave
            taken[gone], unsure[gone] = number, here_unsure[leave]
            if here.dim() == 3:
                logits[gone, : here.shape[1]] = here[leave]
            else:
                logits[gone] = here[leave]
            if is_last or leave.all():
                break
            rows, hidden, keep, counted = rows[stay], hidden[stay], keep[stay], counted[stay]
            # Whoever stays may be shorter than whoever left: padding that nobody needs any more is cut.
            longest = int(keep.nonzero()[:, 1].max()) + 1
            hidden, keep, counted = hidden[:, :longest], keep[:, :longest], counted[:, :longest]
            if mask is not None:
                mask = create_bidirectional_mask(config=config, inputs_embeds=hidden, attention_mask=keep)
        return EarlyExitOutput(logits=logits, exit_layers=taken, uncertainty=unsure)


def _entropy(logits: Tensor) -> Float[Tensor, "*batch"]:
    # On the host, where the decision to stop is taken: an accelerator is waited for at every exit.
    values = criteria.normalised_entropy(logits.detach().float().cpu().numpy())
    return torch.from_numpy(values).to(logits.device)


class XLMRobertaEarlyExitForSequenceClassification(_EarlyExitModel):
    """XLM-R that classifies a text, or a pair of texts, after each of its exits."""

    @staticmethod
    def make_head(config: XLMRobertaEarlyExitConfig) -> nn.Module:
        """Return dense and tanh on `<s>`, then classes."""
        return XLMRobertaClassificationHead(config)

    def logits_shape(self, batch: int, tokens: int) -> tuple[int, ...]:
        """Return [batch, classes]."""
        return batch, self.num_labels

    def uncertainty(self, logits: Tensor, counted: Tensor) -> Float[Tensor, " batch"]:
        """Return the normalised entropy of each input's classes."""
        return _entropy(logits)


class XLMRobertaEarlyExitForTokenClassification(_EarlyExitModel):
    """XLM-R that tags tokens after each of its exits; all tokens of a sentence leave together."""

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

    def logits_shape(self, batch: int, tokens: int) -> tuple[int, ...]:
        """Return [batch, tokens, classes]."""
        return batch, tokens, self.num_labels

    def uncertainty(self, logits: Tensor, counted: Tensor) -> Float[Tensor, " batch"]:
        """Return the normalised entropy of each input's tokens that vote, pooled."""
        pooled = criteria.pool_tokens(
            _entropy(logits).cpu().numpy(), counted.cpu().numpy(), self.config.exit_token_pooling
        )
        return torch.from_numpy(pooled).to(logits.device)
