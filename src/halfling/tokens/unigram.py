"""Training of the pieces of an XLM-R tokenizer: SentencePiece's Unigram."""

import io
import re
from collections.abc import Iterator

import sentencepiece

from halfling.errors import HalflingError
from halfling.models.pieces import NORMALIZATION

# SentencePiece has three special tokens (<unk>, <s>, </s>); XLM-R's layout adds <pad> and <mask>.
_ADDED_SPECIALS = 2


def train_unigram(paragraphs: Iterator[str], *, vocab_size: int, character_coverage: float, num_threads: int) -> bytes:
    """Return a SentencePiece Unigram model (https://arxiv.org/abs/1808.06226), normalising as XLM-R's does.

    The same text and number of threads give the same bytes. (`tokenizers` has a trainer too, but that one
    gives another vocabulary on every run.)

    Args:
        paragraphs: The text, a paragraph each; longer ones than 64 KiB are left out.
        vocab_size: What it comes to in XLM-R's layout, all five special tokens included.
        character_coverage: Share of the text's characters that get a piece of their own, 0..1.

    Raises:
        HalflingError: The text is too small for the vocabulary, or the vocabulary for the characters.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=paragraphs,
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size - _ADDED_SPECIALS,
            character_coverage=character_coverage,
            normalization_rule_name=NORMALIZATION,
            max_sentence_length=2**16,  # bytes; SentencePiece's own 4192 would leave out whole Khmer paragraphs
            num_threads=num_threads,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise HalflingError(_explain(str(error), vocab_size)) from error
    return model.getvalue()


def _explain(error: str, vocab_size: int) -> str:
    if match := re.search(r"Vocabulary size too high.*<= (\d+)", error):
        most = int(match[1]) + _ADDED_SPECIALS
        return f"tokenizer: vocab_size {vocab_size} is too large for this text: set it to at most {most}"
    if match := re.search(r"smaller than required_chars\D+\d+ vs (\d+)", error):
        least = int(match[1]) + _ADDED_SPECIALS
        return f"tokenizer: vocab_size {vocab_size} has no room for every character: set it to {least} or more"
    return f"tokenizer: SentencePiece cannot train on this text: {' '.join(error.split())}"
