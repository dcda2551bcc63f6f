"""The tokenizer of a model in BERT's layout: XLM-R's, or refused."""

from pathlib import Path

from transformers import XLMRobertaTokenizer

from halfling import json_text
from halfling.errors import HalflingError
from halfling.models.convert.bert import called
from halfling.models.pieces import as_xlm_roberta, tokenizer_of

_MOST_BYTES = 2**28
_FILES = ("tokenizer.json", "sentencepiece.bpe.model")
_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]


def read_vocabulary(folder: Path, max_tokens: int) -> XLMRobertaTokenizer:
    """Return the tokenizer of a folder in BERT's layout, out of `tokenizer.json` or SentencePiece's model.

    What `tokenizer_class` says is not read: the hub's models call XLM-R's tokenizer by several names.

    Raises:
        HalflingError: There is none, or its vocabulary is not of XLM-R's kind.
    """
    whole, sentencepiece = (folder / name for name in _FILES)
    try:
        if whole.is_file():
            model = json_text.read(whole, _MOST_BYTES)["model"]
            if model.get("type", "Unigram") == "Unigram":
                pieces = [(str(piece), float(score)) for piece, score in model["vocab"]]
                if [piece for piece, _ in pieces[:4]] == _SPECIALS and pieces[-1][0] == "<mask>":
                    return tokenizer_of(pieces[4:-1], max_tokens)
            raise _foreign(folder, str(model.get("type", "foreign")))
        if sentencepiece.is_file():
            return as_xlm_roberta(sentencepiece.read_bytes(), max_tokens)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise HalflingError(f"{called(folder)}: no tokenizer could be loaded from this folder ({error})") from error
    if (folder / "vocab.txt").is_file():
        raise _foreign(folder, "WordPiece")
    raise HalflingError(f"{called(folder)}: holds no tokenizer ({' or '.join(_FILES)})")


def _foreign(folder: Path, kind: str) -> HalflingError:
    return HalflingError(
        f"{called(folder)}: a BERT model with a {kind} vocabulary: halfling reads XLM-R's own vocabulary only, as "
        "intfloat/multilingual-e5-small has it"
    )
