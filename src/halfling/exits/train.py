"""The exits stage: a fine-tuned model in, the same model with trained exits out."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from transformers import set_seed

from halfling.checkpoints import remove_checkpoints
from halfling.errors import HalflingError
from halfling.models import EARLY_EXIT_MODELS, XLMRobertaEarlyExitConfig
from halfling.models.folder import load_model, load_tokenizer
from halfling.models.shapes import require_room
from halfling.records import Counts, Progress, silent
from halfling.tasks import TASKS
from halfling.tasks.english import EnglishTraining, train_on_english


class ExitsSettings(EnglishTraining):
    """Where the exits are and how they are trained."""

    layers: tuple[int, ...] | None = Field(None, description="exit after these layers; after every one")
    method: Literal["two_stage", "joint"] = Field(
        "two_stage",
        description="two_stage: the fine-tuned model is frozen, so its last exit stays what it was; "
        "joint: everything moves, exit k weighs k",
    )
    # Fresh classifiers on a model that knows the task: fewer passes, larger steps.
    epochs: int = Field(1, gt=0, description="passes over the train split")
    learning_rate: float = Field(1e-3, gt=0)


def train_exits(
    *, settings: ExitsSettings, finetuned: Path, data: str | Path, out: Path, progress: Progress = silent
) -> Counts:
    """Write an early-exit model (`AutoModel` loads it after `import halfling.models`) with its tokenizer.

    Two-stage training follows DeeBERT (https://arxiv.org/abs/2004.12993), joint training with linear weights
    MSDNet as PABEE applies it (https://arxiv.org/abs/2006.04152). Nobody leaves early yet: calibration says when.

    Returns:
        The exits, steps, and the training curve (summed cross-entropy, nats).

    Raises:
        HalflingError: An exit lies outside the model, or model or data cannot be read.
    """
    task = TASKS[settings.task]
    plain = load_model(task.model_class, finetuned)
    require_room(plain.config, settings.max_tokens, finetuned)
    tokenizer = load_tokenizer(finetuned)
    tokenizer.save_pretrained(out)
    two_stage = settings.method == "two_stage"
    try:
        config = XLMRobertaEarlyExitConfig(
            **{
                **plain.config.to_dict(),
                "exit_layers": list(settings.layers or range(1, plain.config.num_hidden_layers + 1)),
                "freeze_backbone": two_stage,
            }
        )
    except ValueError as error:
        raise HalflingError(f"exits: {error}") from error
    if len(config.exit_layers) < 2:
        raise HalflingError(
            f"exits: {config.exit_layers} leaves no early exit: name a layer below {plain.config.num_hidden_layers}"
        )
    if two_stage:
        config.exit_loss_weights = [1.0] * (len(config.exit_layers) - 1) + [0.0]
    else:
        total = sum(config.exit_layers)
        config.exit_loss_weights = [layer / total for layer in config.exit_layers]
    set_seed(settings.seed)  # of the exits' first weights
    model = load_model(EARLY_EXIT_MODELS[settings.task], finetuned, new=("exits",), config=config)
    if two_stage:
        model.requires_grad_(False)
        model.exits.requires_grad_(True)
    counts = train_on_english(model, tokenizer, settings, data, out, progress)
    model.config.freeze_backbone = False
    model.save_pretrained(out)
    remove_checkpoints(out)
    return {"exit_layers": config.exit_layers, **counts}
