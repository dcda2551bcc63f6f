"""Tiny encoders and data for the tests of tasks."""

import lzma
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
import torch
from transformers import (
    PreTrainedTokenizerBase,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    set_seed,
)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Models this small spend their time waiting for threads: on busy cores ten times the work itself."""
    torch.set_num_threads(1)


@pytest.fixture
def tiny_config(tiny_tokenizer: PreTrainedTokenizerBase) -> XLMRobertaConfig:
    """Two layers, 16 wide, 40 tokens."""
    return XLMRobertaConfig(
        vocab_size=len(tiny_tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=42,
        type_vocab_size=1,
        # Wide enough that random models disagree with themselves from input to input.
        initializer_range=0.5,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )


@pytest.fixture
def encoder(tmp_path: Path, tiny_tokenizer: PreTrainedTokenizerBase, tiny_config: XLMRobertaConfig) -> Path:
    """A folder with a random masked language model and its tokenizer."""
    set_seed(0)
    folder = tmp_path / "encoder"
    tiny_config.initializer_range = 0.1
    XLMRobertaForMaskedLM(tiny_config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def write_xz() -> Callable[[Path, str], Path]:
    """A function that writes a text as .xz, and its folder."""

    def write(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(text.encode()))
        return path

    return write


@pytest.fixture
def write_hub_form(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[dict[str, list], datasets.Features], Path]:
    """A function that writes rows as the hub stores a data set: README.md, Parquet, "en" and "validation"."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)

    def write(rows: dict[str, list], features: datasets.Features) -> Path:
        folder = tmp_path / "hub-form"
        (folder / "en").mkdir(parents=True)
        (folder / "README.md").write_text(
            "---\nconfigs:\n- config_name: en\n  data_files:\n  - split: validation\n    path: en/validation-*\n---\n"
        )
        data = datasets.Dataset.from_dict(rows, features=features)
        data.to_parquet(folder / "en" / "validation-00000-of-00001.parquet")
        return folder

    return write
