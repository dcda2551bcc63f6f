"""What goes through a network as one: the engine, which learns nothing, needs no more of a task."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Encoded:
    """What goes through the network as one.

    Attributes:
        ids: Token ids, special ones included.
        picked: The places whose answers are wanted: 0 for a text; for words, the first sub-word of each that is there.
        words: For words, the number of the word at each place picked. A word that was cut off, or that the tokenizer
            turned into nothing, has no place.
        truncated: Whether the text was longer than allowed.
    """

    ids: np.ndarray
    picked: np.ndarray
    words: np.ndarray | None = None
    truncated: bool = False
