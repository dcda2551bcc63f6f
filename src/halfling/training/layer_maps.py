"""Which teacher layers each student layer learns from: small strategies by name, each with its source.

Layers are counted from 1. The embedding output is no layer: `embedding_weight` compares it.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from halfling.bounds import Part

LayerPair = tuple[Part, Part]
"""(student layer, teacher layer)."""

LayerMapName = Literal["uniform", "top", "bottom", "single", "random", "attention", "emd", "custom"]


class LayerMap(NamedTuple):
    """A strategy.

    Attributes:
        says: What it does, in one line.
        source: The paper that it follows; empty where nobody need be named.
        how: `pairs` compares two layers of a pair. Where every student layer learns from all teacher layers, `mixture`
            compares it with a mixture of them, and `transport` weighs their gaps by an optimal transport.
        pairs: The pairs for a student and a teacher of such depths, and a generator for those that draw.
    """

    says: str
    source: str
    how: Literal["pairs", "mixture", "transport"]
    pairs: Callable[[int, int, np.random.Generator], list[LayerPair]]


def _uniform(student: int, teacher: int, _: np.random.Generator) -> list[LayerPair]:
    return [(layer, round(layer * teacher / student)) for layer in range(1, student + 1)]


def _top(student: int, teacher: int, _: np.random.Generator) -> list[LayerPair]:
    return [(layer, layer + teacher - student) for layer in range(1, student + 1)]


def _bottom(student: int, _: int, __: np.random.Generator) -> list[LayerPair]:
    return [(layer, layer) for layer in range(1, student + 1)]


def _single(student: int, teacher: int, _: np.random.Generator) -> list[LayerPair]:
    # MiniLMv2's choices: the last of a base-size teacher's 12, the 19th of XLM-R Large's 24.
    return [(student, teacher if teacher <= 12 else round(teacher * 19 / 24))]


def _random(student: int, teacher: int, draw: np.random.Generator) -> list[LayerPair]:
    between = sorted(draw.choice(np.arange(1, teacher), size=student - 1, replace=False).tolist())
    return [*enumerate(between, start=1), (student, teacher)]


def _all(student: int, teacher: int, _: np.random.Generator) -> list[LayerPair]:
    return [(own, theirs) for own in range(1, student + 1) for theirs in range(1, teacher + 1)]


_PATIENT = "https://arxiv.org/abs/1908.09355"

LAYER_MAPS: dict[LayerMapName, LayerMap] = {
    "uniform": LayerMap("spread over the whole teacher; PKD's skip", _PATIENT, "pairs", _uniform),
    "top": LayerMap("the teacher's last layers; PKD's last", _PATIENT, "pairs", _top),
    "bottom": LayerMap("the teacher's first layers", "", "pairs", _bottom),
    "single": LayerMap(
        "the last layer alone, from one upper layer: MiniLMv2's", "https://arxiv.org/abs/2012.15828", "pairs", _single
    ),
    "random": LayerMap(
        "a sorted draw, anew each step or epoch, and the last from the last: RAIL-KD's",
        "https://arxiv.org/abs/2109.10164",
        "pairs",
        _random,
    ),
    "attention": LayerMap(
        "each from a mixture of all layers, by likeness: ALP-KD's",
        "https://arxiv.org/abs/2012.14022",
        "mixture",
        _all,
    ),
    "emd": LayerMap(
        "all from all, along the cheapest transport: BERT-EMD's",
        "https://arxiv.org/abs/2010.06133",
        "transport",
        _all,
    ),
}
"""By name, all but `custom`, whose pairs are the user's."""


def layer_map(
    name: LayerMapName,
    student_layers: int,
    teacher_layers: int,
    pairs: Sequence[LayerPair] = (),
    draw: tuple[int, int] = (0, 0),
) -> list[LayerPair]:
    """Return the pairs of a named map, or the checked `pairs` of a custom one.

    Args:
        name: Of `LAYER_MAPS`, or "custom".
        student_layers: The student's depth.
        teacher_layers: The teacher's depth.
        pairs: Of a custom map.
        draw: Seed and number of the draw of `random`: the same two give the same pairs, whatever was drawn before.

    Raises:
        ValueError: The student is deeper than the teacher, a pair names a layer that is not there or a student layer
            a second time, or there are no pairs where there should be.
    """
    if student_layers > teacher_layers:
        raise ValueError(f"expected a student no deeper than its teacher, came {student_layers} > {teacher_layers}")
    if name != "custom":
        if pairs:
            raise ValueError(f"layer map {name!r} finds its own pairs: give pairs with `custom` only")
        return LAYER_MAPS[name].pairs(student_layers, teacher_layers, np.random.default_rng(draw))
    for student, teacher in pairs:
        if not (1 <= student <= student_layers and 1 <= teacher <= teacher_layers):
            raise ValueError(
                f"layer pair {student} -> {teacher}: expected a student layer in 1..{student_layers} "
                f"and a teacher layer in 1..{teacher_layers}"
            )
    if len({student for student, _ in pairs}) != len(pairs) or not pairs:
        raise ValueError(f"custom layer map {list(pairs)}: expected each student layer at most once, one at least")
    return sorted(pairs)


def how_of(name: LayerMapName) -> Literal["pairs", "mixture", "transport"]:
    """Return how a map's layers are compared; those of a custom one pair by pair."""
    return LAYER_MAPS[name].how if name in LAYER_MAPS else "pairs"
