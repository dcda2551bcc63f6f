"""Segments in OpenVINO: states are handed from one to the next without a copy."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from halfling.engine.backends import NEVER
from halfling.engine.backends.openvino_alone import chain
from halfling.engine.exported import Exported, segment_name
from halfling.engine.mapped import release_pages
from halfling.engine.packing import Ways, move_rows
from halfling.errors import HalflingError

HIDDEN, BIAS, PICKED, QUERIES = range(4)
"""The order of a segment's inputs; its logits are its last output."""


class OpenVinoBackend:
    """Compiled segments of dynamic shape on the CPU, and one graph of fixed shape for each chosen length of a row.

    A changed shape costs a dynamic segment time, and every boundary the other threads' sleep; a graph of fixed shape
    pays neither, but holds weights of its own.
    """

    ways = Ways()

    def __init__(self, folder: Path, exported: Exported, threads: int, lengths: Sequence[int] = ()) -> None:
        self.folder, self.exported = folder / "openvino", exported
        self.lengths = tuple(sorted(lengths)) if exported.decides_in_graph else ()
        self.core = openvino.Core()
        self.settings = {
            # The default is bf16 on chips that have it.
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.paths = [self.folder / f"{segment_name(*segment)}.xml" for segment in exported.segments]
        some = [np.zeros((1, 8), np.int32)] if exported.policy.granularity == "token" else []
        self.dynamic = [
            self._compile(self._read(path), [path], *(some if number else [])) for number, path in enumerate(self.paths)
        ]
        self.fixed: dict[int, _Bound] = {}
        self.last = len(self.dynamic) - 1

    def _read(self, path: Path) -> Any:
        try:
            return self.core.read_model(path)
        except RuntimeError as error:
            raise HalflingError(f"{path}: OpenVINO cannot read it ({str(error).strip().splitlines()[0]})") from error

    def _compile(self, model: Any, paths: list[Path], *more: np.ndarray, tokens: int = 8, answers: int = 8) -> Any:
        """Return a request that has run once: the weights are in OpenVINO's own order, the mapped originals let go.

        The model reads states, bias, places picked and `more`, and holds the weights of `paths`.
        """
        request = self.core.compile_model(model, "CPU", self.settings).create_infer_request()
        empty = np.zeros((1, tokens, self.exported.shape.width), np.float32)
        bias, picked = np.zeros((1, 1, tokens, tokens), np.float32), np.zeros(answers, np.int32)
        request.infer([empty, bias, picked, *more])
        for path in paths:
            release_pages(path.with_suffix(".bin"))
        return request

    def run(
        self, segment: int, hidden: Any, bias: np.ndarray, picked: np.ndarray, queries: np.ndarray | None = None
    ) -> tuple[Any, np.ndarray]:
        """Return the hidden states after a segment (None after the last) and the logits of the picked tokens."""
        request = self.dynamic[segment]
        given = hidden if isinstance(hidden, openvino.Tensor) else openvino.Tensor(hidden, shared_memory=True)
        request.set_input_tensor(HIDDEN, given)
        for place, value in ((BIAS, bias), (PICKED, picked), (QUERIES, queries)):
            if value is not None:
                request.set_input_tensor(place, openvino.Tensor(value, shared_memory=True))
        request.infer(share_outputs=True)
        if segment == self.last:
            return None, request.get_output_tensor(0).data.copy()
        return request.get_output_tensor(0), request.get_output_tensor(1).data.copy()

    def alone(
        self, hidden: np.ndarray, bias: np.ndarray, picked: np.ndarray, votes: np.ndarray, thresholds: np.ndarray
    ) -> tuple[np.ndarray, float, int]:
        """Return the logits, the uncertainty and the number of the segment after which a single row leaves."""
        tokens = bias.shape[-1]
        given = (hidden, bias, picked, votes, thresholds)
        if tokens not in self.fixed:
            segments = [self._read(path) for path in self.paths]
            model = chain(segments, self.exported.policy, tokens, len(picked), self.exported.shape.width)
            more = [votes, np.full_like(thresholds, NEVER)]
            request = self._compile(model, self.paths, *more, tokens=tokens, answers=len(picked))
            self.fixed[tokens] = _Bound(request, given)
        logits, doubt, segment = self.fixed[tokens](given)
        return logits.copy(), float(doubt.item()), int(segment.item())

    def move(self, hidden: Any, source: np.ndarray, target: np.ndarray, rows: int, tokens: int) -> np.ndarray:
        """Return states of [rows, tokens, width] that hold at `target` what `hidden` holds at `source`."""
        return move_rows(hidden.data, source, target, rows, tokens)


class _Bound:
    """A request of fixed shape whose inputs and outputs stay in place: naming them anew costs what an exit does."""

    def __init__(self, request: Any, like: Sequence[np.ndarray]) -> None:
        self.request, self.inputs = request, [np.empty_like(value) for value in like]
        for place, value in enumerate(self.inputs):
            request.set_input_tensor(place, openvino.Tensor(value, shared_memory=True))
        self.outputs = [request.get_output_tensor(place).data for place in range(3)]

    def __call__(self, given: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the outputs, valid until the next call."""
        for mine, value in zip(self.inputs, given, strict=True):
            mine[...] = value
        self.request.infer(share_outputs=True)
        return self.outputs
