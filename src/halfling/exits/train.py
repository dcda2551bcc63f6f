"""The exits stage: a fine-tuned model in, the same model with trained exits out."""

from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field
from transformers import set_seed

from halfling.checkpoints import BatchMeanTrainer, epochs_order, remove_checkpoints, train_resumably, training_arguments
from halfling.errors import HalflingError
from halfling.models import EARLY_EXIT_MODELS, XLMRobertaEarlyExitConfig
from halfling.models.folder import load_model, load_tokenizer
from halfling.models.shapes import require_room
from halfling.records import Counts, Progress, Seed, Settings, TaskName, silent
from halfling.tasks import TASKS
from halfling.tasks.encode import IGNORED, pad_rows


class ExitsSettings(Settings):
    """Where the exits are and how they are trained."""

    task: TaskName = Field(description='"xnli" or "wikiann"')
    layers: tuple[int, ...] | None = Field(None, description="exit after these layers; after every one")
    method: Literal["two_stage", "joint"] = Field(
        "two_stage",
        description="two_stage: the fine-tuned model is frozen, so its last exit stays what it was; "
        "joint: everything moves, exit k weighs k",
    )
    token_pooling: Literal["mean", "max"] = Field(
        "mean", description="how a tagger's token uncertainties become the sentence's"
    )
    epochs: int = Field(1, gt=0, description="passes over the train split")
    batch_size: int = Field(32, gt=0, description="examples a step and device")
    learning_rate: float = Field(1e-3, gt=0)
    warmup_share: float = Field(0.1, ge=0, lt=1, description="of all steps")
    weight_decay: float = Field(0.01, ge=0)
    max_tokens: int = Field(128, ge=8, description="longer inputs are cut; special tokens included")
    max_train_examples: int | None = Field(None, gt=0, description="only the first so many; all")
    save_steps: int = Field(200, gt=0, multiple_of=25, description="a checkpoint every so many steps")
    seed: Seed = 0


def train_exits(
    *, settings: ExitsSettings, finetuned: Path, data: str | Path, out: Path, progress: Progress = silent
) -> Counts:
    """Write an early-exit model (`AutoModel` loads it after `import halfling.models`) with its tokenizer.

    Two-stage training follows DeeBERT (https://arxiv.org/abs/2004.12993), joint training with linear weights
    MSDNet as PABEE applies it (https://arxiv.org/abs/2006.04152). The threshold is left at 0: calibration sets it.

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
                "exit_token_pooling": settings.token_pooling,
                "freeze_backbone": two_stage,
            }
        )
    except ValueError as error:
        raise HalflingError(f"exits: {error}") from error
    if len(config.exit_layers) < 2:
        raise HalflingError(
            f"exits: {config.exit_layers} leaves no early exit: name a layer below {plain.config.num_hidden_layers}"
        )
    set_seed(settings.seed)  # of the exits' first weights
    model = load_model(EARLY_EXIT_MODELS[settings.task], finetuned, new=("exits",), config=config)
    if two_stage:
        model.requires_grad_(False)
        model.exits.requires_grad_(True)
        model.exit_loss_weights = [1.0] * (len(config.exit_layers) - 1) + [0.0]
    else:
        total = sum(config.exit_layers)
        model.exit_loss_weights = [layer / total for layer in config.exit_layers]
    examples = task.read(data, "train", "en")[: settings.max_train_examples]
    encoded = task.encode(examples, tokenizer, settings.max_tokens)
    rows = [row for row in encoded.rows if row["labels"] != [IGNORED] * len(row["input_ids"])]
    order = epochs_order(
        len(rows),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=settings.seed,
        lengths=[len(row["input_ids"]) for row in rows],
    )
    trainer = BatchMeanTrainer(
        model=model,
        args=training_arguments(
            out,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            warmup_share=settings.warmup_share,
            weight_decay=settings.weight_decay,
            seed=settings.seed,
            save_steps=settings.save_steps,
        ),
        train_dataset=[rows[number] for number in order],
        data_collator=partial(pad_rows, pad_id=encoded.pad_id),
    )
    curve = train_resumably(trainer, progress)
    model.config.freeze_backbone = False
    model.save_pretrained(out)
    remove_checkpoints(out)
    return {
        "exit_layers": config.exit_layers,
        "steps": trainer.state.global_step,
        "curve": [{"step": entry["step"], "loss": round(entry["loss"], 4)} for entry in curve],
    }
