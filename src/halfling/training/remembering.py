"""What does not change from pass to pass is computed once: what a teacher says, and what a frozen encoder makes of it.

Both take more than memory holds, so they wait on disk.
"""

import contextlib
import mmap
import shutil
import tempfile
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from halfling import processes
from halfling.records import Progress
from halfling.training.trainer import BatchMeanTrainer

_SHARE_OF_DISK = 0.25
"""Of what is free: other stages may look at the same time."""
_MARK = "recalled_"
_ALIGNED = 8
"""Bytes from tensor to tensor are a multiple of it, whatever their precision."""


class RememberingTrainer(BatchMeanTrainer):
    """A Trainer whose loss looks at something that no step changes.

    Attributes:
        remembers: Whether that was computed once. Else it is computed anew for each batch.
        asked: A model that says it, and is read for nothing else.
    """

    asked: PreTrainedModel | None = None

    def __init__(self, *, states_gb: float = 0.0, **arguments: Any) -> None:
        """Take how much of the disk may hold what is remembered, 10^9 bytes."""
        super().__init__(**arguments)
        self.states_gb, self.remembers = states_gb, False

    def unchanging(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what no step changes of a batch, by name, in the precision in which it would be kept.

        Each has a row for each input; with three dimensions and more that has a row for each token, or one for all.
        """
        raise NotImplementedError

    def recalled(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what is remembered of a batch; nothing if nothing is."""
        return {name.removeprefix(_MARK): tensor for name, tensor in inputs.items() if name.startswith(_MARK)}

    def remember(self, rows: Sequence[dict[str, Any]], progress: Progress) -> None:
        """Compute that of all rows, unless it would take too much, or several processes share the rows.

        Each of these reads other rows in every pass.
        """
        if processes.number() == 1:
            with contextlib.suppress(OSError):  # somebody else has filled the disk meanwhile
                self._remember(rows, progress)
        if self.remembers and self.asked is not None:
            self.asked.to("meta")  # it has said all: its weights go, whoever holds it

    def _remember(self, rows: Sequence[dict[str, Any]], progress: Progress) -> None:
        kept = OnDisk(Path(self.args.output_dir))
        collate: Any = self.data_collator  # type: ignore[has-type]
        at_once = self.args.per_device_train_batch_size
        longest_first = sorted(rows, key=lambda row: -len(row["input_ids"]))
        for start in range(0, len(rows), at_once):
            some = longest_first[start : start + at_once]
            found = self.unchanging(self._prepare_inputs(collate(some)))
            if not start and not self._fits(found, rows):
                kept.drop()
                return
            for name, tensor in found.items():
                for row, one in zip(some, tensor.cpu(), strict=True):
                    kept.add((name, id(row)), one[: len(row["input_ids"])] if one.dim() > 1 else one)
            progress(start + len(some), len(rows), "computed once")
        read = kept.read()

        def collate_with_it(some: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
            return collate(some) | {
                _MARK + name: pad_sequence([read((name, id(row))) for row in some], batch_first=True) for name in found
            }

        self.data_collator, self.remembers = collate_with_it, True

    def _fits(self, found: dict[str, Tensor], rows: Sequence[dict[str, Any]]) -> bool:
        tokens = sum(len(row["input_ids"]) for row in rows)
        needed = sum(
            one[0, 0].nbytes * tokens if one.dim() > 2 and one.shape[1] > 1 else one[0].nbytes * len(rows)
            for one in found.values()
        )
        free = shutil.disk_usage(Path(self.args.output_dir).parent).free
        return 0 < needed <= min(self.states_gb * 1e9, free * _SHARE_OF_DISK)


class OnDisk:
    """Tensors that are written once, in a file without a name, which goes with this process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self.places: dict[Hashable, tuple[slice, torch.dtype, torch.Size]] = {}
        self.length = 0

    def add(self, key: Hashable, tensor: Tensor) -> None:
        """Write a tensor down."""
        end = self.length + tensor.nbytes
        self.places[key] = slice(self.length, end), tensor.dtype, tensor.shape
        self.length = -(-end // _ALIGNED) * _ALIGNED
        with self._dropped_where_it_fails():
            self.file.write(tensor.contiguous().view(torch.uint8).numpy().data)
            self.file.write(bytes(self.length - end))

    def read(self) -> Callable[[Hashable], Tensor]:
        """Return what finds a tensor again."""
        with self._dropped_where_it_fails():
            self.file.flush()
            # Shared: a private map that may be written to has to fit into memory. torch warns of one that may not.
            mapped = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_WRITE)
        self.file.close()  # the map holds it
        whole = torch.frombuffer(mapped, dtype=torch.uint8)

        def read(key: Hashable) -> Tensor:
            place, kind, shape = self.places[key]
            return whole[place].view(kind).view(shape)

        return read

    def drop(self) -> None:
        """Close the file, whose last bytes may have no room."""
        with contextlib.suppress(OSError):
            self.file.close()

    @contextlib.contextmanager
    def _dropped_where_it_fails(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self.drop()
            raise
