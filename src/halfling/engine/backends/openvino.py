"""Segments in OpenVINO: one compiled model each, states handed from one to the next without a copy."""

from pathlib import Path
from typing import Any

import numpy as np
import openvino

from halfling.engine.exported import Exported, segment_name
from halfling.engine.packing import move_rows
from halfling.errors import HalflingError


class OpenVinoBackend:
    """Compiled segments on the CPU, with dynamic shapes."""

    def __init__(self, folder: Path, exported: Exported, threads: int) -> None:
        core = openvino.Core()
        settings = {
            # The default is bf16 on chips that have it.
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.requests = []
        for first, last in exported.segments:
            path = folder / "openvino" / f"{segment_name(first, last)}.xml"
            try:
                self.requests.append(core.compile_model(core.read_model(path), "CPU", settings).create_infer_request())
            except RuntimeError as error:
                raise HalflingError(f"{path}: OpenVINO cannot read it ({_first_line(error)})") from error
        self.last = len(self.requests) - 1

    def run(self, segment: int, hidden: Any, bias: np.ndarray, picked: np.ndarray) -> tuple[Any, np.ndarray]:
        """Return the hidden states after a segment (None after the last) and the logits of the picked tokens."""
        request = self.requests[segment]
        given = hidden if isinstance(hidden, openvino.Tensor) else openvino.Tensor(hidden, shared_memory=True)
        request.set_tensor("hidden", given)
        request.set_tensor("bias", openvino.Tensor(bias, shared_memory=True))
        request.set_tensor("picked", openvino.Tensor(picked, shared_memory=True))
        request.infer()
        logits = np.array(request.get_tensor("logits").data)
        return (request.get_tensor("hidden_out") if segment < self.last else None), logits

    def move(self, hidden: Any, source: np.ndarray, target: np.ndarray, rows: int, tokens: int) -> np.ndarray:
        """Return states of [rows, tokens, width] that hold at `target` what `hidden` holds at `source`."""
        return move_rows(hidden.data, source, target, rows, tokens)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
