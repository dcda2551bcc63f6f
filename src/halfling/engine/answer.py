"""What the network says of one sequence."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Answer:
    """What the network says of one sequence: logits [picked, classes], float32, at the exit it took.

    Where tokens exit alone, `token_layers` holds the layer after which each of them did.
    """

    logits: np.ndarray
    exit_layer: int
    uncertainty: float
    token_layers: tuple[int, ...] | None = None
