"""A tokenizer of XLM-R's kind out of pieces and their scores, in the layout of ids that XLM-R has."""

from collections.abc import Sequence

import sentencepiece
from transformers import XLMRobertaTokenizer

NORMALIZATION = "nmt_nfkc"
"""XLM-R's rule, by SentencePiece's name: NFKC, and odd spaces and controls tidied."""


def as_xlm_roberta(model: bytes, max_tokens: int) -> XLMRobertaTokenizer:
    """Return the Hugging Face tokenizer that cuts text as a SentencePiece model does.

    The layout is fairseq's, which XLM-R kept: `<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3, then SentencePiece's
    pieces, each one id higher than there, and `<mask>` last.

    Ids are the same as SentencePiece's, save where two cuts of a word score the same and rounding decides.

    Args:
        model: A Unigram model whose first three pieces are the special ones, as SentencePiece trains them.
        max_tokens: Longest input, written into the folder as `model_max_length`.

    Raises:
        RuntimeError: These bytes are no SentencePiece model.
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
    """Return the compiled table of the rule, as `tokenizers` wants it."""
    spec = sentencepiece.SentencePieceNormalizer(rule_name=NORMALIZATION).serialized_normalizer_spec()
    # A protobuf message: the rule's name, then field 2, the table: its length, seven bits a byte, and its bytes.
    # Reading this spares the protobuf package, which nothing else here needs.
    table = spec.partition(NORMALIZATION.encode() + b"\x12")[2]
    size = next(number for number, byte in enumerate(table, start=1) if byte < 0x80)
    length = sum((byte & 0x7F) << 7 * number for number, byte in enumerate(table[:size]))
    return table[size : size + length]
