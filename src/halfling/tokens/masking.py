"""Packed blocks in training order, masked: epoch e reads chunk e."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32
from torch import Tensor
from torch.utils.data import Dataset

from halfling.errors import HalflingError
from halfling.tokens.blocks import PAD, UNKNOWN, Block, PackedBlocks, PackedSummary

_IGNORED = -100


class MaskedBlocks(Dataset[dict[str, Tensor]]):
    """Every block that training will read, from the first to the last, with its masks.

    Epoch e reads chunk e, and begins again with chunk 1 after the last. An item's masks follow from the seed and
    its place in the order, so neither a resume nor the batch size nor the number of workers changes them.
    Masking is BERT's (https://arxiv.org/abs/1810.04805): of the chosen tokens 80 % become `<mask>`, 10 % a random
    piece, 10 % stay. We differ in one way: a fixed share of each block is masked, not each token by chance, so that
    every full block weighs the same and gradient accumulation does not change the loss. A padded block, the last of a
    language, has fewer masks.

    Attributes:
        block_tokens: The tokens of every block.
        steps_at_epoch_end: How many steps were made when each epoch ends.
    """

    def __init__(
        self,
        packed: Path,
        *,
        epochs: int,
        blocks_per_step: int,
        vocab_size: int,
        mask_id: int,
        seed: int,
        mask_share: float = 0.15,
        tokens_per_epoch: int | None = None,
    ) -> None:
        summary = PackedSummary.read(packed / "corpus.json")
        if summary.vocab_size != vocab_size:
            raise HalflingError(
                f"{packed}: was packed with {summary.vocab_size} pieces, the model has {vocab_size}: "
                "pack it with this model's tokenizer"
            )
        folders = [packed / f"chunk-{number}" for number in range(1, len(summary.blocks) + 1)]
        self._chunks = folders[: min(epochs, len(folders))]
        for folder in self._chunks:
            _require_whole(folder, summary.blocks[folder.name])
        self._opened: tuple[int, PackedBlocks] | None = None
        self.vocab_size, self.mask_id, self.seed, self.mask_share = vocab_size, mask_id, seed, mask_share
        self.block_tokens = summary.block_tokens
        self.steps_at_epoch_end: list[int] = []
        orders: list[Int32[np.ndarray, " blocks"]] = []
        for epoch in range(epochs):
            chunk = epoch % len(folders)
            num_blocks = sum(summary.blocks[folders[chunk].name].values())
            whole = blocks_read(num_blocks, summary.block_tokens, blocks_per_step, tokens_per_epoch)
            if whole == 0:
                raise HalflingError(
                    f"{folders[chunk]}: {num_blocks} blocks do not fill one step of {blocks_per_step}: "
                    "give the corpus more text, raise tokens_per_epoch, or lower batch_size"
                )
            shuffled = np.random.default_rng([epoch, 0, seed]).permutation(num_blocks)[:whole]
            orders.append(shuffled.astype(np.int32))
            self.steps_at_epoch_end.append(sum(map(len, orders)) // blocks_per_step)
        # Four bytes a block: a corpus of 27 GB has some 15 million of them.
        self._order = np.concatenate(orders)
        self._epoch_ends = np.cumsum([len(order) for order in orders])

    def __len__(self) -> int:
        return len(self._order)

    def source(self, place: int) -> tuple[int, int]:
        """Return the chunk (from 0) that item `place` comes from, and its block's number there."""
        epoch = int(np.searchsorted(self._epoch_ends, place, side="right"))
        return epoch % len(self._chunks), int(self._order[place])

    def _chunk(self, number: int) -> PackedBlocks:
        # One at a time, mapped when an epoch comes to it: a reader of chunk 1 needs no chunk 5.
        if self._opened is None or self._opened[0] != number:
            self._opened = number, PackedBlocks(self._chunks[number])
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the opened chunk behind: a worker of a data loader maps it itself."""
        return {**self.__dict__, "_opened": None}

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        chunk, number = self.source(place)
        random = np.random.default_rng([self.seed, place])
        return mask_block(
            self._chunk(chunk)[number],
            random,
            mask_share=self.mask_share,
            mask_id=self.mask_id,
            vocab_size=self.vocab_size,
        )


def _require_whole(chunk: Path, promised: dict[str, int]) -> None:
    """Refuse a chunk whose blocks are not those that packing counted: a later epoch would stop, or read others."""
    there: Counter[str] = Counter()
    for run in PackedBlocks(chunk).runs:
        there[run.language] += len(run.input_ids)
    for code in sorted({*promised, *there}):
        if there[code] != promised.get(code, 0):
            raise HalflingError(
                f"{chunk}: {there[code]} blocks of {code}, not {promised.get(code, 0)} as corpus.json says: "
                "pack the corpus again"
            )


def blocks_read(num_blocks: int, block_tokens: int, blocks_per_step: int, tokens_per_epoch: int | None) -> int:
    """Return how many of a chunk's blocks an epoch reads.

    Whole steps only: a step never mixes two chunks, and an epoch ends where a step ends.
    """
    wanted = min(num_blocks, tokens_per_epoch // block_tokens) if tokens_per_epoch else num_blocks
    return wanted // blocks_per_step * blocks_per_step


def mask_block(
    block: Block, random: np.random.Generator, *, mask_share: float, mask_id: int, vocab_size: int
) -> dict[str, Tensor]:
    """Return a block as a masked language model reads it: `input_ids`, `sequence_ids` and `labels`, each [tokens].

    A `mask_share` of 0 masks nothing; of any other at least one token is masked. The share is of all tokens but
    padding, so full blocks have equally many masks, however many sequences lie in them.
    """
    ids = block.input_ids.astype(np.int64)
    sequence_ids = np.zeros(len(ids), dtype=np.int64)
    sequence_ids[block.starts] = 1
    sequence_ids = sequence_ids.cumsum()
    sequence_ids[ids == PAD] = 0
    # `<s>`, `</s>` and padding (ids below 3) teach nothing when masked; unknown pieces have no meaning to guess.
    candidates = np.flatnonzero(ids > UNKNOWN)
    wanted = max(1, round(mask_share * int((ids != PAD).sum()))) if mask_share else 0
    chosen = random.permutation(candidates)[:wanted]
    labels = np.full(len(ids), _IGNORED, dtype=np.int64)
    labels[chosen] = ids[chosen]
    fate = random.random(len(chosen))
    ids[chosen[fate < 0.8]] = mask_id
    swapped = chosen[(fate >= 0.8) & (fate < 0.9)]
    ids[swapped] = random.integers(4, vocab_size - 1, len(swapped))
    return {
        "input_ids": torch.from_numpy(ids),
        "sequence_ids": torch.from_numpy(sequence_ids),
        "labels": torch.from_numpy(labels),
    }
