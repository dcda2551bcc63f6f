"""Text as the engine reads it: token ids, and where each word begins, without transformers."""

import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from halfling.errors import HalflingError
from halfling.tasks.encoded import Encoded
from halfling.tokens.native import NativePieces

BOS, PAD, EOS, UNK = 0, 1, 2, 3
"""XLM-R's special ids."""

TOKENIZERS_FILE = "tokenizer.json"

NATIVE_FILE = "native.tokenizer"
"""Tables that the native engine's tokenizer maps."""


Pieces = Callable[[Sequence[str]], list[list[int]]]
"""Cuts texts into XLM-R's ids, without special tokens."""


class TokenizersPieces:
    """The `tokenizers` library, which reads every `tokenizer.json` and needs eight times the memory."""

    def __init__(self, folder: Path) -> None:
        path = folder / TOKENIZERS_FILE
        try:
            import tokenizers
        except ImportError as error:
            raise HalflingError(f"{path}: tokenizers is not installed: pip install tokenizers") from error
        try:
            self.tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise HalflingError(f"{path}: no tokenizer ({error}): export the model again") from error
        self.structure = {BOS, PAD, EOS, self.tokenizer.token_to_id("<mask>")}
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Return XLM-R's ids of each text, without special tokens."""
        encoded = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        # "<s>" that somebody wrote is text, not structure.
        return [[UNK if piece in self.structure else piece for piece in each.ids] for each in encoded]


def load_pieces(folder: Path, kind: str) -> Pieces:
    """Return the tokenizer of an exported model."""
    return NativePieces(folder / NATIVE_FILE) if kind == "native" else TokenizersPieces(folder)


def require_characters(text: str, number: int) -> None:
    """Raise where a text holds half a surrogate pair, which no tokenizer reads.

    Raises:
        HalflingError: It does.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise HalflingError(
            f"text {number}: character {error.start} is half a surrogate pair, as broken bytes or JSON leave it: "
            "decode the text with errors='replace'"
        ) from error


def join(first: list[int], second: list[int] | None, max_tokens: int) -> tuple[list[int], bool]:
    """Return `<s> first </s>` or `<s> first </s></s> second </s>`, and whether it was cut to `max_tokens`.

    The longer of a pair is cut first, until both are equally long, as `tokenizers` does ("longest_first").
    """
    if second is None:
        room = max_tokens - 2
        return [BOS, *first[:room], EOS], len(first) > room
    room, one, two = max_tokens - 4, len(first), len(second)
    if cut := one + two > room:
        shorter = min(one, two, room // 2)
        one, two = (shorter, room - shorter) if one <= two else (room - shorter, shorter)
    return [BOS, *first[:one], EOS, EOS, *second[:two], EOS], cut


def windows(pieces: list[list[int]], max_tokens: int) -> list[Encoded]:
    """Return as many sequences as a sentence needs, given the ids of each word, cut between words.

    A word that is alone longer than a sequence is cut; a word without pieces has no place. Windows do not overlap.
    """
    room = max_tokens - 2
    parts: list[tuple[list[int], list[int]]] = []  # ids, and where words begin
    for word in (word[:room] for word in pieces if word):
        if not parts or len(parts[-1][0]) - 1 + len(word) > room:
            parts.append(([BOS], []))
        ids, picked = parts[-1]
        picked.append(len(ids))
        ids += word
    return [Encoded(np.array([*ids, EOS], np.int32), np.array(picked, np.int32)) for ids, picked in parts]


def split_words(text: str) -> list[tuple[int, int]]:
    """Return where the words of a text begin and end: at white space, with punctuation around a word on its own.

    This is how sentences for taggers mostly come. Scripts without spaces give one long word
    for each run: pass a list of words to cut them otherwise.
    """
    found: list[tuple[int, int]] = []
    place = 0
    for run in text.split():
        start = text.index(run, place)
        place = end = start + len(run)
        left, right = start, end
        while left < right and unicodedata.category(text[left])[0] == "P":
            left += 1
        while right > left and unicodedata.category(text[right - 1])[0] == "P":
            right -= 1
        found += [(n, n + 1) for n in range(start, left)]
        if left < right:
            found.append((left, right))
        found += [(n, n + 1) for n in range(right, end)]
    return found
