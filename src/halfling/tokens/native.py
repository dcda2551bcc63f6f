"""The native tokenizer: texts into XLM-R's ids, from tables that are mapped."""

import ctypes
import os
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from halfling.errors import HalflingError
from halfling.native import address, library


class NativePieces:
    """Cuts texts into XLM-R's ids. Threads may share one."""

    def __init__(self, tables: Path | np.ndarray) -> None:
        """Take what `tables.tables` made (uint8), or map the file of it.

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

    def __reduce__(self) -> Any:
        raise TypeError("a tokenizer maps a file, and cannot be copied or pickled: open it in each process")

    def __del__(self) -> None:
        if getattr(self, "_tokenizer", None):
            self._library.halfling_tokenizer_close(self._tokenizer)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Return XLM-R's ids of each text, without special tokens."""
        encoded = [text.encode() for text in texts]
        places = ctypes.c_int64 * len(encoded)
        ends, id_ends = places(*accumulate(map(len, encoded))), places()
        found = self._library.halfling_tokenize(self._tokenizer, b"".join(encoded), ends, len(encoded), id_ends)
        if not found:
            raise MemoryError
        try:
            return [found[begin:end] for begin, end in pairwise([0, *id_ends])]
        finally:
            self._library.halfling_free(found)

    def cut(self, text: bytes | int, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids (int32) of texts, one after the other, and where each text's end (int64).

        Args:
            text: UTF-8, one text after the other, or the address of it.
            ends: The byte at which each text ends, int64.
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
