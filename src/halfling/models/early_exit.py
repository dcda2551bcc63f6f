"""XLM-R with a classifier after chosen layers: an input exits after the first one that is sure enough of it.

This file needs torch and transformers alone, so a published model carries it (`trust_remote_code=True`). It is the
reference, short and exact; halfling's engine is the fast one. Follows BranchyNet (https://arxiv.org/abs/1709.01686) and
DeeBERT (https://arxiv.org/abs/2004.12993), whose code stops for a batch of one only.
"""

import math
from dataclasses import dataclass
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import XLMRobertaConfig, XLMRobertaModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.xlm_roberta.modeling_xlm_roberta import (
    XLMRobertaClassificationHead,
    XLMRobertaPreTrainedModel,
)
from transformers.utils import ModelOutput

Policy = dict[str, Any]
"""Where inputs exit: `layers` in use, ascending, the last layer last; `thresholds`, one for each but the last.

An input exits where its uncertainty (0..1) is below the threshold. Optional: `criterion` (entropy, max_probability,
margin or patience), `patience` (exits in a row that must confirm an answer), `granularity` (sentence, or for taggers
token), `token_pooling` (mean or max: how a sentence's uncertainty is made of its tokens').
"""

_CHOICES = {
    "criterion": ("entropy", "max_probability", "margin", "patience"),
    "granularity": ("sentence", "token"),
    "token_pooling": ("mean", "max"),
}


def full_policy(policy: Policy | None, exit_layers: list[int]) -> Policy:
    """Return a policy with all its keys; one by which nobody exits early when it is None or all thresholds are 0.

    Raises:
        ValueError: It does not fit together, or not to a model with these exits.
    """
    never: Policy = {"layers": exit_layers[-1:], "thresholds": [], "patience": None}
    never |= {name: choices[0] for name, choices in _CHOICES.items()}
    full = never | (policy or {})
    layers, thresholds = list(full["layers"]), list(full["thresholds"])
    if layers != [layer for layer in exit_layers if layer in layers] or layers[-1:] != exit_layers[-1:]:
        raise ValueError(f"a policy with exits {layers} for a model with exits {exit_layers}")
    if len(thresholds) != len(layers) - 1 or not all(0 <= threshold <= 1 for threshold in thresholds):
        raise ValueError(f"expected a threshold in 0..1 for each of {len(layers) - 1} early exits, got {thresholds}")
    if unknown := [f"{name} {full[name]!r}" for name, choices in _CHOICES.items() if full[name] not in choices]:
        raise ValueError(f"a policy with an unknown {unknown[0]}")
    if (full["criterion"] == "patience") != bool(full["patience"]):
        raise ValueError(f"patience {full['patience']} with the criterion {full['criterion']}")
    return full if any(thresholds) else never


@no_type_check  # transformers makes an __init__ that takes any keyword; its signature, which is checked, names fields
class XLMRobertaEarlyExitConfig(XLMRobertaConfig):
    """XLM-R's configuration and where to exit.

    Args:
        exit_layers: Layers (1-based, ascending) followed by a classifier. The encoder's last layer is always the
            last exit and is added when missing.
        exit_policy: The `Policy` by which the model answers unless it is given another. None: nobody exits early.
    """

    model_type = "xlm-roberta-early-exit"

    exit_layers: list[int] | tuple[int, ...] = ()
    exit_policy: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        last = self.num_hidden_layers
        layers = sorted({*self.exit_layers, last})
        if layers[0] < 1 or layers[-1] > last:
            raise ValueError(f"exit_layers {layers} outside 1..{last}, the layers of this encoder")
        self.exit_layers = layers
        full_policy(self.exit_policy, layers)


@dataclass
class EarlyExitOutput(ModelOutput):
    """What an early-exit model returns.

    Attributes:
        loss: Sum of the exits' cross-entropies, when labels were given.
        logits: Of the exit that each input (or token) took, [batch, classes] or [batch, tokens, classes]; where every
            exit was computed, of the last.
        exit_layers: The layer after which each input exited, [batch]; with token exits the last of its tokens.
        token_exit_layers: With token exits, the layer after which each token exited, [batch, tokens]; 0 on padding.
        uncertainty: By the policy's criterion (0..1) at the exit taken, [batch], with token exits [batch, tokens],
            NaN on padding.
        exit_logits: Logits of every exit in order, where every exit was computed.
    """

    loss: Tensor | dict[str, Any] | None = None  # a dict of all fields where accelerate makes one anew
    logits: Tensor | None = None
    exit_layers: Tensor | None = None
    token_exit_layers: Tensor | None = None
    uncertainty: Tensor | None = None
    exit_logits: tuple[Tensor, ...] | None = None


