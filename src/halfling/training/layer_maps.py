"""Which teacher layer each student layer learns from.

Layers are counted from 1; 0 is the embedding output. The names follow the comparisons in Patient Knowledge
Distillation (https://arxiv.org/abs/1908.09355), whose "skip" is our `uniform` and whose "last" is our `top`.
"""

from collections.abc import Sequence
from typing import Literal

from halfling.bounds import Part

LayerPair = tuple[Part, Part]
"""(student layer, teacher layer)."""

LayerMapName = Literal["uniform", "top", "bottom", "single", "custom"]


def layer_map(
    name: LayerMapName, student_layers: int, teacher_layers: int, pairs: Sequence[LayerPair] = ()
) -> list[LayerPair]:
    """Return the pairs of a named map, or the checked `pairs` of a custom one.

    uniform: spread over the whole teacher, i -> 2i for 12 of 24. top: its last layers. bottom: its first.
    single: the last from the last, and nothing else.

    Raises:
        ValueError: The student is deeper than the teacher, a pair names a layer that is not there or a student layer
            a second time, or there are no pairs where there should be.
    """
    if student_layers > teacher_layers:
        raise ValueError(f"expected a student no deeper than its teacher, came {student_layers} > {teacher_layers}")
    if name != "custom":
        if pairs:
            raise ValueError(f"layer map {name!r} finds its own pairs: give pairs with `custom` only")
        layers = range(1, student_layers + 1)
        return {
            "uniform": [(i, round(i * teacher_layers / student_layers)) for i in layers],
            "top": [(i, i + teacher_layers - student_layers) for i in layers],
            "bottom": [(i, i) for i in layers],
            "single": [(student_layers, teacher_layers)],
        }[name]
    for student, teacher in pairs:
        if not (0 <= student <= student_layers and 0 <= teacher <= teacher_layers):
            raise ValueError(
                f"layer pair {student} -> {teacher}: expected a student layer in 0..{student_layers} "
                f"and a teacher layer in 0..{teacher_layers}"
            )
    if len({student for student, _ in pairs}) != len(pairs) or not pairs:
        raise ValueError(f"custom layer map {list(pairs)}: expected each student layer at most once, one at least")
    return sorted(pairs)
