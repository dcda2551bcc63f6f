"""Who computes: the native engine with its own loop, or OpenVINO, ONNX Runtime or PyTorch, segment by segment."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from halfling.cores import usable_cores
from halfling.engine.exported import BackendName, Exported
from halfling.engine.packing import Ways
from halfling.errors import HalflingError

MODULES: dict[BackendName, str] = {"native": "ctypes", "openvino": "openvino", "onnx": "onnxruntime", "torch": "torch"}
"""What each backend needs installed; `auto` takes the first that is."""
EXTRAS: dict[BackendName, str] = {"openvino": "openvino", "onnx": "onnx", "torch": "train"}
"""The extra of halfling-nlp that installs it."""


NEVER = -1.0
"""A threshold below every uncertainty."""


@runtime_checkable
class Backend(Protocol):
    """Computes segments. Hidden states stay in the backend's own arrays from segment to segment.

    Attributes:
        lengths: Lengths of a single row, ascending, for which `alone` answers.
        ways: How it wants to be fed.
    """

    lengths: tuple[int, ...]
    ways: Ways

    def run(
        self, segment: int, hidden: Any, bias: np.ndarray, picked: np.ndarray, queries: np.ndarray | None = None
    ) -> tuple[Any, np.ndarray]:
        """Return the hidden states after a segment (None after the last) and the logits of the picked tokens.

        Args:
            segment: Its number, from 0.
            hidden: States before it, [rows, tokens, width]: an array, or what the segment before returned, which
                is valid until anything else runs.
            bias: What attention adds, [rows, 1, tokens, tokens], or [rows, 1, queries, tokens]; or what `ways.seen`
                says instead.
            picked: Numbers of tokens, rows counted through, int32.
            queries: Where tokens leave alone, from the second segment on: the tokens of each row whose states are
                still computed, numbered like `picked`, [rows, queries], int32; a row may name one twice.
        """

    def alone(
        self, hidden: np.ndarray, bias: np.ndarray, picked: np.ndarray, votes: np.ndarray, thresholds: np.ndarray
    ) -> tuple[np.ndarray, float, int]:
        """Return what a single row of one of `lengths` gets from a graph that decides for itself.

        Args:
            hidden: States before the first segment, [1, tokens, width], or what `ways.embed` says instead.
            bias: What attention adds, [1, 1, tokens, tokens], or what `ways.seen` says instead.
            picked: Numbers of tokens, int32: as many as there are tokens for a tagger, one for a classifier.
            votes: The share of each answer in the sentence's uncertainty; 0 where `picked` is filled up.
            thresholds: For each exit but the last: leave where the uncertainty is below.

        Returns:
            Logits of the picked tokens, the uncertainty, and the number of the segment after which it left.
        """

    def move(self, hidden: Any, source: np.ndarray, target: np.ndarray, rows: int, tokens: int) -> Any:
        """Return states of [rows, tokens, width] that hold at `target` what `hidden` holds at `source`."""


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


def load_backend(
    chosen: BackendName, folder: Path, exported: Exported, threads: int | None, lengths: Sequence[int]
) -> Backend:
    """Return a backend of segments that is ready to run; see `AdaptiveEngine.from_pretrained`."""
    if chosen == "openvino":
        from halfling.engine.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(folder, exported, threads or usable_cores(), lengths)
    if chosen == "onnx":
        from halfling.engine.backends.onnx import OnnxBackend

        return OnnxBackend(folder, exported, threads or usable_cores())
    from halfling.engine.backends.torch import TorchBackend

    return TorchBackend(folder, exported, threads)
