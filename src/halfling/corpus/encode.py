"""Text to token ids, with the teacher's tokenizer."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32
from tokenizers import Tokenizer

from halfling.errors import HalflingError


class SpecialIds(NamedTuple):
    """The ids of the special tokens; XLM-R's are 0, 1, 2, 3 and the last."""

    start: int
    pad: int
    end: int
    unknown: int
    mask: int


def load_tokenizer(folder: Path) -> tuple[Tokenizer, SpecialIds]:
    """Return the tokenizer of a Hugging Face folder, without truncation or padding, and its special ids.

    Raises:
        HalflingError: There is no readable `tokenizer.json`, or its special tokens are not XLM-R's.
    """
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for a missing and for a damaged file
        raise HalflingError(f"{path}: cannot be read ({error}): build the tokenizer first") from error
    found = [tokenizer.token_to_id(token) for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")]
    if found != [0, 1, 2, 3, tokenizer.get_vocab_size() - 1]:
        raise HalflingError(f"{path}: <s>, <pad>, </s>, <unk>, <mask> are {found}, not XLM-R's 0, 1, 2, 3 and last")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, SpecialIds(0, 1, 2, 3, tokenizer.get_vocab_size() - 1)


def encode(texts: list[str], tokenizer: Tokenizer, special: SpecialIds) -> tuple[list[Int32[np.ndarray, " _"]], int]:
    """Return the ids of each text without special tokens, and how many of these stood in the texts as text.

    A "<s>" or "<mask>" that somebody wrote is text, not structure: it becomes the unknown token.
    (Asking the tokenizer to encode special tokens as text is not enough: XLM-R's vocabulary holds "<s>" as a
    piece too, and the Unigram model finds it there.)
    """
    encoded = [np.array(each.ids, np.int32) for each in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    reserved = [special.start, special.pad, special.end, special.mask]
    num_literal = 0
    for ids in encoded:
        literal = np.isin(ids, reserved)
        num_literal += int(literal.sum())
        ids[literal] = special.unknown
    return encoded, num_literal
