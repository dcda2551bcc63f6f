"""The native engine: the whole loop in C; see `native/README.md`."""

import ctypes
import os
from collections.abc import Sequence
from ctypes import Structure, c_char_p, c_int32, c_void_p
from itertools import accumulate, count, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from halfling.engine.answer import Answer
from halfling.engine.exported import Exported
from halfling.errors import HalflingError
from halfling.exits.policy import ExitPolicy
from halfling.native import address, library
from halfling.tasks.encoded import Encoded

WEIGHTS = "native.weights"
"""The file of an exported model that the library maps."""
VARIANT = "HALFLING_NATIVE_VARIANT"
"""The environment's variable that names another variant of the kernels than the fastest."""
_CRITERIA = ("entropy", "max_probability", "margin", "patience")
_POOLING = ("mean", "max")


class _Policy(Structure):
    _fields_ = [
        ("exits", c_int32),
        ("layers", c_void_p),
        ("thresholds", c_void_p),
        *((name, c_int32) for name in ("criterion", "patience", "by_token", "pooling")),
    ]


class _Questions(Structure):
    _fields_ = [
        ("sequences", c_int32),
        *((name, c_void_p) for name in ("ids", "starts", "picked", "picked_starts", "leave_after")),
    ]


class _Answers(Structure):
    _fields_ = [(name, c_void_p) for name in ("logits", "exit_layers", "uncertainties", "token_layers")]


class _Sizes(Structure):
    _fields_ = [
        (name, c_int32) for name in ("tagger", "layers", "width", "heads", "vocabulary", "positions", "classes")
    ]


class NativeLoop:
    """Answers token ids as `AdaptiveLoop` does. Threads that share one take turns; a forked process may use it too."""

    def __init__(self, folder: Path, exported: Exported, threads: int, variant: str | None = None) -> None:
        """Map the weights of an exported model.

        Args:
            folder: The exported model.
            exported: What it holds; its policy is in use where a call names none.
            threads: How many compute.
            variant: Of the kernels (`variants()`); what the environment names, or the fastest, when absent.

        Raises:
            HalflingError: The file is damaged, a policy is not one of this model, or this processor does not run the
                variant.
        """
        self.policy = exported.policy
        self._library = library()
        path, wrong = folder / WEIGHTS, c_char_p()
        chosen = variant or os.environ.get(VARIANT) or None
        if chosen and chosen not in (known := variants()):
            raise HalflingError(
                f"variant {chosen[:40]!r}: this processor does not run it: choose from {', '.join(known)}"
            )
        self._model = self._library.halfling_open(
            os.fsencode(path), threads, chosen.encode() if chosen else None, ctypes.byref(wrong)
        )
        if not self._model:
            raise HalflingError(f"{path}: {(wrong.value or b'').decode()}: export the model again")
        sizes, shape = _Sizes(), exported.shape
        self._library.halfling_sizes(self._model, ctypes.byref(sizes))
        found = tuple(getattr(sizes, field[0]) for field in _Sizes._fields_)
        self.classes = len(exported.labels)
        told = (shape.num_layers, shape.width, shape.num_heads, shape.vocab_size, shape.max_tokens, self.classes)
        if found != (exported.kind == "token", *told):
            raise HalflingError(f"{path}: not the model that the folder speaks of: export the model again")
        self.variant = self._library.halfling_model_variant(self._model).decode()
        self.limits = {
            b"an id is none of the vocabulary": f" (0 to {shape.vocab_size - 1})",
            b"a sequence is longer than the model reads": f" (at most {shape.max_tokens} tokens)",
        }
        # The last policy, as the library reads it, and what must live as long.
        self._told: tuple[ExitPolicy | None, Any, Any] = (None, None, None)
        for policy in (exported.policy, *exported.policies.values()):
            try:
                self.answer([], policy=policy)
            except ValueError as error:
                raise HalflingError(f"{folder}: {error}: calibrate and export the model again") from error

    def __reduce__(self) -> Any:
        raise TypeError("an engine maps a file, and cannot be copied or pickled: open its folder in each process")

    def __del__(self) -> None:
        if getattr(self, "_model", None):
            self._library.halfling_close(self._model)

    def answer(
        self,
        sequences: Sequence[Encoded],
        leave_after: Sequence[int] | None = None,
        policy: ExitPolicy | None = None,
    ) -> list[Answer]:
        """Return the network's answer to each sequence, in their order; see `AdaptiveLoop.answer`.

        Args:
            sequences: As there.
            leave_after: As there.
            policy: For this call, instead of the model's own; among exits that the model has.

        Raises:
            ValueError: An id is none of the vocabulary, a sequence is empty or too long, or the policy is not one of
                this model.
        """
        policy = policy or self.policy
        by_token = policy.granularity == "token"
        starts = [0, *accumulate(len(one.ids) for one in sequences)]
        picked_starts = [0, *accumulate(len(one.picked) for one in sequences)]
        count, tokens, picked = len(sequences), starts[-1], picked_starts[-1]
        sizes = (tokens, count + 1, picked, count + 1, 0 if leave_after is None else count)
        parts, where = _room((*sizes, picked * self.classes, count, count, tokens if by_token else 0))
        _lay_out(parts[0], [one.ids for one in sequences])
        _lay_out(parts[2], [one.picked for one in sequences])
        parts[1][:], parts[3][:] = starts, picked_starts
        if leave_after is not None:
            _lay_out(parts[4], [np.asarray(leave_after)])
        known = self._told
        if known[0] is not policy:
            known = self._told = (policy, *_policy_of(policy))
        wrong = self._library.halfling_answer(
            self._model,
            ctypes.byref(known[1]),
            ctypes.byref(_Questions(count, *where[:4], None if leave_after is None else where[4])),
            ctypes.byref(_Answers(*where[5:])),
        )
        if wrong == b"no memory":
            raise MemoryError
        if wrong:
            raise ValueError(wrong.decode() + self.limits.get(wrong, ""))
        logits = parts[5].view(np.float32).reshape(picked, self.classes)
        rows = [logits[begin:end] for begin, end in pairwise(picked_starts)]
        alone = parts[8].tolist()
        each = [tuple(alone[begin:end]) if by_token else None for begin, end in pairwise(starts)]
        return list(map(Answer, rows, parts[6].tolist(), parts[7].view(np.float32).tolist(), each))


