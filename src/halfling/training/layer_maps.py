"""Which teacher layer each student layer learns from.

Layers are counted from 1; 0 is the embedding output. The names follow the comparisons in Patient Knowledge
Distillation (https://arxiv.org/abs/1908.09355), whose "skip" is our `uniform` and whose "last" is our `top`.
"""

from collections.abc import Callable, Sequence
from typing import Literal

LayerPair = tuple[int, int]
"""(student layer, teacher layer)."""

LayerMapName = Literal["uniform", "top", "bottom", "single", "custom"]


def uniform(student_layers: int, teacher_layers: int) -> list[LayerPair]:
    """Spread over the whole teacher: i -> i * teacher / student, so i -> 2i for 12 of 24."""
    return [(i, round(i * teacher_layers / student_layers)) for i in range(1, student_layers + 1)]


def top(student_layers: int, teacher_layers: int) -> list[LayerPair]:
    """The teacher's last layers: i -> i + teacher - student."""
    return [(i, i + teacher_layers - student_layers) for i in range(1, student_layers + 1)]


def bottom(student_layers: int, teacher_layers: int) -> list[LayerPair]:
    """The teacher's first layers: i -> i."""
    del teacher_layers  # every map has one signature
    return [(i, i) for i in range(1, student_layers + 1)]


def single(student_layers: int, teacher_layers: int) -> list[LayerPair]:
    """The last from the last, and nothing else."""
    return [(student_layers, teacher_layers)]


_NAMED: dict[str, Callable[[int, int], list[LayerPair]]] = {
    "uniform": uniform,
    "top": top,
    "bottom": bottom,
    "single": single,
}


def custom(pairs: Sequence[LayerPair], student_layers: int, teacher_layers: int) -> list[LayerPair]:
    """Return `pairs` after a check that each layer exists and no student layer learns from two.

    Raises:
        ValueError: A pair names a layer that is not there, a student layer stands twice, or there is no pair.
    """
    for student, teacher in pairs:
        if not (0 <= student <= student_layers and 0 <= teacher <= teacher_layers):
            raise ValueError(
                f"layer pair {student} -> {teacher}: expected a student layer in 0..{student_layers} "
                f"and a teacher layer in 0..{teacher_layers}"
            )
    if len({student for student, _ in pairs}) != len(pairs) or not pairs:
        raise ValueError(f"custom layer map {list(pairs)}: expected each student layer at most once, one at least")
    return sorted(pairs)


def layer_map(
    name: LayerMapName, student_layers: int, teacher_layers: int, pairs: Sequence[LayerPair] = ()
) -> list[LayerPair]:
    """Return the pairs of a named map, or the checked `pairs` of a custom one.

    Raises:
        ValueError: The student is deeper than the teacher, or `pairs` do not fit.
    """
    if student_layers > teacher_layers:
        raise ValueError(f"expected a student no deeper than its teacher, came {student_layers} > {teacher_layers}")
    if name == "custom":
        return custom(pairs, student_layers, teacher_layers)
    if pairs:
        raise ValueError(f"layer map {name!r} finds its own pairs: give pairs with `custom` only")
    return _NAMED[name](student_layers, teacher_layers)
