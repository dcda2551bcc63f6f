"""A tokenizer of XLM-R's kind: SentencePiece's Unigram, in the layout of ids that XLM-R has."""

import io
import re
from collections.abc import Iterator, Sequence

import sentencepiece
from transformers import XLMRobertaTokenizer

from halfling.errors import HalflingError

_NORMALIZATION = "nmt_nfkc"  # XLM-R's: NFKC, and odd spaces and controls tidied
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
            normalization_rule_name=_NORMALIZATION,
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


def as_xlm_roberta(model: bytes, max_tokens: int) -> XLMRobertaTokenizer:
    """Return the Hugging Face tokenizer that cuts text as a SentencePiece model does.

    The layout is fairseq's, which XLM-R kept: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, then SentencePiece's
    pieces, each one id higher than there, and `<mask>` last.

    Ids are the same as SentencePiece's, save where two cuts of a word score the same and rounding decides.

    Args:
        model: What `train_unigram` returned.
        max_tokens: Longest input, written into the folder as `model_max_length`.
    """
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(3, processor.get_piece_size())]
    return tokenizer_of(pieces, max_tokens)


def tokenizer_of(pieces: Sequence[tuple[str, float]], max_tokens: int) -> XLMRobertaTokenizer:
    """Return XLM-R's kind of tokenizer with these pieces, each with its log-probability; special ones are added."""
    specials = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    return XLMRobertaTokenizer(
        vocab=[*specials, *pieces, ("<mask>", 0.0)],
        model_max_length=max_tokens,
        _spm_precompiled_charsmap=_character_map(),
    )


def _character_map() -> bytes:
    """Return the compiled table of the rule that `train_unigram` normalises by, as `tokenizers` wants it."""
    spec = sentencepiece.SentencePieceNormalizer(rule_name=_NORMALIZATION).serialized_normalizer_spec()
    # A protobuf message: the rule's name, then field 2, the table: its length, seven bits a byte, and its bytes.
    # Reading this spares the protobuf package, which nothing else here needs.
    table = spec.partition(_NORMALIZATION.encode() + b"\x12")[2]
    size = next(number for number, byte in enumerate(table, start=1) if byte < 0x80)
    length = sum((byte & 0x7F) << 7 * number for number, byte in enumerate(table[:size]))
    return table[size : size + length]