def variants() -> list[str]:
    """Return the names of the variants that this processor runs, the fastest first."""
    names = iter(library().halfling_variant(number) for number in count())
    return [name.decode() for name in iter(names.__next__, None)]


def _policy_of(policy: ExitPolicy) -> tuple[_Policy, Any]:
    """Return a policy as the library reads it, and the arrays that must live as long."""
    layers, thresholds = np.array(policy.layers, np.int32), np.array(policy.thresholds, np.float32)
    numbers = (
        _CRITERIA.index(policy.criterion),
        policy.patience or 0,
        policy.granularity == "token",
        _POOLING.index(policy.token_pooling),
    )
    return _Policy(len(layers), address(layers), address(thresholds), *numbers), (layers, thresholds)


def _room(sizes: Sequence[int]) -> tuple[list[np.ndarray], list[int]]:
    """Return arrays of 32-bit numbers, as many as there are sizes, and where they lie.

    They are parts of one array: asking where an array lies takes longer than making one.
    """
    ends = [0, *accumulate(sizes)]
    whole = np.empty(ends[-1], np.int32)
    first = address(whole) or 0
    return [whole[begin:end] for begin, end in pairwise(ends)], [first + 4 * begin for begin in ends[:-1]]


def _lay_out(to: np.ndarray, parts: Sequence[np.ndarray]) -> None:
    """Write arrays one after the other."""
    if not parts:
        return
    flat = np.concatenate(parts)
    # What 32 bits do not hold must not become a number that is in the vocabulary.
    to[:] = flat if flat.dtype == np.int32 else np.clip(flat, -1, 2**31 - 1)
