"""The loops that really stop: whoever is sure enough at an exit is computed no further.

We differ from DeeBERT's code (https://arxiv.org/abs/2004.12993), which stops for a batch of one only: inputs that leave
are taken out of the batch, so that those that stay are computed alone.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.utils import ModelOutput

from halfling.exits import criteria
from halfling.exits.policy import ExitPolicy
from halfling.models.token_layer import Places, layer_of_some, places


@dataclass
class EarlyExitOutput(ModelOutput):
    """What an early-exit model returns.

    Attributes:
        loss: Sum of the exits' losses, each weighted by `exit_loss_weights`, when labels were given.
        logits: Of the exit that each input (or token) took: [batch, classes], or [batch, tokens, classes].
        exit_layers: The layer after which each input left, [batch]; with token exits the last of its tokens.
        token_exit_layers: With token exits, the layer after which each token left, [batch, tokens]; 0 on padding.
        uncertainty: By the policy's criterion (0..1) at the exit taken, [batch], with token exits [batch, tokens],
            NaN on padding.
        exit_logits: Logits of every exit in order, in training and with `all_exits=True`.
        reached: With `leave_below`, who came as far as each exit: [batch], or [batch, tokens].
    """

    loss: Float[Tensor, ""] | None = None
    logits: Float[Tensor, "batch *tokens classes"] | None = None
    exit_layers: Int[Tensor, " batch"] | None = None
    token_exit_layers: Int[Tensor, "batch tokens"] | None = None
    uncertainty: Float[Tensor, "batch ..."] | None = None
    exit_logits: tuple[Tensor, ...] | None = None
    reached: tuple[Tensor, ...] | None = None


def leave_by_sentence(
    model: Any,
    policy: ExitPolicy,
    hidden: Float[Tensor, "batch tokens width"],
    mask: Tensor | None,
    keep: Bool[Tensor, "batch tokens"],
    counted: Bool[Tensor, "batch tokens"],
) -> EarlyExitOutput:
    """Return the answers when all tokens of an input leave together.

    Args:
        model: An early-exit model.
        policy: Its policy.
        hidden: The embedding output.
        mask: As transformers makes it, or None when nothing is padding.
        keep: True on real tokens.
        counted: True on the tokens whose uncertainty is the sentence's.
    """
    thresholds = _thresholds(policy)
    doubt = model.doubt(policy)
    batch, tokens = keep.shape
    device, last = hidden.device, model.config.num_hidden_layers
    rows = np.arange(batch)
    taken = np.full(batch, last)
    unsure = np.full(batch, np.nan, dtype=np.float32)
    logits = None
    on_host: tuple[np.ndarray, np.ndarray] | None = None
    for number, layer in enumerate(model.roberta.encoder.layer, start=1):
        hidden = layer(hidden, mask)
        if number not in thresholds and number != last:
            continue
        here = model.classify(number, hidden)
        tagger = here.dim() == 3
        # The one time at this exit that an accelerator is waited for: all that is decided on comes at once.
        values, *flags = _on_host(here, *(() if on_host else (keep, counted)))
        keep_now, counted_now = on_host = on_host or (flags[0].astype(bool), flags[1].astype(bool))
        here_unsure = doubt(values[counted_now], counted_now.sum(axis=1)) if tagger else doubt(values)
        leave = criteria.leaves(here_unsure, thresholds.get(number, 0.0)) | (number == last)
        gone, stay = np.flatnonzero(leave), np.flatnonzero(~leave)
        if not len(gone):
            continue
        taken[rows[gone]], unsure[rows[gone]] = number, here_unsure[gone]
        if logits is None:
            logits = here.new_zeros((batch, tokens, here.shape[-1]) if tagger else (batch, here.shape[-1]))
        place = (_index(rows[gone], device), slice(here.shape[1])) if tagger else (_index(rows[gone], device),)
        logits[place] = here[_index(gone, device)]
        if not len(stay):
            break
        rows, keep_now, counted_now = rows[stay], keep_now[stay], counted_now[stay]
        longest = _longest(keep_now)
        on_host = keep_now[:, :longest], counted_now[:, :longest]
        doubt.stay(stay)
        at = _index(stay, device)
        hidden, mask = hidden[at, :longest], _cut(mask, at, on_host[0])
    return EarlyExitOutput(
        logits=logits, exit_layers=_index(taken, device), uncertainty=torch.from_numpy(unsure).to(device)
    )


def leave_by_token(
    model: Any,
    policy: ExitPolicy,
    hidden: Float[Tensor, "batch tokens width"],
    mask: Tensor | None,
    keep: Bool[Tensor, "batch tokens"],
    counted: Bool[Tensor, "batch tokens"],
) -> EarlyExitOutput:
    """Return the answers when each token leaves alone; the arguments are those of `leave_by_sentence`.

    What a token left with stays its answer, and its state stays a key and a value for those that go on. Tokens
    that nobody asks (specials, later sub-words) leave by the same rule, and all when the last that counts has left.
    """
    thresholds = _thresholds(policy)
    doubt = model.doubt(policy)
    batch, tokens = keep.shape
    device, last = hidden.device, model.config.num_hidden_layers
    rows = np.arange(batch)
    taken = np.zeros((batch, tokens), dtype=np.int64)
    unsure = np.full((batch, tokens), np.nan, dtype=np.float32)
    logits = None
    remaining: Places | None = None  # None: all tokens, padding too
    on_host: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    for number, layer in enumerate(model.roberta.encoder.layer, start=1):
        if remaining is None:
            hidden = layer(hidden, mask)
            states = hidden.flatten(0, 1)
        else:
            states = layer_of_some(layer, hidden, mask, remaining, hidden.flatten(0, 1)[remaining.in_batch])
            hidden = hidden.flatten(0, 1).index_copy(0, remaining.in_batch, states).view_as(hidden)
        if number not in thresholds and number != last:
            continue
        here = model.classify(number, states)
        values, *flags = _on_host(here, *(() if on_host else (keep, counted)))
        if on_host is None:
            keep_now, waited_for = flags[0].astype(bool), flags[1].astype(bool)
            there = keep_now
        else:
            keep_now, there, waited_for = on_host
        place_in_here = np.flatnonzero(there) if remaining is None else np.arange(len(values))
        if remaining is None:
            values = values[place_in_here]
        here_unsure = doubt(values)
        leave = criteria.leaves(here_unsure, thresholds.get(number, 0.0)) | (number == last)
        still = there.copy()
        still[there] = ~leave
        waited_for = waited_for & still
        still &= waited_for.any(axis=1, keepdims=True)
        on_host = keep_now, still, waited_for
        row, column = np.nonzero(there & ~still)
        if not len(row):
            continue
        gone = ~still[there]
        taken[rows[row], column], unsure[rows[row], column] = number, here_unsure[gone]
        if logits is None:
            logits = here.new_zeros(batch, tokens, here.shape[-1])
        logits.flatten(0, 1)[_index(rows[row] * tokens + column, device)] = here[_index(place_in_here[gone], device)]
        stay = np.flatnonzero(still.any(axis=1))
        if not len(stay):
            break
        doubt.stay(np.flatnonzero(~gone))
        rows, longest = rows[stay], _longest(keep_now[stay])
        keep_now, still, waited_for = (each[stay, :longest] for each in on_host)
        on_host = keep_now, still, waited_for
        at = _index(stay, device)
        hidden, mask = hidden[at, :longest], _cut(mask, at, keep_now)
        remaining = places(still, device)
    on_device = _index(taken, device)
    return EarlyExitOutput(
        logits=logits,
        exit_layers=on_device.amax(dim=1),
        token_exit_layers=on_device,
        uncertainty=torch.from_numpy(unsure).to(device),
    )


def _thresholds(policy: ExitPolicy) -> dict[int, float]:
    """Return the threshold of each exit in use but the last; none when nobody leaves early."""
    return dict(zip(policy.layers, policy.thresholds, strict=False)) if policy.is_early else {}


def _longest(keep: np.ndarray) -> int:
    """Return how many columns are needed: whoever stays may be shorter than whoever left."""
    return int(np.flatnonzero(keep.any(axis=0)).max(initial=0)) + 1


def _cut(mask: Tensor | None, rows: Tensor, keep: np.ndarray) -> Tensor | None:
    """Return the mask of the rows that stay, at their own longest."""
    if mask is None or keep.all():
        return None
    longest = keep.shape[1]
    mask = mask[rows, ..., :longest]
    return mask[:, :, :longest] if mask.dim() == 4 else mask


def _on_host(*tensors: Tensor) -> list[np.ndarray]:
    """Return tensors of one device as float32 arrays, in a single transfer."""
    flat = torch.cat([tensor.detach().float().flatten() for tensor in tensors]).cpu().numpy()
    ends = np.cumsum([tensor.numel() for tensor in tensors])[:-1]
    return [part.reshape(tensor.shape) for part, tensor in zip(np.split(flat, ends), tensors, strict=True)]


def _index(numbers: np.ndarray, device: torch.device) -> Int[Tensor, "..."]:
    # Numbers, not a mask: to index with a mask, an accelerator must first be asked how many are True.
    return torch.from_numpy(numbers).to(device, non_blocking=True)
