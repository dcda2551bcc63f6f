"""Segments in ONNX Runtime: a session each, whose threads sleep between runs."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from halfling.engine.exported import Exported, segment_name
from halfling.engine.packing import move_rows
from halfling.errors import HalflingError


class OnnxBackend:
    """Sessions on the CPU."""

    tokens_at_once = 2048
    alone = None

    def __init__(self, folder: Path, exported: Exported, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # A pool of spinning threads for each session makes twelve of them six times slower.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.sessions = []
        for first, last in exported.segments:
            path = folder / "onnx" / f"{segment_name(first, last)}.onnx"
            try:
                session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            except Exception as error:  # the library raises bare Exception's children of its own
                raise HalflingError(f"{path}: ONNX Runtime cannot read it ({str(error).splitlines()[0]})") from error
            self.sessions.append(session)

    def run(
        self, segment: int, state: Any, owners: np.ndarray, picked: np.ndarray, queries: np.ndarray | None = None
    ) -> tuple[Any, np.ndarray]:
        """Return the hidden states after a segment (None after the last) and the logits of the picked tokens."""
        inputs = {"hidden": state} if segment else {"ids": state[..., 0], "positions": state[..., 1]}
        inputs |= {"owners": owners, "picked": picked}
        if queries is not None:
            inputs["queries"] = queries
        *after, logits = self.sessions[segment].run(None, inputs)
        return (after[0] if after else None), logits

    def move(self, state: Any, source: np.ndarray, target: np.ndarray, rows: int, tokens: int) -> np.ndarray:
        """Return states of [rows, tokens, width] that hold at `target` what `state` holds at `source`."""
        return move_rows(state, source, target, rows, tokens)
