"""Linear maps by which states of a student are compared with those of a teacher of another width."""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import ModelOutput


class Projections(nn.ModuleDict):
    """A learned map to `teacher_width` for each layer that is compared (0: the embedding output).

    At equal width there is none: it would only blur what is compared. As TinyBERT's
    (https://arxiv.org/abs/1909.10351), which shares one among all layers.
    """

    def __init__(self, layers: Iterable[int], width: int, teacher_width: int) -> None:
        wanted = sorted({*layers}) if width != teacher_width else []
        super().__init__({str(layer): nn.Linear(width, teacher_width) for layer in wanted})

    def of(self, layer: int, states: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens wide"]:
        """Return a layer's states at the teacher's width."""
        name = str(layer)
        projected: Tensor = self[name](states) if name in self else states
        return projected


def project_states(model: PreTrainedModel, layers: Iterable[int], teacher_width: int, *, bfloat16: bool) -> None:
    """Have a plain model return the hidden states of these layers at its teacher's width, in place.

    Its `projections` learn with it, in the precision of its other products. They work within its call, where whoever
    shares it out among processes sees them. At equal width nothing changes.
    """
    found = Projections(layers, model.config.hidden_size, teacher_width)
    if not found:
        return
    for part in found.values():
        nn.init.normal_(part.weight, std=model.config.initializer_range)
        nn.init.zeros_(part.bias)
    model.projections = found

    def project(_model: nn.Module, _given: Any, output: ModelOutput) -> ModelOutput:
        if told := output.hidden_states:
            # The autocast of the model's own `forward` is over.
            with torch.autocast(told[0].device.type, torch.bfloat16, enabled=bfloat16):
                output.hidden_states = tuple(found.of(layer, states) for layer, states in enumerate(told))
        return output

    model.register_forward_hook(project)