def uncertainty(logits: Tensor, criterion: str) -> Tensor:
    """Return how unsure each answer is by a criterion that looks at one exit alone, in float32.

    0 is certain. 1 is uniform, and for the margin a tie.

    Args:
        logits: [..., classes].
        criterion: entropy (normalised by ln(classes)), max_probability or margin.
    """
    shifted = logits.float() - logits.float().amax(dim=-1, keepdim=True)
    exp, classes = shifted.exp(), logits.shape[-1]
    total = exp.sum(dim=-1)
    if criterion == "entropy":
        # ln sum e^x - sum x e^x / sum e^x: an underflown e^x is 0 here, where p ln p would be NaN and never exit.
        unsure = (total.log() - (exp * shifted).sum(dim=-1) / total) / math.log(classes)
    elif criterion == "max_probability":
        unsure = (1 - 1 / total) / (1 - 1 / classes)
    else:
        first, second = (exp / total[..., None]).topk(2).values.unbind(dim=-1)
        unsure = 1 - (first - second)
    return unsure.clamp(0, 1)


class Judge:
    """Says at exit after exit how unsure the model is of whoever is still there; patience remembers their answers."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.by_token = policy, policy["granularity"] == "token"
        self._labels: Tensor | None = None
        self._confirmed: Any = 0

    def __call__(self, logits: Tensor, counted: Tensor) -> Tensor:
        """Return the uncertainty of each sentence, [rows], or with token exits of each token, [rows, tokens].

        Args:
            logits: [rows, classes], or of a tagger [rows, tokens, classes].
            counted: True on the tokens whose uncertainty is a tagger's sentence's, [rows, tokens].
        """
        if self.policy["criterion"] == "patience":
            return self._impatience(logits.argmax(dim=-1), counted)
        each = uncertainty(logits, self.policy["criterion"])
        if self.by_token or each.dim() == 1:
            return each
        each, number = each.where(counted, 0), counted.sum(dim=1)
        pooled = each.amax(dim=1) if self.policy["token_pooling"] == "max" else each.sum(dim=1) / number.clamp(min=1)
        # Of a sentence without such a token nothing is known: it never exits early.
        return pooled.where(number > 0, 1)

    def _impatience(self, labels: Tensor, counted: Tensor) -> Tensor:
        """Return the share of the exits that have yet to confirm an answer (PABEE, https://arxiv.org/abs/2006.04152)."""
        same = labels == (torch.full_like(labels, -1) if self._labels is None else self._labels)
        if labels.dim() == 2 and not self.by_token:
            same = (same | ~counted).all(dim=1) & counted.any(dim=1)
        self._labels, self._confirmed = labels, torch.where(same, self._confirmed + 1, 0)
        return 1 - self._confirmed.clamp(max=self.policy["patience"]) / self.policy["patience"]

    def keep(self, rows: Tensor, tokens: int) -> None:
        """Forget all but these rows, True where one stays, and all but so many tokens."""
        if self._labels is not None:
            self._labels, self._confirmed = (_cut(each, rows, tokens) for each in (self._labels, self._confirmed))


def _cut(tensor: Tensor, rows: Tensor, tokens: int) -> Tensor:
    return tensor[rows, :tokens] if tensor.dim() > 1 else tensor[rows]


class _EarlyExitModel(XLMRobertaPreTrainedModel):
    """The loop, shared by both kinds; a kind says what a classifier is."""

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

    def classify(self, layer: int, hidden: Tensor) -> Tensor:
        """Return the logits of the exit after `layer`."""
        head = self.classifier if layer == self.config.num_hidden_layers else self.exits[str(layer)]
        return head(hidden)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        word_starts: Tensor | None = None,
        all_exits: bool = False,
        policy: Policy | None = None,
        **_: Any,
    ) -> EarlyExitOutput:
        """Return logits, and where each input exited.

        Args:
            input_ids: Token ids, [batch, tokens].
            attention_mask: 1 on real tokens, 0 on padding; everything is real when absent.
            position_ids: As in XLM-R; needed for packed rows only.
            labels: Classes, [batch] or [batch, tokens] with -100 where none.
            word_starts: For taggers, True on the first sub-word of each word: their uncertainty is the sentence's, and
                a sentence is done when all of them have exited. All real tokens when absent.
            all_exits: Compute every exit for every input. So it is in training, and with labels. A `policy` then says
                who would exit where, and tokens that have exited keep their state.
            policy: Where inputs exit; the configuration's `exit_policy` when absent, but where every exit is computed.
        """
        all_exits = all_exits or self.training or labels is not None
        exit_layers: list[int] = self.config.exit_layers
        policy = full_policy(self.config.exit_policy if policy is None and not all_exits else policy, exit_layers)
        by_token = policy["granularity"] == "token"
        if by_token and not self.tags_tokens:
            raise ValueError("granularity token: only taggers have tokens that exit alone")
        keep = torch.ones_like(input_ids, dtype=torch.bool)
        if attention_mask is not None and attention_mask.dim() == 2:
            keep = attention_mask.bool()
        elif attention_mask is not None and policy["thresholds"]:
            raise ValueError(
                f"expected attention_mask of [batch, tokens], came {tuple(attention_mask.shape)}: packed rows hold "
                "several sentences, which exit after different layers (use all_exits=True)"
            )
        # What is asked of padding does not count: an input that shrinks would lose it half way.
        counted = keep if word_starts is None else word_starts.bool() & keep
        hidden = self.roberta.embeddings(input_ids=input_ids, position_ids=position_ids)
        mask = self._mask(hidden, attention_mask)
        thresholds = dict(zip(policy["layers"], policy["thresholds"], strict=False))
        judge, exit_logits, logits = Judge(policy), [], None
        rows = torch.arange(len(input_ids), device=input_ids.device)  # which inputs the remaining rows are
        there = keep if by_token else torch.ones_like(keep)  # tokens that have not exited
        taken = torch.zeros_like(input_ids)
        unsure = torch.full(input_ids.shape, torch.nan, device=input_ids.device)
        for number, layer in enumerate(self.roberta.encoder.layer, start=1):
            after = layer(hidden, mask)
            hidden = after.where(there[..., None], hidden) if by_token else after
            if number not in (exit_layers if all_exits else policy["layers"]):
                continue
            here = self.classify(number, hidden)
            exit_logits.append(here)
            if number not in policy["layers"]:
                continue
            doubt = judge(here.detach(), counted)
            doubt = doubt if by_token else doubt[:, None].expand_as(there)
            goes = there & (doubt < thresholds[number]) if number in thresholds else there
            if by_token:  # with the last word that was waited for, all other tokens are done
                goes = goes | there & ~(counted & there & ~goes).any(dim=1, keepdim=True)
            row, column = goes.nonzero(as_tuple=True)
            taken[rows[row], column], unsure[rows[row], column] = number, doubt[row, column]
            there = there & ~goes
            if all_exits or not len(row):
                continue
            if logits is None:
                logits = here.new_zeros(*(input_ids.shape if self.tags_tokens else input_ids.shape[:1]), here.shape[-1])
            if self.tags_tokens:
                logits[rows[row], column] = here[row, column]
            else:
                logits[rows[goes[:, 0]]] = here[goes[:, 0]]
            stay = there.any(dim=1)
            if not stay.any():
                break
            # Those who stay are computed alone, at their own longest.
            ends = torch.arange(1, keep.shape[1] + 1, device=keep.device) * keep[stay]
            tokens = max(1, int(ends.max()))
            judge.keep(stay, tokens)
            rows = rows[stay]
            hidden, keep, counted, there = (_cut(each, stay, tokens) for each in (hidden, keep, counted, there))
            mask = self._mask(hidden, keep)
        loss = None
        if labels is not None:
            loss = sum(F.cross_entropy(one.flatten(0, -2).float(), labels.flatten()) for one in exit_logits)
        return EarlyExitOutput(
            loss=loss,
            logits=exit_logits[-1] if all_exits else logits,
            exit_layers=taken.amax(dim=1),
            token_exit_layers=taken if by_token else None,
            uncertainty=unsure if by_token else unsure[:, 0],
            exit_logits=tuple(exit_logits) if all_exits else None,
        )

    def _mask(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor | None:
        return create_bidirectional_mask(config=self.config, inputs_embeds=hidden, attention_mask=attention_mask)


class XLMRobertaEarlyExitForSequenceClassification(_EarlyExitModel):
    """XLM-R that classifies a text, or a pair of texts, after each of its exits."""

    @staticmethod
    def make_head(config: XLMRobertaEarlyExitConfig) -> nn.Module:
        """Return dense and tanh on `<s>`, then classes."""
        return XLMRobertaClassificationHead(config)


class XLMRobertaEarlyExitForTokenClassification(_EarlyExitModel):
    """XLM-R that tags tokens after each of its exits; a sentence exits as a whole, or each token alone."""

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
        """Return the logits of the exit after `layer`, with dropout before it in training.

        None before a last exit that does not learn: others imitate what it says.
        """
        is_fixed = layer == self.config.num_hidden_layers and not self.classifier.training
        return super().classify(layer, hidden if is_fixed else self.dropout(hidden))
