"""What every training that reads masked blocks shares: its settings, and the blocks that follow from them."""

from pathlib import Path

from pydantic import Field
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

from halfling import processes
from halfling.bounds import Amount, Repeats, Size
from halfling.errors import HalflingError
from halfling.tokens.masking import MaskedBlocks
from halfling.training.arguments import TrainingSettings, training_arguments


class MaskedTraining(TrainingSettings):
    """What every stage that learns from masked blocks is told."""

    epochs: Repeats = Field(5, gt=0, description="epoch e reads chunk e")
    tokens_per_epoch: Amount | None = Field(None, gt=0, description="at most so many tokens of each chunk; all")
    gradient_accumulation: Size = Field(1, gt=0, description="batches a step")
    mask_share: float = Field(0.15, gt=0, lt=1, description="of the tokens of a block")
    freeze_embeddings: bool = Field(
        False, description="word embeddings, and with them the weights of the output layer, stay as they began"
    )


def masked_training(
    settings: MaskedTraining, packed: Path, out: Path, model: PreTrainedModel, words: PreTrainedTokenizerBase
) -> tuple[TrainingArguments, MaskedBlocks]:
    """Return a Trainer's arguments and the blocks that it reads, the model's word embeddings frozen if so wished.

    A step reads the same blocks whatever the number of processes: they share its batches, or each batch.

    Raises:
        HalflingError: They can share neither evenly; or as `training_arguments`.
    """
    model.get_input_embeddings().weight.requires_grad_(not settings.freeze_embeddings)
    size, batches = shared(settings, processes.number())
    own = settings.model_copy(update={"batch_size": size})
    arguments = training_arguments(out, own, gradient_accumulation_steps=batches)
    blocks = MaskedBlocks(
        packed,
        epochs=settings.epochs,
        blocks_per_step=settings.batch_size * settings.gradient_accumulation,
        vocab_size=len(words),
        mask_id=words.mask_token_id,
        mask_share=settings.mask_share,
        tokens_per_epoch=settings.tokens_per_epoch,
        seed=settings.seed,
    )
    return arguments, blocks


def shared(settings: MaskedTraining, number: int) -> tuple[int, int]:
    """Return the batch size and the batches a step of each of several processes.

    Raises:
        HalflingError: They can share neither evenly.
    """
    size, batches = settings.batch_size, settings.gradient_accumulation
    if batches % number == 0:
        return size, batches // number
    if size % number == 0:
        return size // number, batches
    raise HalflingError(
        f"training: {number} processes share neither gradient_accumulation={batches} nor batch_size={size} evenly: "
        "set one of them to a multiple"
    )
