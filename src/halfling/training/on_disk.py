"""Tensors that are written once and read many times: what a teacher says takes more than memory holds."""

import contextlib
import mmap
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor


class OnDisk:
    """Tensors of one precision, written once in a file without a name, which goes with this process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self.places: dict[int, tuple[int, torch.Size]] = {}
        self.kind, self.length = torch.float32, 0

    def add(self, key: int, tensor: Tensor) -> None:
        """Write a tensor down."""
        self.places[key] = self.length, tensor.shape
        self.kind, self.length = tensor.dtype, self.length + tensor.numel()
        try:
            self.file.write(tensor.contiguous().view(torch.uint8).numpy().data)
        except OSError:
            self._drop()
            raise

    def read(self) -> Callable[[int], Tensor]:
        """Return what finds a tensor again."""
        try:
            self.file.flush()
        except OSError:
            self._drop()
            raise
        # Shared: a private map that may be written to has to fit into memory. torch warns of one that may not.
        mapped = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_WRITE)
        self.file.close()  # the map holds it
        whole = torch.frombuffer(mapped, dtype=self.kind)

        def read(key: int) -> Tensor:
            place, shape = self.places[key]
            return whole[place : place + shape.numel()].view(shape)

        return read

    def _drop(self) -> None:
        """Close the file, whose last bytes have no room."""
        with contextlib.suppress(OSError):
            self.file.close()
