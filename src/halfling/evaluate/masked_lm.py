"""Masked-language-model loss on text that training never read, language by language."""

from pathlib import Path

import numpy as np
import torch
from pydantic import Field
from torch.utils.data import default_collate

from halfling.bounds import Count, Part, Seed, Size
from halfling.errors import HalflingError
from halfling.files import write_text
from halfling.models.load import load_masked_lm, load_tokenizer
from halfling.models.masked_lm import PackedMaskedLM
from halfling.models.shapes import require_room
from halfling.records import Counts, Progress, Settings, json_lines, silent
from halfling.results import MaskedLoss
from halfling.tokens.blocks import PackedBlocks, PackedSummary
from halfling.tokens.masking import mask_block


class MaskedLMSettings(Settings):
    """What is masked, and how much of it."""

    model: str = Field(description="the model's name in the results")
    chunk: Part | None = Field(None, description="the chunk that is held out; the corpus's last")
    blocks: Count = Field(16, gt=0, description="of each language, at most; which ones, the seed decides")
    mask_share: float = Field(0.15, gt=0, lt=1, description="of the tokens of a block")
    batch_size: Size = Field(32, gt=0, description="blocks at a time; it changes speed, not the loss")
    seed: Seed = Field(0, description="of the blocks and their masks: the same for every model")


def measure_masked_lm(
    *, settings: MaskedLMSettings, model: Path, packed: Path, out: Path, progress: Progress = silent
) -> Counts:
    """Write `masked_lm.jsonl`, a `records.MaskedLoss` for each language of the held-out chunk.

    Nothing here knows what a model was trained on: hold a chunk out by training on fewer epochs than chunks.

    Returns:
        The mean of the languages' losses, in nats per masked token, and the number of languages. A model without a
        language-model head is `left_out`, and no line is written.

    Raises:
        HalflingError: The model or the chunk cannot be read, or they do not fit each other.
    """
    network, has_head = load_masked_lm(PackedMaskedLM, model)
    if not has_head:
        write_text(out / "masked_lm.jsonl", "")
        return {"languages": 0, "left_out": f"{settings.model} has no language-model head: it predicts no words"}
    words = load_tokenizer(model, network)
    summary = PackedSummary.read(packed / "corpus.json")
    if summary.vocab_size != network.config.vocab_size:
        raise HalflingError(
            f"{packed}: was packed with {summary.vocab_size} pieces, {model} has {network.config.vocab_size}: "
            "pack it with this model's tokenizer"
        )
    number = settings.chunk or len(summary.blocks)
    if number > len(summary.blocks):
        raise HalflingError(f"{packed}: has {len(summary.blocks)} chunks, not {number}: name one of them")
    chunk = PackedBlocks(packed / f"chunk-{number}")
    require_room(network.config, chunk.block_tokens, model)
    network = network.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    languages = np.array(chunk.languages)
    lines = []
    codes = sorted(set(languages.tolist()))
    for place, code in enumerate(codes):
        progress(place, len(codes), code)
        random = np.random.default_rng([settings.seed, place])
        chosen = random.permutation(np.flatnonzero(languages == code))[: settings.blocks]
        masked = [
            mask_block(
                chunk[int(block)],
                random,
                mask_share=settings.mask_share,
                mask_id=words.mask_token_id,
                vocab_size=summary.vocab_size,
            )
            for block in chosen
        ]
        loss, num_masked = _loss(network, masked, settings.batch_size)
        lines.append(MaskedLoss(model=settings.model, language=code, loss=loss, num_masked=num_masked))
    progress(len(codes), len(codes), "")
    write_text(out / "masked_lm.jsonl", json_lines(lines))
    return {"mean_loss": round(float(np.mean([line.loss for line in lines])), 4), "languages": len(lines)}


@torch.inference_mode()
def _loss(network: PackedMaskedLM, masked: list[dict[str, torch.Tensor]], batch_size: int) -> tuple[float, int]:
    """Return the mean over all masked positions, and how many these are."""
    total, num_masked = 0.0, 0
    for begin in range(0, len(masked), batch_size):
        batch = {
            name: tensor.to(network.device)
            for name, tensor in default_collate(masked[begin : begin + batch_size]).items()
        }
        here = int((batch["labels"] != -100).sum())
        total += float(network(**batch)["loss"]) * here
        num_masked += here
    return total / num_masked, num_masked
