"""An exported model's folder: what it holds, and that it is whole."""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import Field

from halfling import json_text
from halfling.errors import HalflingError
from halfling.exits.policy import ExitPolicy
from halfling.files import sha256
from halfling.languages import set_of
from halfling.records import EncoderShape, Int8Drop, Record

EXPORTED = "engine.json"
"""The file that makes a folder an exported model."""

BackendName = Literal["native", "torch", "onnx"]
Precision = Literal["float32", "bfloat16", "int8"]
"""Of the linear layers; bfloat16 is for torch on a GPU alone."""


FORMAT = 3


class Exported(Record):
    """What an exported model's folder holds; the file is `engine.json`."""

    format: int = Field(description="of the folder; another number is another layout")
    kind: Literal["sequence", "token"] = Field(description="one answer for a text, or one for each of its words")
    labels: tuple[str, ...] = Field(min_length=2, description="names of the classes, in the order of their numbers")
    shape: EncoderShape
    precision: Precision
    policy: ExitPolicy = Field(description="where inputs exit")
    policies: dict[str, ExitPolicy] = Field(default_factory=dict, description="where inputs of a language do instead")
    tokenizer: Literal["native", "tokenizers"] = Field(description="who cuts text into ids")
    backends: tuple[BackendName, ...] = Field(min_length=1, description="whose segments are here")
    int8: tuple[Int8Drop, ...] = Field(
        (), description="what int8 costs, by backend and language; nothing measured: empty"
    )
    wide_layers: tuple[int, ...] = Field((), description="layers (1-based) whose activations have 16 bits in native")
    files: dict[str, str] = Field(description="path -> SHA-256 of its every byte")
    checksum: str = Field("", description="SHA-256 of this record while this field is empty")

    @property
    def ends(self) -> tuple[int, ...]:
        """The layers after which somebody may exit, whatever the language: the ends of the segments."""
        return tuple(sorted({layer for policy in (self.policy, *self.policies.values()) for layer in policy.layers}))

    def whose(self, language: str | None) -> str | None:
        """Return the language whose set holds for one, as `languages.set_of` looks it up; None: the default."""
        return set_of(self.policies, language)

    def at_ends(self, policy: ExitPolicy) -> ExitPolicy:
        """Return a policy that does the same with an exit after every segment, thresholds 0 at those it has not."""
        used = dict(zip(policy.layers, policy.thresholds, strict=False))
        thresholds = tuple(used.get(layer, 0.0) for layer in self.ends[:-1])
        return policy.model_copy(update={"layers": self.ends, "thresholds": thresholds})

    @property
    def segments(self) -> tuple[tuple[int, int], ...]:
        """Return the first and last layer (1-based) of each segment."""
        ends = self.ends
        return tuple(zip((1, *(end + 1 for end in ends[:-1])), ends, strict=True))


def checksum_of(record: Record) -> str:
    """Return the SHA-256 of a record while its `checksum` is empty."""
    return hashlib.sha256(record.model_copy(update={"checksum": ""}).model_dump_json().encode()).hexdigest()


def segment_name(first: int, last: int) -> str:
    """Return the name of a segment's files, without their ending."""
    return f"layers-{first}-{last}"


def read_exported(folder: Path) -> Exported:
    """Return what `folder` holds, when it is all there.

    Raises:
        HalflingError: It is no exported model, a file is missing, or a file is not what was written.
    """
    if not (folder / EXPORTED).is_file():
        raise HalflingError(f"{folder}: no exported model here (no {EXPORTED}): make one with `halfling export`")
    said = json_text.read(folder / EXPORTED)
    if isinstance(said, dict) and said.get("format") != FORMAT:
        raise HalflingError(f"{folder / EXPORTED}: of another version of halfling: export the model again")
    exported = Exported.checked(said, str(folder / EXPORTED))
    damaged = "damaged (not what was exported): export the model again"
    if exported.checksum != checksum_of(exported):
        raise HalflingError(f"{folder / EXPORTED}: {damaged}")
    for name, expected in exported.files.items():
        path = folder / name
        if not path.is_file():
            raise HalflingError(f"{path}: missing: export the model again")
        if sha256(path) != expected:
            raise HalflingError(f"{path}: {damaged}")
    return exported
