"""A sentence alone in OpenVINO: all segments in one graph, which decides by itself where to stop.

A boundary between two compiled segments costs little arithmetic, but the other threads fall asleep there. Nested `If`s
keep them awake: in a graph of fixed shape three segments cost what one graph without exits does (docs/benchmarks.md).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from openvino import Model, Output, Type
from openvino import opset13 as ops

from halfling.exits.policy import ExitPolicy


def chain(segments: Sequence[Model], policy: ExitPolicy, tokens: int, answers: int, width: int) -> Model:
    """Return one graph of fixed shape, for a row of `tokens`, of segments that read (hidden, bias, picked).

    It returns the logits [answers, classes] of the exit taken, the uncertainty there and its number from 0.
    """
    fixed = ([1, tokens, width], [1, 1, tokens, tokens], [answers])
    for segment in segments:
        segment.reshape(dict(enumerate(fixed)))
    last = len(segments) - 1
    whole = _with_decision(segments[last], last, policy, None)
    for number in reversed(range(last)):
        whole = _with_decision(segments[number], number, policy, whole)
    return whole


def _with_decision(segment: Model, number: int, policy: ExitPolicy, rest: Model | None) -> Model:
    """Return a segment and, where the sentence is not sure enough to leave after it, the rest.

    It reads (hidden, bias, picked, votes, thresholds) and returns (logits, uncertainty, number), as `Backend.alone`.
    """
    inputs = segment.get_parameters()
    votes = ops.parameter(inputs[2].get_shape(), Type.f32, "votes")
    thresholds = ops.parameter([max(len(policy.thresholds), 1)], Type.f32, "thresholds")
    *hidden, logits = (output.get_node().input_value(0) for output in segment.outputs)
    doubt = _pool(_CRITERIA[policy.criterion](logits), votes, policy.token_pooling)
    here = [logits, doubt, ops.constant(np.int32(number)).output(0)]
    inputs = [*inputs, votes, thresholds]
    if rest is None:
        return Model([ops.result(value) for value in here], inputs)
    threshold = ops.gather(thresholds, ops.constant(np.int32(number)), ops.constant(np.int32(0)))
    # An output, not the node: given that, `if_op` has no condition.
    decision = ops.if_op(ops.less(doubt, threshold).output(0))
    passed = [ops.parameter(value.get_shape(), value.get_element_type()) for value in here]
    leave = Model([ops.result(value) for value in passed], passed)
    decision.set_then_body(leave)
    decision.set_else_body(rest)
    for value, parameter in zip(here, passed, strict=True):
        decision.set_input(value, parameter, None)
    states = [hidden[0], *(one.output(0) for one in inputs[1:])]
    for value, parameter in zip(states, rest.get_parameters(), strict=True):
        decision.set_input(value, None, parameter)
    answers = zip(leave.get_results(), rest.get_results(), strict=True)
    return Model([ops.result(decision.set_output(*both)) for both in answers], inputs)


def _pool(doubt: Output, votes: Any, how: str) -> Output:
    axis = ops.constant(np.array([0], np.int32))
    if how == "max":
        counted = ops.convert(ops.greater(votes, ops.constant(np.float32(0))), "f32")
        return ops.reduce_max(ops.multiply(doubt, counted), axis).output(0)
    return ops.reduce_sum(ops.multiply(doubt, votes), axis).output(0)


def _entropy(logits: Output) -> Output:
    log_p = ops.log_softmax(logits, -1)
    entropy = ops.reduce_sum(ops.multiply(ops.exp(log_p), log_p), ops.constant(np.array([-1], np.int32)))
    return _within_0_and_1(ops.multiply(entropy, ops.constant(np.float32(-1 / math.log(_classes(logits))))))


def _improbability(logits: Output) -> Output:
    most = ops.reduce_max(ops.softmax(logits, -1), ops.constant(np.array([-1], np.int32)))
    left = ops.subtract(ops.constant(np.float32(1)), most)
    return _within_0_and_1(ops.divide(left, ops.constant(np.float32(1 - 1 / _classes(logits)))))


def _narrowness(logits: Output) -> Output:
    two = ops.topk(ops.softmax(logits, -1), ops.constant(np.int32(2)), -1, "max", "value").output(0)
    signs = ops.constant(np.array([1, -1], np.float32))
    margin = ops.reduce_sum(ops.multiply(two, signs), ops.constant(np.array([-1], np.int32)))
    return _within_0_and_1(ops.subtract(ops.constant(np.float32(1)), margin))


_CRITERIA = {"entropy": _entropy, "max_probability": _improbability, "margin": _narrowness}
"""`halfling.exits.criteria` of the same names, in a graph: they differ by rounding."""


def _classes(logits: Output) -> int:
    return int(logits.get_partial_shape()[1].get_length())


def _within_0_and_1(value: Any) -> Output:
    return ops.clamp(value, 0.0, 1.0).output(0)
