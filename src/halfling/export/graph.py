"""The ONNX graph of a segment: layers of XLM-R over packed rows, ending in a classifier."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from halfling.records import EncoderShape

OPSET = 20  # the first with Gelu; IR version 10 is what came with it
IR_VERSION = 10

FLOAT, INT32 = int(TensorProto.FLOAT), int(TensorProto.INT32)

_LARGEST_WEIGHT = 63
"""Of an 8-bit weight: processors without VNNI add two products of 8 bits in 16, and 2 x 255 x 64 is the most that
fits. With 127, logits of a random model were off by up to 1.2 there, in OpenVINO and ONNX Runtime, silently."""

_HALVED_FROM = 768
"""The width from which float32 products in halves are quicker alone too; below, each product more costs."""

Weights = Mapping[str, np.ndarray]
"""A model's weights by the names that transformers gives them, float32."""


@dataclass(frozen=True)
class Int8:
    """Static int8: the largest activation that each linear layer's input is scaled to, by the layer's name.

    Scales are fixed before any input is seen, so nobody who shares a sentence's batch has a part in them.
    """

    largest: Mapping[str, float]


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
        return self.nodes_of(kind, *inputs, num=1, **attributes)[0]

    def nodes_of(self, kind: str, *inputs: str, num: int, **attributes: Any) -> list[str]:
        outputs = [f"{kind}{len(self.nodes)}_{number}" for number in range(num)]
        self.nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs


