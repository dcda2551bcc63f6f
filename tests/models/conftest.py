"""Sequences of many lengths, as a batch and alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import set_seed


@pytest.fixture
def lengths() -> list[int]:
    """Of the sequences in `padded`."""
    return [12, 3, 7, 11, 5, 9, 4, 10, 8, 6, 2, 12]


@pytest.fixture
def padded(lengths: list[int]) -> dict[str, Tensor]:
    """A batch of random ids."""
    set_seed(0)
    ids = torch.randint(4, 50, (len(lengths), max(lengths)))
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids.where(mask.bool(), 1), "attention_mask": mask}


@pytest.fixture
def one(lengths: list[int]) -> Callable[[dict[str, Tensor], int], dict[str, Tensor]]:
    """A function that returns a row of `padded` alone, without padding."""

    def take(batch: dict[str, Tensor], row: int) -> dict[str, Tensor]:
        return {name: tensor[row : row + 1, : lengths[row]] for name, tensor in batch.items()}

    return take
