"""A student's layers fitted to what their teacher layers say, by least squares, before its first step of training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

from halfling.models.packing import packed_attention, packed_positions
from halfling.training.layer_maps import LayerPair

_RIDGE = 0.01
"""Of the mean square of what a map reads: so much holds its weights to what they were."""
_AT_ONCE = 4096
_TOKENS_AN_INPUT = 4
"""With as many tokens as inputs a map would learn them by heart, and say worse of other text than before."""


class Cut(NamedTuple):
    """Which parts of a teacher layer a student layer was made of.

    Attributes:
        asked: Dimensions of queries and keys, all heads side by side.
        given: Dimensions of values.
        neurons: Of the feed-forward block.
        scale: What queries were multiplied by.
    """

    asked: Int[Tensor, " width"]
    given: Int[Tensor, " width"]
    neurons: Int[Tensor, " inner"]
    scale: float = 1.0


class Parts(NamedTuple):
    """Which parts of a teacher a student was made of.

    Attributes:
        channels: Of its states.
        pairs: Its layer for each of the student's.
        cuts: Of these, in the same order.
    """

    channels: Int[Tensor, " width"]
    pairs: list[LayerPair]
    cuts: list[Cut]


def whole(config: XLMRobertaConfig, pairs: Sequence[LayerPair]) -> Parts:
    """Return the parts of layers that were copied."""
    channels, neurons = torch.arange(config.hidden_size), torch.arange(config.intermediate_size)
    return Parts(channels, [*pairs], [Cut(channels, channels, neurons)] * len(pairs))


Wanted = Mapping[str, Callable[[], Tensor]]
"""What parts of a module should say, [tokens, channels], by their names; made when it is asked for."""


@torch.no_grad()
def fit_layers(
    student: XLMRobertaForMaskedLM,
    teacher: XLMRobertaForMaskedLM,
    parts: Parts,
    batch: Mapping[str, Int[Tensor, "batch tokens"]],
    projections: Mapping[int, nn.Linear] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """Fit a student that was copied or cut out of its teacher, in place.

    Each of its linear maps, the first one first, learns from what it reads in the student what its counterpart says in
    the teacher. Queries, keys, values and inner neurons learn those that they were made of; the two maps that add to a
    state learn what is missing there. So what was left out between two layers, and what was lost before, is made up
    for as far as a linear map can. A normalisation's scale and bias are fitted channel by channel.

    "Channel Pruning" (https://arxiv.org/abs/1707.06168) reconstructs what a pruned layer says in the same way. We
    differ in that layers are left out too, and that a ridge holds weights to what they were.

    All tokens go through a layer at once, and what the teacher's parts say of them is kept until it is learned.

    Args:
        student: Its layers are those of its teacher, or cut out of them.
        teacher: Who is imitated.
        parts: What the student was made of.
        batch: Packed rows, `input_ids` and `sequence_ids`.
        projections: Maps to the teacher's width, by the number of the student layer (0: the embeddings): fitted too.
        progress: Told how many layers are done.

    Raises:
        ValueError: The teacher layers are not in the order of the student's, or the tokens are too few.
    """
    keep = batch["sequence_ids"] > 0
    require_fit(parts.pairs, int(keep.sum()), student.config.intermediate_size)
    mask = packed_attention(batch["sequence_ids"])
    read = {"input_ids": batch["input_ids"], "position_ids": packed_positions(batch["sequence_ids"])}
    with _heard(teacher.eval().roberta.embeddings, keep) as said:
        theirs = teacher.roberta.embeddings(**read)
    wanted = said["LayerNorm"]
    with _fitted(student.eval().roberta.embeddings, keep, {"LayerNorm": lambda: wanted[:, parts.channels]}):
        own = student.roberta.embeddings(**read)

    def project(number: int) -> None:
        if projections and number in projections:
            fit_linear(projections[number], own[keep], wanted)

    project(0)
    done = 0
    for (number, teacher_layer), cut in zip(parts.pairs, parts.cuts, strict=True):
        for layer in teacher.roberta.encoder.layer[done:teacher_layer]:
            with _heard(layer, keep) as said:
                theirs = layer(theirs, mask)
        done, wanted = teacher_layer, said["output.LayerNorm"]
        with _fitted(student.roberta.encoder.layer[number - 1], keep, _wanted(said, parts.channels, cut)) as layer:
            own = layer(own, mask)
        project(number)
        progress(number)


def require_fit(pairs: Sequence[LayerPair], tokens: int, ffn_width: int) -> None:
    """Refuse what cannot be fitted, or would be worse than before.

    Raises:
        ValueError: The teacher layers are not in the order of the student's, along which both are read; or the widest
            map has nearly as many inputs as there are tokens.
    """
    if sorted(pairs) != sorted(pairs, key=lambda pair: pair[1]):
        raise ValueError(
            f"fit_tokens: expected teacher layers in the order of the student's, came {[*pairs]}: leave fit_tokens "
            "out, or choose another map"
        )
    if tokens < _TOKENS_AN_INPUT * ffn_width:
        raise ValueError(
            f"fit_tokens: {tokens} tokens are too few for {ffn_width} inner neurons: give "
            f"{_TOKENS_AN_INPUT * ffn_width} or more, or leave fit_tokens out"
        )


@contextmanager
def _heard(module: nn.Module, keep: Bool[Tensor, "batch tokens"]) -> Iterator[dict[str, Tensor]]:
    """Note by name what the parts of a module say, and what normalisations read."""
    said: dict[str, Tensor] = {}

    def note(name: str, part: nn.Module, given: Tensor, output: Tensor) -> None:
        said[name] = output[keep]
        if isinstance(part, nn.LayerNorm):
            said[f"{name} reads"] = given[keep]

    hooks = [
        part.register_forward_hook(lambda part, given, output, name=name: note(name, part, given[0], output))
        for name, part in module.named_modules()
        # What an output map says is part of what the normalisation behind it reads.
        if isinstance(part, nn.Linear | nn.LayerNorm) and not name.endswith("output.dense")
    ]
    try:
        yield said
    finally:
        for hook in hooks:
            hook.remove()


def _wanted(said: Mapping[str, Tensor], channels: Tensor, cut: Cut) -> Wanted:
    """Return what the parts of a student layer should say; of those that add to a state, with that state."""
    return {
        "attention.self.query": lambda: said["attention.self.query"][:, cut.asked] * cut.scale,
        "attention.self.key": lambda: said["attention.self.key"][:, cut.asked],
        "attention.self.value": lambda: said["attention.self.value"][:, cut.given],
        "attention.output": lambda: said["attention.output.LayerNorm reads"][:, channels],
        "attention.output.LayerNorm": lambda: said["attention.output.LayerNorm"][:, channels],
        "intermediate.dense": lambda: said["intermediate.dense"][:, cut.neurons],
        "output": lambda: said["output.LayerNorm reads"][:, channels],
        "output.LayerNorm": lambda: said["output.LayerNorm"][:, channels],
    }


@contextmanager
def _fitted(module: nn.Module, keep: Bool[Tensor, "batch tokens"], wanted: Wanted) -> Iterator[nn.Module]:
    """Fit parts of a module to what they should say, each just before it reads."""

    def fit(part: nn.Module, states: Tensor, target: Tensor, added: tuple[Tensor, ...]) -> None:
        if isinstance(part, nn.LayerNorm):
            _fit_normalisation(part, states, target)
        elif isinstance(part, nn.Linear):
            fit_linear(part, states, target)
        else:  # adds what it says to the state that came with it
            fit_linear(part.dense, states, target - added[0][keep])

    hooks = [
        module.get_submodule(name).register_forward_pre_hook(
            lambda part, given, target=target: fit(part, given[0][keep], target(), given[1:])
        )
        for name, target in wanted.items()
    ]
    try:
        yield module
    finally:
        for hook in hooks:
            hook.remove()


def fit_linear(linear: nn.Linear, states: Float[Tensor, "tokens wide"], target: Float[Tensor, "tokens out"]) -> None:
    """Move weights and bias so that the map says `target` of `states`, as nearly as a ridge lets it."""
    missing, mean = target - F.linear(states, linear.weight, linear.bias), states.mean(dim=0)
    lacking = missing.mean(dim=0)
    width = len(mean)
    gram, cross = (states.new_zeros(width, columns, dtype=torch.float64) for columns in (width, len(lacking)))
    for some, lack in zip(states.split(_AT_ONCE), missing.split(_AT_ONCE), strict=True):
        centred = some - mean
        gram += (centred.T @ centred).double()
        cross += (centred.T @ (lack - lacking)).double()
    ridge = (_RIDGE * gram.diagonal().mean()).clamp(min=torch.finfo(torch.float32).tiny)
    gram.diagonal().add_(ridge)
    change = torch.linalg.solve(gram, cross).T.to(states.dtype)
    linear.weight.add_(change)
    linear.bias.add_(lacking - change @ mean)


def _fit_normalisation(
    norm: nn.LayerNorm, states: Float[Tensor, "tokens width"], target: Float[Tensor, "tokens width"]
) -> None:
    """Give each channel the scale and bias that say `target` most nearly; one that never changes keeps its scale."""
    plain = F.layer_norm(states, norm.normalized_shape, eps=norm.eps)
    spread, both = plain - plain.mean(dim=0), target - target.mean(dim=0)
    size = spread.square().mean(dim=0)
    norm.weight.copy_(torch.where(size > 0, (spread * both).mean(dim=0) / size, norm.weight))
    norm.bias.copy_(target.mean(dim=0) - norm.weight * plain.mean(dim=0))
