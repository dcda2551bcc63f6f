"""A SentencePiece model out of a `tokenizer.json`, so that the engine needs a quarter of the memory for its words."""

import base64
import json
import struct
from pathlib import Path
from typing import Any

from halfling.errors import HalflingError

# Numbers of fields and kinds in https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
_PIECES, _NORMALIZER = 1, 3
_NORMAL, _UNKNOWN, _CONTROL = 1, 2, 3
_UNIGRAM_SPECIALS = ((b"<unk>", _UNKNOWN), (b"<s>", _CONTROL), (b"</s>", _CONTROL))
_NUM_XLM_R_SPECIALS = 4  # <s> <pad> </s> <unk>; <mask> comes last


def sentencepiece_model(tokenizer: Path) -> bytes:
    """Return the SentencePiece model of which a `tokenizer.json` of XLM-R's layout is the image.

    Piece n here is id n + 1 there, from the first real piece on (fairseq put `<pad>` in front).

    Raises:
        HalflingError: The file is not a Unigram tokenizer in XLM-R's layout.
    """
    try:
        content: dict[str, Any] = json.loads(tokenizer.read_text(encoding="utf-8"))
        vocabulary = content["model"]["vocab"]
        map_ = _character_map(content["normalizer"])
        names = [piece for piece, _ in vocabulary[:_NUM_XLM_R_SPECIALS]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise HalflingError(f"{tokenizer}: not a Unigram tokenizer ({error})") from error
    if names != ["<s>", "<pad>", "</s>", "<unk>"] or vocabulary[-1][0] != "<mask>":
        raise HalflingError(f"{tokenizer}: not XLM-R's layout: its first pieces are {', '.join(map(str, names))}")
    whole = bytearray()
    for special, kind in _UNIGRAM_SPECIALS:
        whole += _message(_PIECES, _piece(special, 0.0, kind))
    for piece, score in vocabulary[_NUM_XLM_R_SPECIALS:-1]:
        whole += _message(_PIECES, _piece(piece.encode(), score, _NORMAL))
    whole += _message(_NORMALIZER, _message(1, b"nmt_nfkc") + _message(2, map_))
    return bytes(whole)


def _character_map(normalizer: dict[str, Any]) -> bytes:
    parts = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    (map_,) = [part["precompiled_charsmap"] for part in parts if part["type"] == "Precompiled"]
    return base64.b64decode(map_)


def _piece(text: bytes, score: float, kind: int) -> bytes:
    return _message(1, text) + bytes([2 << 3 | 5]) + struct.pack("<f", score) + bytes([3 << 3 | 0, kind])


def _message(field: int, content: bytes) -> bytes:
    """Return a length-delimited field in protobuf's encoding."""
    length, size = bytearray(), len(content)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes([field << 3 | 2]) + bytes(length) + content
