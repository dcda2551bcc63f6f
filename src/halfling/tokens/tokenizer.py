"""The tokenizer stage: XLM-R's own from the hub or a folder, or one of its kind trained here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from halfling.bounds import Count, Processes, Seed, Size
from halfling.corpus.digests import seeded_keys
from halfling.corpus.quota import Bytes, share_out
from halfling.corpus.store import (
    Document,
    chunk_folder,
    chunk_languages,
    chunk_numbers,
    digest_of,
    read_batches,
)
from halfling.errors import HalflingError
from halfling.models import load
from halfling.models.pieces import as_xlm_roberta
from halfling.records import Counts, Progress, Settings, silent
from halfling.tokens.encode import load_tokenizer
from halfling.tokens.unigram import train_unigram

SENTENCEPIECE_FILE = "sentencepiece.bpe.model"  # XLM-R's name for it, though its kind is Unigram


class TokenizerSettings(Settings):
    """Where the tokenizer comes from and, if it is trained here, how."""

    source: str = Field("train", description='"train", a hub id ("FacebookAI/xlm-roberta-large") or a folder')
    vocab_size: Count = Field(16_000, ge=10, le=10_000_000, description="pieces, special tokens included")
    max_training_bytes: Bytes = Field(20_000_000, gt=0, description="text to train on, bytes or 20MB")
    alpha: float = Field(0.3, ge=0, le=10, description="each language's share of it follows its size to this power")
    character_coverage: float = Field(0.9995, gt=0.9, le=1, description="share of characters that get a piece")
    max_tokens: Size = Field(512, ge=8, description="longest input, special tokens included")
    num_threads: Processes = Field(2, description="for training; sums are rounded per thread, so it is a setting")
    seed: Seed = Field(0, description="decides which documents are trained on")


def build_tokenizer(
    *,
    settings: TokenizerSettings,
    corpus: Path,
    out: Path,
    source: Path | None = None,
    progress: Progress = silent,
) -> Counts:
    """Write a Hugging Face folder whose tokenizer has XLM-R's special tokens and ids.

    Args:
        corpus: Folder that `halfling corpus build` wrote; read only to train.
        source: The folder that `settings.source` names, if it is one.

    Returns:
        `vocab_size` and, when trained here, `training_bytes` per language.

    Raises:
        HalflingError: The source or the corpus cannot be read, the layout is not XLM-R's, or the text is too
            small for the vocabulary.
    """
    counts: dict[str, Any] = {}
    if settings.source == "train":
        progress(0, 1, "choosing text")
        chosen = _choose_documents(settings, corpus)
        counts["training_bytes"] = {code: size for code, (_, size) in chosen.items()}
        progress(0, 1, "training")
        model = train_unigram(
            _paragraphs(corpus, {code: digests for code, (digests, _) in chosen.items()}),
            vocab_size=settings.vocab_size,
            character_coverage=settings.character_coverage,
            num_threads=settings.num_threads,
        )
        as_xlm_roberta(model, settings.max_tokens).save_pretrained(out)
        (out / SENTENCEPIECE_FILE).write_bytes(model)
    else:
        progress(0, 1, f"loading {settings.source}")
        load.load_tokenizer(source or settings.source).save_pretrained(out)
    progress(1, 1, "done")
    return {"vocab_size": load_tokenizer(out).get_vocab_size(), **counts}


def _documents(corpus: Path, code: str) -> Iterator[Document]:
    for number in chunk_numbers(corpus):
        path = chunk_folder(corpus, number) / f"{code}.parquet"
        if path.exists():
            for batch in read_batches(path):
                yield from batch


def _choose_documents(settings: TokenizerSettings, corpus: Path) -> dict[str, tuple[set[int], int]]:
    """Return, per language, the digests of the documents to train on and their bytes."""
    codes = sorted({code for n in chunk_numbers(corpus) for code in chunk_languages(chunk_folder(corpus, n))})
    digests: dict[str, np.ndarray] = {}
    sizes: dict[str, np.ndarray] = {}
    for code in codes:
        found = [(digest_of(document.id), len(document.text.encode())) for document in _documents(corpus, code)]
        if found:
            digests[code] = np.array([digest for digest, _ in found], np.uint64)
            sizes[code] = np.array([size for _, size in found], np.int64)
    if not sizes:
        raise HalflingError(f"{corpus}: holds no text: build the corpus first")
    whole = {code: int(each.sum()) for code, each in sizes.items()}
    quotas = share_out(whole, total=settings.max_training_bytes, alpha=settings.alpha)
    chosen = {}
    for code, quota in quotas.items():
        order = np.argsort(seeded_keys(digests[code], settings.seed), kind="stable")
        taken = order[: max(1, int(np.searchsorted(np.cumsum(sizes[code][order]), quota, side="right")))]
        chosen[code] = (set(digests[code][taken].tolist()), int(sizes[code][taken].sum()))
    return chosen


def _paragraphs(corpus: Path, chosen: dict[str, set[int]]) -> Iterator[str]:
    for code, digests in chosen.items():
        for document in _documents(corpus, code):
            if digest_of(document.id) in digests:
                yield from document.text.split("\n")
