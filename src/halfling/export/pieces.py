"""A SentencePiece model out of a `tokenizer.json`, so that the engine needs a quarter of the memory for its words."""

import base64
import json
from pathlib import Path
from typing import Any

from halfling.errors import HalflingError

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
        steps = content["normalizer"].get("normalizers", [content["normalizer"]])
        (map_,) = (base64.b64decode(each["precompiled_charsmap"]) for each in steps if each["type"] == "Precompiled")
        names = [piece for piece, _ in vocabulary[:_NUM_XLM_R_SPECIALS]]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise HalflingError(f"{tokenizer}: not a Unigram tokenizer ({error})") from error
    if names != ["<s>", "<pad>", "</s>", "<unk>"] or vocabulary[-1][0] != "<mask>":
        raise HalflingError(f"{tokenizer}: not XLM-R's layout: its first pieces are {', '.join(map(str, names))}")
    try:
        from sentencepiece.sentencepiece_model_pb2 import ModelProto  # it wants protobuf, which predicting does without
    except (ImportError, TypeError) as error:  # TypeError: another library brought the same messages
        raise HalflingError(f"{tokenizer}: SentencePiece's format is not to be had ({error})") from error

    model = ModelProto()
    kinds = ModelProto.SentencePiece
    for special, kind in (("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)):
        model.pieces.add(piece=special, score=0.0, type=kind)
    for piece, score in vocabulary[_NUM_XLM_R_SPECIALS:-1]:
        model.pieces.add(piece=piece, score=score, type=kinds.NORMAL)
    model.normalizer_spec.name = "nmt_nfkc"
    model.normalizer_spec.precompiled_charsmap = map_
    return model.SerializeToString()
