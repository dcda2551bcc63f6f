"""The native tokenizer: texts into XLM-R's ids, from tables that are mapped."""

import ctypes
import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from halfling.errors import HalflingError
from halfling.native import address, library


class NativePieces:
    """Cuts texts into XLM-R's ids. Threads may share one."""

    def __init__(self, tables: Path | UInt8[np.ndarray, " bytes"]) -> None:
        """Take what `tables.tables` made, or map the file of it.

        A walk through tables in memory is faster: large arrays lie in large pages, which a mapped file does not.

        Raises:
            HalflingError: They are damaged.
        """
        self._library, self._tables, wrong = library(), tables, ctypes.c_char_p()
        if isinstance(tables, Path):
            self._tokenizer = self._library.halfling_tokenizer_open(os.fsencode(tables), ctypes.byref(wrong))
        else:
            self._tokenizer = self._library.halfling_tokenizer_over(address(tables), tables.size, ctypes.byref(wrong))
        if not self._tokenizer:
            where = tables if isinstance(tables, Path) else "tokenizer"
            raise HalflingError(f"{where}: {(wrong.value or b'').decode()}: export the model again")

    def __del__(self) -> None:
        if getattr(self, "_tokenizer", None):
            self._library.halfling_tokenizer_close(self._tokenizer)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Return XLM-R's ids of each text, without special tokens."""
        encoded = [text.encode() for text in texts]
        ids, ends = self.cut(b"".join(encoded), np.cumsum([len(text) for text in encoded], dtype=np.int64))
        found = ids.tolist()
        return [found[begin:end] for begin, end in pairwise([0, *ends.tolist()])]

    def cut(
        self, text: bytes | int, ends: Int64[np.ndarray, " texts"]
    ) -> tuple[Int32[np.ndarray, " ids"], Int64[np.ndarray, " texts"]]:
        """Return the ids of texts, one after the other, and where each text's end.

        Args:
            text: UTF-8, one text after the other, or the address of it.
            ends: The byte at which each text ends.
        """
        id_ends = np.zeros(len(ends), np.int64)
        found = self._library.halfling_tokenize(self._tokenizer, text, address(ends), len(ends), address(id_ends))
        if not found:
            raise MemoryError
        try:
            count = int(id_ends[-1]) if len(ends) else 0
            return np.ctypeslib.as_array(found, (max(count, 1),))[:count].copy(), id_ends
        finally:
            self._library.halfling_free(found)
