"""Through the gate: as written, or with layers in 16 bits where int8 costs too much, as few as pass."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from halfling.engine import AdaptiveEngine
from halfling.engine.answer import Answer
from halfling.engine.exported import Exported
from halfling.export.gate import Answers, Gate
from halfling.records import Int8Drop, Progress
from halfling.tasks.encoded import Encoded

_RANKED_ON = 32
"""Sentences, of the language that int8 costs most."""


def passed(
    gate: Gate, exported: Exported, out: Path, write_weights: Callable[[tuple[int, ...]], None], progress: Progress
) -> tuple[tuple[Int8Drop, ...], tuple[int, ...]]:
    """Return what int8 costs with each backend of an export, and the layers (1-based) that are wide for it in native.

    Args:
        gate: What they are held against.
        exported: What was written, without wide layers.
        out: Where.
        write_weights: Writes the native engine's weights anew, with some layers wide.
        progress: Told of every language that is answered.

    Raises:
        HalflingError: It costs too much.
    """

    def answers_of(backend: str) -> Answers:
        engine = AdaptiveEngine(out, exported, backend, None)

        def answer(
            sequences: Sequence[Encoded], leave_after: Sequence[int] | None = None, language: str | None = None
        ) -> list[Answer]:
            return engine.answer(sequences, leave_after, engine.policy(language))

        return answer

    def widened(layers: tuple[int, ...]) -> Answers:
        if layers:
            write_weights(layers)
        return answers_of("native")

    drops: list[Int8Drop] = []
    wide: tuple[int, ...] = ()
    for backend in exported.backends:
        if backend == "native":
            wide, found = narrowest(gate, widened, exported.shape.num_layers, progress)
        else:
            found = gate.measure(answers_of(backend), backend, progress)
            gate.refuse(found)
        drops += found
    return tuple(drops), wide


def narrowest(
    gate: Gate, write: Callable[[tuple[int, ...]], Answers], num_layers: int, progress: Progress
) -> tuple[tuple[int, ...], tuple[Int8Drop, ...]]:
    """Return the layers that are to be wide, none where int8 alone passes the gate, and what the export then costs.

    Layers are ranked by what each of them mends when it alone is wide. Of these the first one, two, four, ... are
    widened until the gate is passed. What `write` wrote last is what is returned.

    Args:
        gate: What it is held against.
        write: Writes the weights with some layers (1-based) wide, and returns the `answer` of an engine of them.
        num_layers: Of the encoder.
        progress: Told of every language that is answered.

    Raises:
        HalflingError: int8 costs too much with all layers wide.
    """
    drops = gate.measure(write(()), "native", progress)
    if not gate.failed(drops):
        return (), drops
    order = _ranked(gate, write, num_layers, gate.failed(drops)[0].language, progress)
    wide: tuple[int, ...] = ()
    while len(wide) < num_layers and gate.failed(drops):
        wide = tuple(sorted(order[: 2 * len(wide) or 1]))
        drops = gate.measure(write(wide), "native", progress)
    gate.refuse(drops, " with all layers in 16 bits")
    return wide, drops


def _ranked(
    gate: Gate, write: Callable[[tuple[int, ...]], Answers], num_layers: int, language: str, progress: Progress
) -> list[int]:
    """Return all layers, first the one that brings logits nearest to float32's when it alone is wide."""
    some, wanted = gate.sample(language, _RANKED_ON)
    expected, last = np.concatenate(wanted), [num_layers] * len(some)
    gaps: dict[int, float] = {}
    for layer in range(1, num_layers + 1):
        progress(layer - 1, num_layers, f"layer {layer} in 16 bits")
        given = np.concatenate([one.logits for one in write((layer,))(some, leave_after=last)])
        gaps[layer] = float(np.square(given - expected).mean())
    return sorted(gaps, key=lambda layer: gaps[layer])
