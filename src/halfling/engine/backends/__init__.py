"""Who computes: the native engine with its own loop, or PyTorch or ONNX Runtime, segment by segment."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from halfling.cores import usable_cores
from halfling.engine.exported import BackendName, Exported
from halfling.errors import HalflingError

MODULES: dict[BackendName, str] = {"native": "ctypes", "torch": "torch", "onnx": "onnxruntime"}
"""What each backend needs installed; `auto` takes the first that is."""
EXTRAS: dict[BackendName, str] = {"torch": "train", "onnx": "onnx"}
"""The extra of halfling-nlp that installs it."""


@runtime_checkable
class Backend(Protocol):
    """Computes segments. Hidden states stay in the backend's own arrays from segment to segment.

    Attributes:
        tokens_at_once: Tokens of one pass. On a CPU, what is computed together stays in the caches.
        alone: Answers a single sequence, which exits after a layer that is given or when it is sure; None where
            segments do.
    """

    tokens_at_once: int
    alone: Any

    def run(
        self, segment: int, state: Any, owners: np.ndarray, picked: np.ndarray, queries: np.ndarray | None = None
    ) -> tuple[Any, np.ndarray]:
        """Return the hidden states after a segment (None after the last) and the logits of the picked tokens.

        Args:
            segment: Its number, from 0.
            state: Ids and positions [rows, tokens, 2] before the first segment, int32; else what the segment before
                returned, which is valid until anything else runs.
            owners: The number of the sequence that each place belongs to, [rows, tokens], int32: attention stays
                within it.
            picked: Numbers of tokens, rows counted through, int32.
            queries: Where tokens leave alone, from the second segment on: the tokens of each row whose states are
                still computed, numbered like `picked`, [rows, queries], int32; a row may name one twice.
        """

    def move(self, state: Any, source: np.ndarray, target: np.ndarray, rows: int, tokens: int) -> Any:
        """Return states of [rows, tokens, width] that hold at `target` what `state` holds at `source`."""


def choose_backend(name: str, folder: Path, exported: Exported) -> BackendName:
    """Return the backend of that name, or with "auto" the first that is exported and installed.

    Raises:
        HalflingError: There is none of that name, it was not exported, or its library is not installed.
    """
    if name not in ("auto", *MODULES):
        raise HalflingError(f"unknown backend {name!r}: choose from auto, {', '.join(MODULES)}")
    wanted = [each for each in MODULES if each in exported.backends and name in ("auto", each)]
    if not wanted:
        raise HalflingError(f"{folder}: not exported for {name} but for {', '.join(exported.backends)}")
    chosen = next((each for each in wanted if find_spec(MODULES[each])), None)
    if chosen is None:
        extras = " or ".join(f"pip install 'halfling-nlp[{EXTRAS[each]}]'" for each in wanted)
        raise HalflingError(f"{folder}: {' or '.join(wanted)} is not installed: {extras}")
    return chosen


def load_backend(chosen: BackendName, folder: Path, exported: Exported, threads: int | None) -> Backend:
    """Return a backend of segments that is ready to run; see `AdaptiveEngine.from_pretrained`."""
    if chosen == "onnx":
        from halfling.engine.backends.onnx import OnnxBackend

        return OnnxBackend(folder, exported, threads or usable_cores())
    from halfling.engine.backends.torch import TorchBackend

    return TorchBackend(folder, exported, threads)
