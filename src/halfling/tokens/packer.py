"""Documents of ids laid one after the other into blocks of one length."""

import numpy as np
from jaxtyping import Int32, Int64

from halfling.tokens.blocks import END, PAD, START, Run


class Packer:
    """Fills the blocks of one language, document by document.

    Each document is one or more sequences `<s> ... </s>`. Blocks are filled to the last token: where a document
    does not fit, the rest of it goes on in the next block as a sequence of its own. One or two places, too few for
    a sequence, are filled with further `</s>`, which belong to the sequence before.

    Attributes:
        num_blocks: Blocks so far.
    """

    def __init__(self, language: str, block_tokens: int) -> None:
        """Begin with an empty block."""
        self.num_blocks = 0
        self._language, self._width = language, block_tokens
        self._open_ids = np.zeros(0, np.int32)
        self._open_starts = np.zeros(0, np.int64)

    def add(self, ids: Int32[np.ndarray, " tokens"], lengths: Int64[np.ndarray, " documents"]) -> Run:
        """Return the blocks that these documents complete; `ids` holds them one after the other."""
        places, taken, filled = self._places(lengths.tolist())
        size = -(-filled // self._width) * self._width
        flat = np.full(size, END, np.int32)
        flat[: len(self._open_ids)] = self._open_ids
        # Tokens come right after each sequence's beginning: a step up, and a step down where it ends.
        change = np.zeros(size + 1, np.int8)
        change[places + 1] += 1
        change[places + 1 + taken] -= 1
        is_token = change[:-1].cumsum(dtype=np.int8).view(bool)
        flat[is_token] = ids
        flat[places] = START
        starts = np.concatenate([self._open_starts, places])
        whole = filled // self._width
        is_whole = starts < whole * self._width
        self._open_ids, self._open_starts = flat[whole * self._width : filled], starts[~is_whole] - whole * self._width
        self.num_blocks += whole
        return self._run(flat[: whole * self._width], starts[is_whole])

    def _places(
        self, lengths: list[int]
    ) -> tuple[Int64[np.ndarray, " sequences"], Int64[np.ndarray, " sequences"], int]:
        """Return where sequences begin, counted from the open block, their tokens, and how far all of it goes."""
        places: list[int] = []
        taken: list[int] = []
        filled, width = len(self._open_ids), self._width
        room = width - filled - 2
        for left in lengths:
            while left:
                part = left if left < room else room
                places.append(filled)
                taken.append(part)
                left -= part
                filled += part + 2
                room -= part + 2
                if room < 1:
                    filled += room + 2  # places too few for a sequence
                    room = width - 2
        return np.array(places, np.int64), np.array(taken, np.int64), filled

    def end(self) -> tuple[Run, int]:
        """Return the last block, if it is the only one, and the tokens that are left over.

        A block that is not full is left out, so that there is no padding; but a language with less than a block of
        text keeps it, padded, so that no chunk is short of a language.
        """
        if self.num_blocks or not len(self._open_ids):
            left_over = int(((self._open_ids != START) & (self._open_ids != END)).sum())
            return self._run(np.zeros(0, np.int32), np.zeros(0, np.int64)), left_over
        padded = np.full(self._width, PAD, np.int32)
        padded[: len(self._open_ids)] = self._open_ids
        self.num_blocks = 1
        return self._run(padded, self._open_starts), 0

    def _run(self, flat: Int32[np.ndarray, " _"], starts: Int64[np.ndarray, " sequences"]) -> Run:
        blocks = flat.reshape(-1, self._width)
        offsets = np.searchsorted(starts, np.arange(len(blocks) + 1) * self._width)
        return Run(self._language, blocks, starts % self._width, offsets)