class SegmentGraph:
    """Builds the graphs of one model's segments.

    A graph reads `hidden` [rows, tokens, width], `bias` [rows, 1, tokens, tokens] (0 where a token sees another,
    very negative elsewhere) and `picked` [answers] (numbers of tokens, rows counted through), and returns
    `hidden` after its last layer (save for the last segment) and `logits` [answers, classes].

    Where tokens leave alone, segments after the first read `queries` [rows, queries] too (numbers of tokens, rows
    counted through; a row may name one twice) and `bias` is [rows, 1, queries, tokens]: a layer changes the states of
    those tokens only, while all are keys and values, those who left with the state that they left with.

    Queries, keys and values are one product, with the attention's scale folded into the queries' weights. In int8
    the linear layers are integer products between a quantised input (one static scale for the tensor) and weights
    (a scale for each output); attention products, softmax, layer norms and residuals stay in float32.
    """

    def __init__(self, shape: EncoderShape, weights: Weights, epsilon: float, int8: Int8 | None) -> None:
        self.shape, self.weights, self.epsilon, self.int8 = shape, weights, epsilon, int8

    def build(self, first: int, last: int, by_token: bool = False) -> onnx.ModelProto:
        """Return the graph of layers `first` to `last` (1-based); layer 1 begins with the embeddings' norm."""
        graph, width = _Graph(), self.shape.width
        hidden, queries = "hidden", "queries" if by_token and first > 1 else None
        if first == 1:
            hidden = self._norm(graph, "roberta.embeddings.LayerNorm", hidden)
        for layer in range(first, last + 1):
            hidden = self._layer(graph, layer, hidden, queries)
        logits = self._head(graph, last, hidden)
        kept = {hidden: "hidden_out", logits: "logits"}
        for node in graph.nodes:
            for names in (node.input, node.output):
                names[:] = [kept.get(name, name) for name in names]
        states: tuple[int, list[str | int | None]] = (FLOAT, ["rows", "tokens", width])
        outputs = {"hidden_out": states} if last < self.shape.num_layers else {}
        outputs["logits"] = (FLOAT, ["answers", "classes"])
        inputs: dict[str, tuple[int, list[str | int | None]]] = {
            "hidden": states,
            "bias": (FLOAT, ["rows", 1, queries or "tokens", "tokens"]),
            "picked": (INT32, ["answers"]),
        }
        if queries:
            inputs["queries"] = (INT32, ["rows", "queries"])
        whole = helper.make_graph(
            graph.nodes,
            f"layers {first} to {last}",
            [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
            [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
            graph.constants,
        )
        model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "halfling"
        return model

    def _layer(self, graph: _Graph, layer: int, hidden: str, queries: str | None) -> str:
        here = f"roberta.encoder.layer.{layer - 1}"
        if queries is None:
            asking = hidden
            query, key, value = self._projections(graph, here, hidden, ("query", "key", "value"))
        else:
            flat = graph.node("Reshape", hidden, graph.constant([-1, self.shape.width], np.int64))
            asking = graph.node("Gather", flat, queries, axis=0)
            (query,) = self._projections(graph, here, asking, ("query",))
            key, value = self._projections(graph, here, hidden, ("key", "value"))
        scores = graph.node("MatMul", query, graph.node("Transpose", key, perm=[0, 1, 3, 2]))
        shares = graph.node("Softmax", graph.node("Add", scores, "bias"), axis=-1)
        mixed = graph.node("Transpose", graph.node("MatMul", shares, value), perm=[0, 2, 1, 3])
        mixed = graph.node("Reshape", mixed, graph.constant([0, 0, self.shape.width], np.int64))
        attended = graph.node("Add", self._linear(graph, f"{here}.attention.output.dense", mixed), asking)
        attended = self._norm(graph, f"{here}.attention.output.LayerNorm", attended)
        states = self._norm(graph, f"{here}.output.LayerNorm", self._feed_forward(graph, here, attended))
        if queries is None:
            return states
        places = graph.node("Reshape", queries, graph.constant([-1, 1], np.int64))
        places = graph.node("Cast", places, to=int(TensorProto.INT64))
        changed = graph.node("Reshape", states, graph.constant([-1, self.shape.width], np.int64))
        return graph.node("Reshape", graph.node("ScatterND", flat, places, changed), graph.node("Shape", hidden))

    def _feed_forward(self, graph: _Graph, here: str, states: str) -> str:
        """Return `states` plus what the two linear layers make of them.

        In float32 a wide model's inner layer is computed in halves: OpenVINO is quicker then (docs/log.md).
        """
        up, down = f"{here}.intermediate.dense", f"{here}.output.dense"
        halves = 1 if self.int8 or self.shape.width < _HALVED_FROM else 2
        (widen, offset), (narrow, shift) = self._linear_weights(up), self._linear_weights(down)
        total = states
        for weight, bias, back in zip(
            np.array_split(widen, halves, axis=1),
            np.array_split(offset, halves),
            np.array_split(narrow, halves),
            strict=True,
        ):
            inner = graph.node("Gelu", self._product(graph, up, states, weight, bias))
            total = graph.node("Add", self._product(graph, down, inner, back, shift / halves), total)
        return total

    def _projections(self, graph: _Graph, here: str, states: str, names: tuple[str, ...]) -> list[str]:
        """Return queries, keys or values of `states`, [rows, heads, tokens, depth], computed as one product."""
        heads, depth = self.shape.num_heads, self.shape.width // self.shape.num_heads
        one = f"{here}.attention.self"
        parts = [self._linear_weights(f"{one}.{name}") for name in names]
        scaled = [
            (weight * depth**-0.5, bias * depth**-0.5) if name == "query" else (weight, bias)
            for name, (weight, bias) in zip(names, parts, strict=True)
        ]
        weight, bias = np.concatenate([w for w, _ in scaled], axis=1), np.concatenate([b for _, b in scaled])
        joint = self._product(graph, one, states, weight, bias)
        split = graph.node("Reshape", joint, graph.constant([0, 0, len(names), heads, depth], np.int64))
        split = graph.node("Transpose", split, perm=[2, 0, 3, 1, 4])
        each = graph.nodes_of("Split", split, num=len(names), axis=0, num_outputs=len(names)) if names[1:] else [split]
        return [graph.node("Squeeze", part, graph.constant([0], np.int64)) for part in each]

    def _head(self, graph: _Graph, layer: int, hidden: str) -> str:
        name = "classifier" if layer == self.shape.num_layers else f"exits.{layer}"
        flat = graph.node("Reshape", hidden, graph.constant([-1, self.shape.width], np.int64))
        chosen = graph.node("Gather", flat, "picked", axis=0)
        if f"{name}.dense.weight" in self.weights:
            chosen = graph.node("Tanh", self._linear(graph, f"{name}.dense", chosen))
            name = f"{name}.out_proj"
        weight, bias = self._linear_weights(name)
        return graph.node("Add", graph.node("MatMul", chosen, graph.constant(weight)), graph.constant(bias))

    def _linear_weights(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        return self.weights[f"{name}.weight"].T, self.weights[f"{name}.bias"]

    def _linear(self, graph: _Graph, name: str, value: str) -> str:
        return self._product(graph, name, value, *self._linear_weights(name))

    def _product(self, graph: _Graph, name: str, value: str, weight: np.ndarray, bias: np.ndarray) -> str:
        if self.int8 is None:
            factor = graph.constant(weight)
        else:
            scale = graph.constant(self.int8.largest[name] / 127)
            zero = graph.constant(0, np.int8)
            value = graph.node("DequantizeLinear", graph.node("QuantizeLinear", value, scale, zero), scale, zero)
            factor = self._quantised(graph, weight)
        return graph.node("Add", graph.node("MatMul", value, factor), graph.constant(bias))

    def _quantised(self, graph: _Graph, weight: np.ndarray) -> str:
        largest = np.abs(weight).max(axis=0)
        scale = np.where(largest > 0, largest, 1).astype(np.float32) / np.float32(_LARGEST_WEIGHT)
        return graph.node(
            "DequantizeLinear",
            graph.constant(np.round(weight / scale), np.int8),
            graph.constant(scale),
            graph.constant(np.zeros(len(scale)), np.int8),
            axis=1,
        )

    def _norm(self, graph: _Graph, name: str, value: str) -> str:
        scale, shift = (graph.constant(self.weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return graph.node("LayerNormalization", value, scale, shift, axis=-1, epsilon=self.epsilon)
