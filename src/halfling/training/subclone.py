"""A student cut out of a larger teacher: the layers of a map, and of each what matters most on a calibration batch."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

from halfling.models.masked_lm import masked_features
from halfling.models.shapes import shape_of
from halfling.training.fit import Cut, Parts
from halfling.training.layer_maps import LayerPair


class Calibration(NamedTuple):
    """What a model's parts weigh on a batch: the mean size of what each adds to the layer after it.

    Attributes:
        channels: Of the hidden state; every layer counts alike.
        queries: By layer, of each head's dimensions in the products of queries and keys.
        values: By layer, of each head's dimensions in what attention puts out.
        neurons: By layer, of the feed-forward block's inner neurons.
        normalised: What each normalisation read, by its name.
    """

    channels: Float[Tensor, " width"]
    queries: list[Float[Tensor, "heads size"]]
    values: list[Float[Tensor, "heads size"]]
    neurons: list[Float[Tensor, " inner"]]
    normalised: dict[str, Float[Tensor, "tokens width"]]


@torch.no_grad()
def calibrate(teacher: XLMRobertaForMaskedLM, batch: Mapping[str, Int[Tensor, "batch tokens"]]) -> Calibration:
    """Return what the parts of a teacher weigh on a batch of packed rows; padding does not count."""
    keep, layers = batch["sequence_ids"] > 0, teacher.roberta.encoder.layer
    read: dict[str, Tensor] = {}
    listened = [
        (name, module)
        for name, module in teacher.named_modules()
        if name.endswith(("LayerNorm", "layer_norm", "output.dense"))
    ]

    def remember(name: str) -> Any:
        # The output layer's normalisation reads masked positions alone.
        return lambda _, given: read.__setitem__(name, given[0] if given[0].dim() == 2 else given[0][keep])

    hooks = [module.register_forward_pre_hook(remember(name)) for name, module in listened]
    try:
        said = masked_features(teacher.eval(), **batch, hidden_states=True, relations=range(1, len(layers) + 1))
    finally:
        for hook in hooks:
            hook.remove()

    def size(states: Tensor) -> Tensor:
        return states.float().abs().mean(dim=0)

    def carried(name: str) -> Tensor:
        """Return the mean size of what each input of a linear layer puts out."""
        return size(read[name]) * teacher.get_submodule(name).weight.norm(dim=0)

    sizes = torch.stack([size(states[keep]) for states in said.hidden_states])
    heads, places = teacher.config.num_attention_heads, [f"roberta.encoder.layer.{n}" for n in range(len(layers))]
    products = [size(one["query"][keep]) * size(one["key"][keep]) for one in said.relations.values()]
    return Calibration(
        channels=(sizes / sizes.mean(dim=1, keepdim=True)).mean(dim=0),
        queries=[one.unflatten(0, (heads, -1)) for one in products],
        values=[carried(f"{place}.attention.output.dense").unflatten(0, (heads, -1)) for place in places],
        neurons=[carried(f"{place}.output.dense") for place in places],
        normalised={name: states for name, states in read.items() if not name.endswith("dense")},
    )


def subclone(
    student: XLMRobertaForMaskedLM,
    teacher: XLMRobertaForMaskedLM,
    pairs: Sequence[LayerPair],
    batch: Mapping[str, Int[Tensor, "batch tokens"]],
) -> Parts:
    """Give the student what matters most of its teacher, in place, and return what that is.

    Each student layer is cut out of its teacher layer. Channels are the same in all layers, since each adds to the
    channels of the one before (XLM-R normalises after adding, so every layer's output is on one scale). Heads are
    chosen by what they put out; of a head whose size shrinks, the dimensions by what they add to products and outputs.

    Follows weight subcloning (https://arxiv.org/abs/2312.09299). We differ in three ways: a part weighs by its mean
    size times the weights that carry it on; queries are scaled so that products keep their scale when heads shrink;
    and the scale of a normalisation, which now sees fewer channels, is corrected by the spread of those that are kept.

    Raises:
        ValueError: The student is wider, has more heads, larger heads or more neurons than its teacher, reads more
            tokens, or has another vocabulary.
    """
    require_part(student.config, teacher.config)
    weigh = calibrate(teacher, batch)
    config = student.config
    kept = _largest(weigh.channels, config.hidden_size)
    size = config.hidden_size // config.num_attention_heads
    cuts: list[Cut] = []

    def copy(to: str, taken: str, rows: Tensor, columns: Tensor) -> torch.nn.Linear:
        own, theirs = student.get_submodule(to), teacher.get_submodule(taken)
        own.weight.copy_(theirs.weight[rows][:, columns])
        own.bias.copy_(theirs.bias[rows])
        return own

    def normalise(to: str, taken: str) -> None:
        own, theirs, read = student.get_submodule(to), teacher.get_submodule(taken), weigh.normalised[taken].float()
        own.weight.copy_(theirs.weight[kept])
        own.bias.copy_(theirs.bias[kept])
        if len(read):  # nothing is masked where logits weigh nothing
            spread, part = read.std(dim=1, correction=0), read[:, kept]
            own.bias.add_(own.weight * ((part.mean(dim=1) - read.mean(dim=1)) / spread).mean())
            own.weight.mul_((part.std(dim=1, correction=0) / spread).mean())

    with torch.no_grad():
        for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
            to, taken = (model.roberta.embeddings.get_submodule(name).weight for model in (student, teacher))
            to.copy_(taken[: len(to), kept])
        normalise("roberta.embeddings.LayerNorm", "roberta.embeddings.LayerNorm")
        for own, theirs in pairs:
            to, taken, n = f"roberta.encoder.layer.{own - 1}", f"roberta.encoder.layer.{theirs - 1}", theirs - 1
            heads = _largest(weigh.values[n].sum(dim=1), config.num_attention_heads)
            asked, given = (_dimensions(which[n], heads, size) for which in (weigh.queries, weigh.values))
            query = copy(f"{to}.attention.self.query", f"{taken}.attention.self.query", asked, kept)
            # Products are divided by the root of a smaller size than the one that they were learned with.
            scale = (size / weigh.queries[n].shape[1]) ** 0.5
            for part in (query.weight, query.bias):
                part.mul_(scale)
            copy(f"{to}.attention.self.key", f"{taken}.attention.self.key", asked, kept)
            copy(f"{to}.attention.self.value", f"{taken}.attention.self.value", given, kept)
            copy(f"{to}.attention.output.dense", f"{taken}.attention.output.dense", kept, given)
            normalise(f"{to}.attention.output.LayerNorm", f"{taken}.attention.output.LayerNorm")
            neurons = _largest(weigh.neurons[n], config.intermediate_size)
            cuts.append(Cut(asked, given, neurons, scale))
            copy(f"{to}.intermediate.dense", f"{taken}.intermediate.dense", neurons, kept)
            copy(f"{to}.output.dense", f"{taken}.output.dense", kept, neurons)
            normalise(f"{to}.output.LayerNorm", f"{taken}.output.LayerNorm")
        copy("lm_head.dense", "lm_head.dense", kept, kept)
        normalise("lm_head.layer_norm", "lm_head.layer_norm")
        student.lm_head.bias.copy_(teacher.lm_head.bias)
    return Parts(kept, [*pairs], cuts)


def require_part(student: XLMRobertaConfig, teacher: XLMRobertaConfig) -> None:
    """Refuse a student that is no part of its teacher.

    Raises:
        ValueError: It is larger somewhere, or has another vocabulary.
    """
    own, theirs = (shape_of(config).model_dump() for config in (student, teacher))
    for shape in (own, theirs):
        shape["head_width"] = shape["width"] // shape["num_heads"]
    for name in ("width", "num_heads", "head_width", "ffn_width", "max_tokens"):
        if own[name] > theirs[name]:
            raise ValueError(f"start=subclone: expected a student's {name} of at most {theirs[name]}, came {own[name]}")
    if own["vocab_size"] != theirs["vocab_size"]:
        raise ValueError(f"start=subclone: expected {theirs['vocab_size']} pieces, came {own['vocab_size']}")


def _largest(weights: Float[Tensor, " parts"], number: int) -> Int[Tensor, " kept"]:
    """Return which parts weigh most, in the order in which they stand."""
    return weights.topk(number).indices.sort().values


def _dimensions(weights: Float[Tensor, "heads size"], heads: Int[Tensor, " kept"], size: int) -> Int[Tensor, " wide"]:
    """Return the places of the `size` dimensions that weigh most in each of `heads`, all heads side by side."""
    whole = weights.shape[1]
    return torch.cat([head * whole + _largest(weights[head], size) for head in heads.tolist()])
