"""A model shared out among processes by torch's FSDP2: each holds a part of every weight, files hold whole ones.

accelerate's own plugin is left out: it shards on GPUs alone, and no plain training goes on from its checkpoints. These
are what a process alone writes, so any number of processes goes on from them, sharded or not.
"""

from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from transformers import PreTrainedModel, Trainer

from halfling import processes


class ShardingTrainer(Trainer):
    """A Trainer that, with `fsdp`, has several processes share out its model and whoever is `beside` it.

    A process alone has all of both.

    Attributes:
        sharded: Whether they do.
    """

    def __init__(
        self, *, fsdp: bool = False, compiled: bool = False, activation_checkpointing: bool = False, **arguments: Any
    ) -> None:
        """Take `transformers.Trainer`'s arguments, and a `TrainingSettings`' `computed`."""
        super().__init__(**arguments)
        self.compiled = compiled
        if activation_checkpointing:
            enable = getattr(self.model, "activation_checkpointing_enable", None)  # transformers 5.23's name
            (enable or self.model.gradient_checkpointing_enable)({"use_reentrant": False})
        if compiled:
            _compile(self.model)
        self.sharded = fsdp and processes.number() > 1
        if self.sharded:
            _shard(self.model, layers_stay=True, rest_stays=True)
            # Autocast alone is left for accelerate to do: it would wrap the model to average whole gradients.
            prepare = self.accelerator.prepare_model
            self.accelerator.prepare_model = lambda model, **_: prepare(
                model, device_placement=False, evaluation_mode=True
            )

    def beside(self, model: PreTrainedModel, *, rest_stays: bool = False) -> PreTrainedModel:
        """Return a model that is read and does not learn, on this trainer's device, in evaluation mode.

        Call the model itself, not a part of it: its weights are whole while its `forward` runs.

        Args:
            model: Who is read.
            rest_stays: Embeddings and heads are looked at after it has read, so they stay whole.
        """
        model.eval().requires_grad_(False)
        if self.compiled:
            _compile(model)
        if not self.sharded:
            return model.to(self.args.device)
        _shard(model, layers_stay=False, rest_stays=rest_stays)
        return model

    def whole_weights(self) -> dict[str, Tensor]:
        """Return the model's weights by name, whole. Every process has to ask; of shared ones the leader gets them."""
        if not isinstance(self.model, FSDPModule):
            return self.model.state_dict()  # type: ignore[no-any-return]
        self.model.reshard()  # after a pass without gradients what is outside its layers is whole still
        once = {weight: _whole(weight.detach()) for weight in self.model.parameters()}
        return {name: once[weight] for name, weight in self.model.named_parameters(remove_duplicate=False)}

    def create_optimizer(self, *given: Any, **more: Any) -> Optimizer:
        """Return the optimizer, whose state is written whole."""
        optimizer = super().create_optimizer(*given, **more)
        if self.sharded:
            optimizer.register_state_dict_post_hook(_whole_states)
            optimizer.register_load_state_dict_pre_hook(_own_states)
        return optimizer

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the model, whole."""
        if not self.sharded:
            super().save_model(output_dir, _internal_call)
            return
        weights = self.whole_weights()
        if self.args.should_save:
            self._save(output_dir, state_dict=weights)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.sharded and not self.args.should_save:
            self.optimizer.state_dict()  # the leader, which writes, waits for the others' parts
        super()._save_optimizer_and_scheduler(output_dir)


def _compile(model: PreTrainedModel) -> None:
    """Compile the layers of a model of XLM-R's architecture, in place: alike, they are compiled once.

    A layer, not the model: it is whole again where it is sharded or its activations are checkpointed, and names of
    weights stay (https://docs.pytorch.org/tutorials/recipes/regional_compilation.html).
    """
    for layer in model.roberta.encoder.layer:
        layer.compile(dynamic=True)


def _shard(model: PreTrainedModel, *, layers_stay: bool, rest_stays: bool) -> None:
    """Share out the weights of a model of XLM-R's architecture, in place; it still loads whole ones.

    Args:
        model: Whole, and the same in every process.
        layers_stay: Once gathered, a layer stays whole until the backward pass is through it. So it must where a loss
            looks into a layer whose output no loss sees: nothing would gather its weights again.
        rest_stays: The same of embeddings and heads; of a model that does not learn, from then on.
    """
    for layer in model.roberta.encoder.layer:
        fully_shard(layer, reshard_after_forward=not layers_stay)
    fully_shard(model, reshard_after_forward=not rest_stays)
    model.register_load_state_dict_pre_hook(_own_weights)


def _whole(value: Tensor) -> Tensor:
    """Return a shared value whole and on the CPU, to the leader: others get nothing."""
    if not isinstance(value, DTensor):
        return value
    whole = value.full_tensor()
    return torch.empty(0) if processes.follows() else whole.cpu()


def _part(value: Tensor, like: Tensor) -> Tensor:
    """Return this process's part of a whole value that is as large as a weight, and any other as it is."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)


def _own_weights(model: PreTrainedModel, state: dict[str, Any], *_: Any) -> None:
    for name, weight in model.named_parameters(remove_duplicate=False):
        if name in state:
            state[name] = _part(state[name], weight)


def _whole_states(_: Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    state = {number: {name: _whole(value) for name, value in one.items()} for number, one in saved["state"].items()}
    return {**saved, "state": state}


def _own_states(optimizer: Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    own = dict(zip(numbers, weights, strict=True))
    state = {
        number: {name: _part(value, own[number]) for name, value in one.items()}
        for number, one in saved["state"].items()
    }
    return {**saved, "state": state}
