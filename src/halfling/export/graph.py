"""The ONNX graph of a segment: layers of XLM-R over packed rows, ending in a classifier."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from jaxtyping import Float32
from onnx import TensorProto, helper, numpy_helper

from halfling.engine.exported import Exported, segment_name
from halfling.engine.packing import HIDDEN
from halfling.records import EncoderShape, Progress

OPSET = 20  # the first with Gelu; IR version 10 is what came with it
IR_VERSION = 10

FLOAT, INT32 = int(TensorProto.FLOAT), int(TensorProto.INT32)

Weights = Mapping[str, np.ndarray]
"""A model's weights by the names that transformers gives them, float32."""

_Kind = tuple[int, tuple[str | int, ...]]
"""Of a graph's input or output: what its numbers are, and its shape."""


@dataclass
class _Graph:
    """Nodes and constants under construction."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=dtype), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output


class SegmentGraph:
    """Builds the graphs of one model's segments.

    The first reads `ids` and `positions` (from 0 in each sequence), others `hidden` [rows, tokens, width]. All read
    `owners` (the number of the sequence that each place belongs to, within which attention stays; all [rows, tokens])
    and `picked` [answers] (numbers of tokens, rows counted through). They return `hidden` after their last layer (save
    for the last segment) and `logits` [answers, classes].

    Where tokens leave alone, segments after the first read `queries` [rows, queries] too (numbers of tokens, rows
    counted through; a row may name one twice): a layer changes the states of those tokens only, while all are keys and
    values, those who left with the state that they left with.
    """

    def __init__(
        self, shape: EncoderShape, weights: Weights, positions: Float32[np.ndarray, "positions width"], epsilon: float
    ) -> None:
        self.shape, self.weights, self.positions, self.epsilon = shape, weights, positions, epsilon

    def build(self, first: int, last: int, by_token: bool = False) -> onnx.ModelProto:
        """Return the graph of layers `first` to `last` (1-based); layer 1 begins with the embeddings."""
        graph, place = _Graph(), ("rows", "tokens")
        states: _Kind = (FLOAT, (*place, self.shape.width))
        inputs: dict[str, _Kind] = (
            {"ids": (INT32, place), "positions": (INT32, place)} if first == 1 else {"hidden": states}
        )
        inputs |= {"owners": (INT32, place), "picked": (INT32, ("answers",))}
        queries = "queries" if by_token and first > 1 else None
        if queries:
            inputs["queries"] = (INT32, ("rows", "queries"))
        hidden = self._embeddings(graph) if first == 1 else "hidden"
        bias = self._bias(graph, queries)
        for layer in range(first, last + 1):
            hidden = self._layer(graph, layer, hidden, bias, queries)
        kept = {hidden: "hidden_out", self._head(graph, last, hidden): "logits"}
        for node in graph.nodes:
            for names in (node.input, node.output):
                names[:] = [kept.get(name, name) for name in names]
        outputs: dict[str, _Kind] = {"hidden_out": states} if last < self.shape.num_layers else {}
        outputs["logits"] = (FLOAT, ("answers", "classes"))
        whole = helper.make_graph(
            graph.nodes,
            f"layers {first} to {last}",
            *(
                [helper.make_tensor_value_info(name, *kind) for name, kind in each.items()]
                for each in (inputs, outputs)
            ),
            graph.constants,
        )
        model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "halfling"
        return model

    def _embeddings(self, graph: _Graph) -> str:
        words = graph.constant(self.weights["roberta.embeddings.word_embeddings.weight"])
        summed = graph.node(
            "Add", graph.node("Gather", words, "ids"), graph.node("Gather", graph.constant(self.positions), "positions")
        )
        return self._norm(graph, "roberta.embeddings.LayerNorm", summed)

    def _bias(self, graph: _Graph, queries: str | None) -> str:
        """Return what attention adds: 0 within a sequence, `HIDDEN` across."""
        asking = "owners"
        if queries:
            asking = graph.node("Gather", graph.node("Reshape", "owners", graph.constant([-1], np.int64)), queries)
        asking = graph.node("Unsqueeze", asking, graph.constant([1, 3], np.int64))
        asked = graph.node("Unsqueeze", "owners", graph.constant([1, 2], np.int64))
        return graph.node("Where", graph.node("Equal", asking, asked), graph.constant(0), graph.constant(HIDDEN))

    def _layer(self, graph: _Graph, layer: int, hidden: str, bias: str, queries: str | None) -> str:
        here, width = f"roberta.encoder.layer.{layer - 1}", self.shape.width
        asking = flat = hidden
        if queries:
            flat = graph.node("Reshape", hidden, graph.constant([-1, width], np.int64))
            asking = graph.node("Gather", flat, queries)
        query, key, value = (
            self._heads(graph, f"{here}.attention.self.{name}", states, order)
            for name, states, order in (
                ("query", asking, [0, 2, 1, 3]),
                ("key", hidden, [0, 2, 3, 1]),
                ("value", hidden, [0, 2, 1, 3]),
            )
        )
        depth = graph.constant((width // self.shape.num_heads) ** -0.5)
        scores = graph.node("Mul", graph.node("MatMul", query, key), depth)
        shares = graph.node("Softmax", graph.node("Add", scores, bias), axis=-1)
        mixed = graph.node("Transpose", graph.node("MatMul", shares, value), perm=[0, 2, 1, 3])
        mixed = graph.node("Reshape", mixed, graph.constant([0, 0, width], np.int64))
        attended = graph.node("Add", self._linear(graph, f"{here}.attention.output.dense", mixed), asking)
        attended = self._norm(graph, f"{here}.attention.output.LayerNorm", attended)
        inner = graph.node("Gelu", self._linear(graph, f"{here}.intermediate.dense", attended))
        states = graph.node("Add", self._linear(graph, f"{here}.output.dense", inner), attended)
        states = self._norm(graph, f"{here}.output.LayerNorm", states)
        if not queries:
            return states
        places = graph.node("Reshape", queries, graph.constant([-1, 1], np.int64))
        places = graph.node("Cast", places, to=int(TensorProto.INT64))
        changed = graph.node("Reshape", states, graph.constant([-1, width], np.int64))
        return graph.node("Reshape", graph.node("ScatterND", flat, places, changed), graph.node("Shape", hidden))

    def _heads(self, graph: _Graph, name: str, states: str, order: list[int]) -> str:
        """Return queries, keys or values, from [rows, tokens, heads, depth] in another order of axes."""
        heads = self.shape.num_heads
        split = graph.constant([0, 0, heads, self.shape.width // heads], np.int64)
        return graph.node("Transpose", graph.node("Reshape", self._linear(graph, name, states), split), perm=order)

    def _head(self, graph: _Graph, layer: int, hidden: str) -> str:
        name = "classifier" if layer == self.shape.num_layers else f"exits.{layer}"
        flat = graph.node("Reshape", hidden, graph.constant([-1, self.shape.width], np.int64))
        chosen = graph.node("Gather", flat, "picked", axis=0)
        if f"{name}.dense.weight" in self.weights:
            chosen = graph.node("Tanh", self._linear(graph, f"{name}.dense", chosen))
            name = f"{name}.out_proj"
        return self._linear(graph, name, chosen)

    def _linear(self, graph: _Graph, name: str, value: str) -> str:
        weight, bias = self.weights[f"{name}.weight"].T, self.weights[f"{name}.bias"]
        return graph.node("Add", graph.node("MatMul", value, graph.constant(weight)), graph.constant(bias))

    def _norm(self, graph: _Graph, name: str, value: str) -> str:
        scale, shift = (graph.constant(self.weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return graph.node("LayerNormalization", value, scale, shift, axis=-1, epsilon=self.epsilon)


def write_segments(folder: Path, graphs: SegmentGraph, exported: Exported, progress: Progress) -> None:
    """Write the graph of each segment, with its weights in a file beside it.

    int8 is ONNX Runtime's dynamic quantisation: a scale for each output of a weight, and one for all activations that
    are computed together, so that an answer depends on its neighbours. Weights have 7 bits: processors without VNNI
    add two products in 16.
    """
    for number, (first, last) in enumerate(exported.segments):
        progress(number, len(exported.segments), f"layers {first} to {last}")
        path = folder / f"{segment_name(first, last)}.onnx"
        model = graphs.build(first, last, by_token=exported.policy.granularity == "token")
        if exported.precision == "int8":
            from onnxruntime.quantization import QuantType, quantize_dynamic
            from onnxruntime.quantization.quant_utils import add_pre_process_metadata

            add_pre_process_metadata(model)  # else it warns that a graph may hold what could be folded
            quantize_dynamic(
                model,
                path,
                op_types_to_quantize=["MatMul"],
                per_channel=True,
                reduce_range=True,
                weight_type=QuantType.QInt8,
                use_external_data_format=True,
            )
        else:
            # A file of its own, as a message of more than 2 GB has none that it fits into.
            onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")
        onnx.checker.check_model(str(path))
    progress(len(exported.segments), len(exported.segments), "")
