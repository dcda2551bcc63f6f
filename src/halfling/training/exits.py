"""The exits stage: a fine-tuned model in, the same model with trained exits out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from transformers import PreTrainedModel, set_seed

from halfling import processes
from halfling.bounds import Count, Part, Rate, Repeats
from halfling.errors import HalflingError
from halfling.exits.policy import ExitPolicy
from halfling.models import XLMRobertaEarlyExitConfig
from halfling.models.classifier import EARLY_EXIT, load_classifier, read_checkpoint
from halfling.models.load import load_model, load_tokenizer
from halfling.models.on_cpu import computing_on_cpu
from halfling.models.shapes import require_room
from halfling.processes import together
from halfling.records import Counts, Progress, silent
from halfling.tasks.encode import IGNORED
from halfling.tasks.of_model import task_of
from halfling.tasks.task import Task
from halfling.training.imitate import load_imitated, require_text, text_rows
from halfling.training.labelled import LabelledTraining, train_on_labels
from halfling.training.losses import exits_loss
from halfling.training.remembering import RememberingTrainer
from halfling.training.trainer import counted_by_all


class ExitsSettings(LabelledTraining):
    """Where the exits are and how they are trained."""

    layers: tuple[Part, ...] | None = Field(None, description="exit after these layers; after every one")
    method: Literal["two_stage", "joint", "leaving"] = Field(
        "two_stage",
        description="two_stage: the fine-tuned model is frozen, so its last exit stays what it was; "
        "joint: everything moves, exit k weighs k: for pairs; "
        "leaving: joint, and in the second half of all steps an exit learns from those alone who come as far",
    )
    soft_share: float = Field(
        0.5,
        ge=0,
        le=1,
        description="of an exit's loss: imitate the model as it was without exits, or --teacher; the rest: the labels",
    )
    text_sequences: Count = Field(
        0,
        ge=0,
        description="sequences of the packed corpus, in the task's languages, no labels: imitate there too; each is "
        "read once at most, a part of them in every epoch",
    )
    freeze_embeddings: bool = Field(
        False, description="word embeddings stay as they are; with two_stage they always do"
    )
    granularity: Literal["sentence", "token"] = Field(
        "sentence", description="what exits in the second half of method=leaving: sentences, or (taggers) single tokens"
    )
    epochs: Repeats = Field(
        3, gt=0, description="passes over the train split, after those of fine-tuning; unsaid with joint or leaving: 1"
    )
    learning_rate: Rate = Field(1e-3, description="unsaid with joint or leaving, which move everything: 2e-4")

    @model_validator(mode="after")
    def _text_needs_a_share(self) -> "ExitsSettings":
        if self.text_sequences and not self.soft_share:
            raise ValueError(f"text_sequences {self.text_sequences}: to imitate there: set soft_share above 0")
        return self

    @model_validator(mode="before")
    @classmethod
    def _more_carefully_where_everything_moves(cls, raw: Any) -> Any:
        moves = isinstance(raw, dict) and raw.get("method", "two_stage") != "two_stage"
        return {"epochs": 1, "learning_rate": 2e-4, **raw} if moves else raw


class _ExitsTrainer(RememberingTrainer):
    """A Trainer whose loss is that of all exits, each weighed by `weights`.

    What stays from pass to pass is what a teacher says and, with two_stage, the states that exits look at.
    """

    def __init__(
        self,
        *,
        how: ExitsSettings,
        weights: Sequence[float],
        imitated: tuple[PreTrainedModel, list[int]] | None = None,
        **arguments: Any,
    ) -> None:
        """Take whom to imitate, with the classes as it numbers them; none with two_stage: the last exit stays."""
        super().__init__(**arguments)
        self.how, self.weights = how, weights
        self.imitated = None
        if imitated is not None:
            model, self.classes = imitated
            if self.args.use_cpu:
                computing_on_cpu(model)
            self.imitated = self.asked = self.beside(model)

    def unchanging(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what is imitated and, of an encoder that is frozen, the states that its exits look at."""
        found = self._imitated_says(inputs)
        if self.how.method == "two_stage":
            model = self.model
            model.roberta.eval()
            read = {name: inputs[name] for name in ("input_ids", "attention_mask")}
            with torch.no_grad(), self.accelerator.autocast():
                states = model.roberta(**read, output_hidden_states=True).hidden_states
            tokens = None if model.tags_tokens else 1  # a text's exits look at <s> alone
            looked_at = torch.stack([states[layer][:, :tokens] for layer in model.config.exit_layers], dim=2)
            # Kept or not: whether there is room must not change what is learned.
            found["states"] = looked_at.to(torch.bfloat16 if self.args.bf16 else torch.float32)
        return found

    def _imitated_says(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.imitated is None:
            return {}
        with torch.no_grad(), self.accelerator.autocast():
            said = self.imitated(inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
        return {"imitated": said[..., self.classes]}

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
        """Return the loss of a batch."""
        inner = getattr(model, "module", model)  # several processes wrap it
        if self.how.method == "two_stage":  # no dropout in what must not move
            inner.roberta.eval()
            inner.classifier.eval()
        labels, keep = inputs["labels"], inputs["attention_mask"].bool()
        # Several processes average the gradients of what goes through the model's own `forward`.
        anew = self.unchanging if processes.number() == 1 else self._imitated_says
        said = self.recalled(inputs) or anew(inputs)
        reached = None
        if "states" in said:
            exits = zip(inner.config.exit_layers, said["states"].unbind(2), strict=True)
            with self.accelerator.autocast():  # the model's own is in its `forward`
                logits: Sequence[Tensor] = [inner.classify(layer, states) for layer, states in exits]
        else:
            logits, reached = self._every_exit(model, inner.config.exit_layers, inputs)
        return exits_loss(
            logits,
            labels,
            self.weights,
            imitated=said.get("imitated"),
            soft_share=self.how.soft_share,
            soft_on=keep if labels.dim() == 2 else torch.ones_like(labels, dtype=torch.bool),
            reached=reached,
            counted=counted_by_all,
        )

    def _every_exit(
        self, model: Any, exit_layers: Sequence[int], inputs: dict[str, Tensor]
    ) -> tuple[Sequence[Tensor], list[Tensor] | None]:
        """Return the logits of each exit, and who came as far where that is asked."""
        labels, keep = inputs["labels"], inputs["attention_mask"].bool()
        read = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        if self.how.method != "leaving" or 2 * self.state.global_step < self.state.max_steps:
            return model(**read, all_exits=True).exit_logits, None
        # A threshold of its own for every batch: which one calibration will choose is not known yet.
        policy = ExitPolicy.uniform(tuple(exit_layers), torch.rand(()).item(), granularity=self.how.granularity)
        if labels.dim() == 2 and self.how.granularity == "sentence":
            read["word_starts"] = labels != IGNORED
        output = model(**read, policy=policy.model_dump(mode="json"), all_exits=True)
        taken = output.exit_layers if output.token_exit_layers is None else output.token_exit_layers
        if labels.dim() > taken.dim():
            taken = taken[:, None].where(keep, 0)
        return output.exit_logits, [taken >= layer for layer in exit_layers]


@together
def train_exits(
    *,
    settings: ExitsSettings,
    finetuned: Path,
    out: Path,
    task: Task | None = None,
    teacher: Path | None = None,
    packed: Path | None = None,
    progress: Progress = silent,
) -> Counts:
    """Write an early-exit model (transformers' `AutoModelFor...` loads it after `import halfling`) with its tokenizer.

    Two-stage training follows DeeBERT (https://arxiv.org/abs/2004.12993), joint training with linear weights
    MSDNet as PABEE applies it (https://arxiv.org/abs/2006.04152), and training on those who will be there
    "Accelerating BERT Inference for Sequence Labeling via Early-Exit" (https://arxiv.org/abs/2105.13878); that one
    samples exits from a window's uncertainty, we draw a threshold for each batch. Imitation is that of FastBERT
    (https://arxiv.org/abs/2004.02178), but of the model as it was. Nobody leaves early yet: calibration says when.

    Args:
        finetuned: A fine-tuned model's folder.
        task: Data for the task that travels with the model.
        teacher: Another model fine-tuned for the task, to imitate in place of FINETUNED as it was.
        packed: A packed corpus, of the same tokenizer, to imitate on with `text_sequences`.

    Returns:
        The exits, steps, and the training curve (summed cross-entropy, nats).

    Raises:
        HalflingError: An exit lies outside the model, or model, teacher or data cannot be read.
    """
    if read_checkpoint(finetuned).has_exits:
        raise HalflingError(f"{finetuned}: has exits already: name the model that it was made from")
    whole = task_of(finetuned, task)
    whole = whole.model_copy(update={"held_out": whole.held})
    if not whole.train:
        raise HalflingError(f"task {whole.name}: no training data: give them with --train FILE")
    if settings.granularity == "token" and (whole.kind != "tagging" or settings.method != "leaving"):
        raise HalflingError("exits: granularity=token is for taggers and method=leaving")
    require_text(settings.text_sequences, packed, whole)
    if teacher is not None and not settings.soft_share:
        raise HalflingError("exits: --teacher FOLDER and soft_share=0: set soft_share above 0, or leave it out")
    plain = load_classifier(finetuned)
    require_room(plain.config, settings.max_tokens, finetuned)
    tokenizer = load_tokenizer(finetuned, plain)
    two_stage = settings.method == "two_stage"
    try:
        layers = list(settings.layers or range(1, plain.config.num_hidden_layers + 1))
        config = XLMRobertaEarlyExitConfig(**{**plain.config.to_dict(), "exit_layers": layers})
    except ValueError as error:
        raise HalflingError(f"exits: {error}") from error
    if len(config.exit_layers) < 2:
        raise HalflingError(
            f"exits: {config.exit_layers} leaves no early exit: name a layer below {plain.config.num_hidden_layers}"
        )
    weights = [layer / sum(config.exit_layers) for layer in config.exit_layers]
    if two_stage:
        weights = [1.0] * (len(weights) - 1) + [0.0]
    set_seed(settings.seed)  # of the exits' first weights
    model = load_model(EARLY_EXIT[whole.head], finetuned, new=("exits",), config=config)
    model.get_input_embeddings().weight.requires_grad_(not settings.freeze_embeddings)
    if two_stage:
        model.requires_grad_(False)
        model.exits.requires_grad_(True)
    more: dict[str, Any] = {
        "trainer_class": _ExitsTrainer,
        "how": settings,
        "weights": weights,
        "states_gb": settings.states_gb,
    }
    if settings.soft_share and teacher is not None:
        more["imitated"] = load_imitated(teacher, whole, config.vocab_size, settings.max_tokens)
    elif settings.soft_share and not two_stage:
        more["imitated"] = plain, list(range(config.num_labels))
    del plain  # in two stages nobody imitates it, and its vocabulary alone may take half a gigabyte
    if packed:
        more["more_rows"] = text_rows(packed, whole, tokenizer, settings.text_sequences, settings)
    counts = train_on_labels(model, tokenizer, whole, settings, out, progress, **more)
    return {"exit_layers": config.exit_layers, **counts}
