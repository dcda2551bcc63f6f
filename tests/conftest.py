"""What all tests share: annotations are checked as the code runs, and one thread computes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jaxtyping import install_import_hook

# Before anything imports torch: tests are small, and on a busy machine a second thread waits for the first.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

# The command line is annotated for typer, whose parameters beartype knows nothing of.
install_import_hook("halfling", "beartype.beartype")

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
PIECES = ["▁", "▁Anna", "▁lives", "▁in", "▁Rome", "▁yes", "▁no", "▁maybe", *"abcdefghijklmnopqrstuvwxyzAR."]


@pytest.fixture
def tiny_tokenizer() -> Any:
    """An XLM-R tokenizer of a few words and the letters; ids 0..3 and the last (41) are XLM-R's special ones."""
    from transformers import XLMRobertaTokenizer  # here: most tests need no transformers

    scored = [(piece, -1.0 - number / 100) for number, piece in enumerate(PIECES)]
    return XLMRobertaTokenizer(vocab=[*((name, 0.0) for name in SPECIAL), *scored, ("<mask>", 0.0)])


@pytest.fixture
def write_masked_lm(tiny_tokenizer: Any) -> Callable[..., Path]:
    """A function that writes a random masked language model, 16 wide and of 64 tokens, with its tokenizer."""
    from transformers import XLMRobertaForMaskedLM, set_seed

    from halfling.models.shapes import Dimensions, config_for

    def write(folder: Path, *, num_layers: int = 2, width: int = 16, seed: int = 0) -> Path:
        set_seed(seed)
        shape = Dimensions(num_layers=num_layers, width=width, num_heads=2, max_tokens=64)
        config = config_for(shape.with_vocabulary(len(tiny_tokenizer)))
        config.initializer_range = 0.2
        XLMRobertaForMaskedLM(config).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return write


@pytest.fixture
def write_tagger(tiny_tokenizer: Any) -> Callable[..., Path]:
    """A function that writes a random tagger of two layers with an exit after the first, and its tokenizer."""
    from transformers import set_seed

    from halfling.models import XLMRobertaEarlyExitConfig, XLMRobertaEarlyExitForTokenClassification
    from halfling.models.shapes import Dimensions, config_for
    from halfling.tasks import TASKS

    def write(folder: Path, seed: int = 0) -> Path:
        set_seed(seed)
        shape = Dimensions(num_layers=2, width=16, num_heads=2, max_tokens=32).with_vocabulary(len(tiny_tokenizer))
        names = dict(enumerate(TASKS["wikiann"].labels))
        settings = config_for(shape).to_dict() | {
            "initializer_range": 0.2,
            "id2label": names,
            "label2id": {name: number for number, name in names.items()},
        }
        XLMRobertaEarlyExitForTokenClassification(
            XLMRobertaEarlyExitConfig(**settings, exit_layers=[1])
        ).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return write


@pytest.fixture
def write_packed() -> Callable[..., Path]:
    """A function that writes chunks of blocks of token ids as the pack stage does; a sequence begins at each 0."""
    from halfling.corpus.blocks import BlocksWriter, PackedSummary, Run, block_schema, blocks_file

    def write(folder: Path, chunks: list[list[list[int]]], vocab_size: int = 42) -> Path:
        block_tokens = len(chunks[0][0])
        for number, blocks in enumerate(chunks, start=1):
            (folder / f"chunk-{number}").mkdir(parents=True)
            ids = np.array(blocks)
            rows, starts = np.nonzero(ids == 0)
            with BlocksWriter(blocks_file(folder, number, "en"), block_schema(block_tokens, vocab_size)) as writer:
                writer.write(Run("en", ids, starts, np.searchsorted(rows, np.arange(len(ids) + 1))))
        PackedSummary(
            block_tokens=block_tokens,
            vocab_size=vocab_size,
            blocks={f"chunk-{number}": {"en": len(blocks)} for number, blocks in enumerate(chunks, start=1)},
            tokens={"en": 0},
        ).write(folder / "corpus.json")
        return folder

    return write


@pytest.fixture
def full_blocks() -> Callable[..., list[list[list[int]]]]:
    """A function that makes chunks of random blocks of 24 tokens, two sequences in each and no padding."""

    def make(num_chunks: int, num_blocks: int, seed: int = 0) -> list[list[list[int]]]:
        random = np.random.default_rng(seed)

        def block() -> list[int]:
            cut, words = int(random.integers(3, 17)), random.integers(4, 41, 20).tolist()
            return [0, *words[:cut], 2, 0, *words[cut:], 2]

        return [[block() for _ in range(num_blocks)] for _ in range(num_chunks)]

    return make
