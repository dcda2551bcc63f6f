"""The tokenizer of an export: what transformers reads with, in the smallest form that gives the same ids."""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from halfling import json_text
from halfling.engine.text import NATIVE_FILE, TOKENIZERS_FILE, TokenizersPieces
from halfling.errors import HalflingError
from halfling.export.probes import Probes
from halfling.files import whole_file, write_text
from halfling.tokens.native import NativePieces
from halfling.tokens.tables import table_of, tables

_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
_MASK = "<mask>"  # the last piece
_LARGEST = 2**28
"""Bytes of a `tokenizer.json`: XLM-R's has 17 million."""


def write_tokenizer(tokenizer: PreTrainedTokenizerBase, model: Path, out: Path, probes: Probes) -> str:
    """Write a model's tokenizer for the engine and return its kind, "native" or "tokenizers".

    The native one needs an eighth of the memory of the `tokenizers` library. It is taken where it gives the ids that
    transformers gives for every probe.

    Raises:
        HalflingError: Neither gives these ids, or transformers does not load what `tokenizer.json` says.
    """
    parts, own = _as_loaded(tokenizer), model / TOKENIZERS_FILE
    # What transformers loads as another is looked at below, by its answers.
    if (not own.is_file() or _bare(json_text.read(own, _LARGEST)) == parts) and _write_native(parts, out):
        if probes.difference(NativePieces(out / NATIVE_FILE)) is None:
            return "native"
        (out / NATIVE_FILE).unlink()
    write_text(out / TOKENIZERS_FILE, json.dumps(parts, ensure_ascii=False))
    whole = TokenizersPieces(out)
    found = probes.difference(whole)
    said = (
        f"of {found.text[:40]!r} transformers makes {found.wanted[:12]}, the engine {found.given[:12]}" if found else ""
    )
    if not said and own.is_file():
        says = TokenizersPieces(model)
        strange = next((text for text in probes.texts if says([text]) != whole([text])), None)
        if strange is not None:
            said = (
                f"transformers loads it as {type(tokenizer).__name__} and cuts {strange[:40]!r} otherwise than it says"
            )
    if said:
        (out / TOKENIZERS_FILE).unlink()
        raise HalflingError(
            f"{model / TOKENIZERS_FILE}: cannot be exported: {said}: use a tokenizer that frames text as XLM-R's"
        )
    return "tokenizers"


def _as_loaded(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return what a `tokenizer.json` of the tokenizer as it is would hold, without truncation and padding."""
    return _bare(json.loads(tokenizer.backend_tokenizer.to_str()))


def _bare(parts: dict[str, Any]) -> dict[str, Any]:
    return parts | {"truncation": None, "padding": None}


def _write_native(parts: dict[str, Any], out: Path) -> bool:
    """Write the native tokenizer's file; False where the tokenizer is another kind than XLM-R's, or knows more."""
    table = table_of(parts)
    if table is None or {token["content"] for token in parts["added_tokens"]} - {*_SPECIALS, _MASK}:
        return False
    vocabulary = parts["model"]["vocab"]
    if [piece for piece, _ in vocabulary[:4]] != _SPECIALS or vocabulary[-1][0] != _MASK:
        return False
    # No text becomes a special token.
    pieces = [("" if piece in (*_SPECIALS, _MASK) else piece, score) for piece, score in vocabulary]
    with whole_file(out / NATIVE_FILE) as partial:
        partial.write_bytes(tables(pieces, table).tobytes())
    return True
