"""The tokenizer of an export: what transformers reads with, in the smallest form that gives the same ids."""

import base64
import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from halfling.engine.backends.native import NativePieces
from halfling.engine.text import NATIVE_FILE, TOKENIZERS_FILE, TokenizersPieces
from halfling.errors import HalflingError
from halfling.export.native_tokenizer import write_native_tokenizer
from halfling.export.probes import Probes
from halfling.files import write_text
from halfling.tokens.encode import keys_by_parts

_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
_MASK = "<mask>"  # the last piece


def write_tokenizer(tokenizer: PreTrainedTokenizerBase, model: Path, out: Path, probes: Probes) -> str:
    """Write a model's tokenizer for the engine and return its kind, "native" or "tokenizers".

    The native one needs an eighth of the memory of the `tokenizers` library. It is taken where it gives the ids that
    transformers gives for every probe.

    Raises:
        HalflingError: Neither gives these ids, or transformers does not load what `tokenizer.json` says.
    """
    parts = _as_loaded(tokenizer)
    if _write_native(parts, out):
        if probes.difference(NativePieces(out / NATIVE_FILE)) is None:
            return "native"
        (out / NATIVE_FILE).unlink()
    write_text(out / TOKENIZERS_FILE, json.dumps(parts, ensure_ascii=False))
    whole = TokenizersPieces(out)
    found = probes.difference(whole)
    said = (
        f"of {found.text[:40]!r} transformers makes {found.wanted[:12]}, the engine {found.given[:12]}" if found else ""
    )
    if not said and (model / TOKENIZERS_FILE).is_file():
        own = TokenizersPieces(model)
        strange = next((text for text in probes.texts if own([text]) != whole([text])), None)
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
    parts: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return parts | {"truncation": None, "padding": None}


def _table_of(parts: dict[str, Any]) -> bytes | None:
    """Return the table that a tokenizer normalises by; None where it is another kind than XLM-R's, or knows more."""
    if keys_by_parts(parts) is None or {token["content"] for token in parts["added_tokens"]} - {*_SPECIALS, _MASK}:
        return None
    vocabulary = parts["model"]["vocab"]
    normalizer = parts["normalizer"] or {}
    steps = normalizer.get("normalizers", [normalizer])
    tables = [base64.b64decode(step["precompiled_charsmap"]) for step in steps if step.get("type") == "Precompiled"]
    if [piece for piece, _ in vocabulary[:4]] != _SPECIALS or vocabulary[-1][0] != _MASK or not tables:
        return None
    return tables[0]


def _write_native(parts: dict[str, Any], out: Path) -> bool:
    """Write the native tokenizer's file; False where the tokenizer is another kind."""
    table = _table_of(parts)
    if table is None:
        return False
    # No text becomes a special token.
    pieces = [("" if piece in (*_SPECIALS, _MASK) else piece, score) for piece, score in parts["model"]["vocab"]]
    write_native_tokenizer(out / NATIVE_FILE, pieces, table)
    return True
