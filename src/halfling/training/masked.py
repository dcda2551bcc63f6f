"""What every training that reads masked blocks shares: its settings, and the blocks that follow from them."""

from pathlib import Path

from pydantic import Field
from transformers import TrainingArguments

from halfling.tokens.masking import MaskedBlocks
from halfling.training.trainer import TrainingSettings


class MaskedTraining(TrainingSettings):
    """What every stage that learns from masked blocks is told."""

    epochs: int = Field(5, gt=0, description="epoch e reads chunk e")
    tokens_per_epoch: int | None = Field(None, gt=0, description="at most so many tokens of each chunk; all")
    gradient_accumulation: int = Field(1, gt=0)
    mask_share: float = Field(0.15, gt=0, lt=1, description="of the tokens of a block")


def masked_blocks(
    packed: Path, settings: MaskedTraining, arguments: TrainingArguments, *, vocab_size: int, mask_id: int
) -> MaskedBlocks:
    """Return the blocks that a training with these settings reads."""
    return MaskedBlocks(
        packed,
        epochs=settings.epochs,
        blocks_per_step=arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size,
        vocab_size=vocab_size,
        mask_id=mask_id,
        mask_share=settings.mask_share,
        tokens_per_epoch=settings.tokens_per_epoch,
        seed=settings.seed,
    )
