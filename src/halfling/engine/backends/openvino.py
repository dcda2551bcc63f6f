"""Segments in OpenVINO: states are handed from one to the next without a copy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from halfling.engine.exported import Exported, segment_name
from halfling.engine.mapped import release_pages
from halfling.engine.packing import move_rows
from halfling.errors import HalflingError

HIDDEN, BIAS, PICKED = 0, 1, 2
"""The order of a segment's inputs; its logits are its last output."""


class OpenVinoBackend:
    """Compiled segments on the CPU: of dynamic shape for all rows, of fixed shape for chosen lengths of a single row.

    A changed shape costs a dynamic segment about 0.15 ms a layer; a segment of fixed shape never pays that, but holds
    weights of its own.
    """

    def __init__(self, folder: Path, exported: Exported, threads: int, lengths: Sequence[int] = ()) -> None:
        self.folder, self.exported, self.lengths = folder / "openvino", exported, frozenset(lengths)
        self.core = openvino.Core()
        self.settings = {
            # The default is bf16 on chips that have it.
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.dynamic = self._compile(None)
        self.fixed: dict[tuple[int, int], list[Any]] = {}
        self.last = len(self.dynamic) - 1

    def _compile(self, shape: tuple[int, int] | None) -> list[Any]:
        """Return a request for each segment; `shape` is (tokens, answers) of a single row."""
        requests = []
        for first, last in self.exported.segments:
            path = self.folder / f"{segment_name(first, last)}.xml"
            try:
                model = self.core.read_model(path)
                if shape is not None:
                    tokens, answers = shape
                    width = self.exported.shape.width
                    model.reshape({HIDDEN: [1, tokens, width], BIAS: [1, 1, tokens, tokens], PICKED: [answers]})
                request = self.core.compile_model(model, "CPU", self.settings).create_infer_request()
                self._pack_weights(request, path.with_suffix(".bin"), shape or (8, 8))
                requests.append(request)
            except RuntimeError as error:
                raise HalflingError(
                    f"{path}: OpenVINO cannot read it ({str(error).strip().splitlines()[0]})"
                ) from error
        return requests

    def _pack_weights(self, request: Any, weights: Path, shape: tuple[int, int]) -> None:
        """Run once, which copies the weights into OpenVINO's own order, and let the mapped originals go."""
        tokens, answers = shape
        empty = np.zeros((1, tokens, self.exported.shape.width), np.float32)
        bias, picked = np.zeros((1, 1, tokens, tokens), np.float32), np.zeros(answers, np.int32)
        request.infer([empty, bias, picked])
        release_pages(weights)

    def run(self, segment: int, hidden: Any, bias: np.ndarray, picked: np.ndarray) -> tuple[Any, np.ndarray]:
        """Return the hidden states after a segment (None after the last) and the logits of the picked tokens."""
        request = self._requests(bias.shape, len(picked))[segment]
        given = hidden if isinstance(hidden, openvino.Tensor) else openvino.Tensor(hidden, shared_memory=True)
        request.set_input_tensor(HIDDEN, given)
        request.set_input_tensor(BIAS, openvino.Tensor(bias, shared_memory=True))
        request.set_input_tensor(PICKED, openvino.Tensor(picked, shared_memory=True))
        request.infer()
        if segment == self.last:
            return None, request.get_output_tensor(0).data.copy()
        return request.get_output_tensor(0), request.get_output_tensor(1).data.copy()

    def _requests(self, bias_shape: tuple[int, ...], answers: int) -> list[Any]:
        rows, _, tokens, _ = bias_shape
        if rows > 1 or tokens not in self.lengths:
            return self.dynamic
        shape = tokens, answers
        if shape not in self.fixed:
            self.fixed[shape] = self._compile(shape)
        return self.fixed[shape]

    def move(self, hidden: Any, source: np.ndarray, target: np.ndarray, rows: int, tokens: int) -> np.ndarray:
        """Return states of [rows, tokens, width] that hold at `target` what `hidden` holds at `source`."""
        return move_rows(hidden.data, source, target, rows, tokens)
