"""A smaller vocabulary: which pieces some languages need, and a tokenizer of those alone.

A tokenizer of XLM-R's kind takes the cut of a word whose pieces' scores are largest in sum. Pieces that are taken away
change nothing where they are in no best cut: such a text has the same pieces as before. Where one was, the word is cut
into smaller pieces; every character has a piece of its own, so nothing becomes unknown in a script that is kept.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import regex
from jaxtyping import Bool, Int64
from transformers import PreTrainedTokenizerBase

from halfling.errors import HalflingError
from halfling.tokens.piece_counts import NUM_PIECES
from halfling.tokens.tables import SPACE_MARK

_KEPT = "kept_pieces"
"""In `tokenizer_config.json`: XLM-R's ids of the pieces that are left."""
_NUM_SPECIALS = 4
_SCRIPT_SHARE = 1e-3
"""A script is a language's when so large a share of its pieces is of it."""
_EVERYBODYS = ("Common", "Inherited", "Latin")


def pieces_of(tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, float]]:
    """Return the pieces of a tokenizer with their scores, in the order of their ids.

    Raises:
        HalflingError: It is not of XLM-R's kind.
    """
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = content["model"].get("vocab")
    if content["model"].get("type") != "Unigram" or vocabulary[-1][0] != "<mask>":
        raise HalflingError(f"{tokenizer.name_or_path}: its tokenizer is not XLM-R's: only such a one is trimmed")
    return [(piece, score) for piece, score in vocabulary]


def own_ids(tokenizer: PreTrainedTokenizerBase) -> Int64[np.ndarray, " pieces"]:
    """Return XLM-R's id of each piece of a tokenizer, which is XLM-R's own or was trimmed from it.

    Raises:
        HalflingError: It is another one, of which halfling has no counts; or its own list of them is damaged.
    """
    if (said := tokenizer.init_kwargs.get(_KEPT)) is not None:
        return _unpacked_ids(said, tokenizer)
    if len(tokenizer) != NUM_PIECES:
        raise HalflingError(
            f"{tokenizer.name_or_path}: has {len(tokenizer)} pieces, and the counts that come with halfling are of "
            f"XLM-R's {NUM_PIECES}: name text with --corpus"
        )
    return np.arange(NUM_PIECES)


def _unpacked_ids(said: Any, tokenizer: PreTrainedTokenizerBase) -> Int64[np.ndarray, " pieces"]:
    try:
        # No more than all of XLM-R's are unpacked, whatever a few bytes stand for.
        gaps = zlib.decompressobj().decompress(base64.b85decode(said), 4 * NUM_PIECES + 1)
        ids = np.cumsum(np.frombuffer(gaps, "<u4").astype(np.int64))
        if len(ids) != len(tokenizer):
            raise ValueError(f"{len(ids)} numbers for {len(tokenizer)} pieces")
        if (np.diff(ids) <= 0).any() or ids[-1] >= NUM_PIECES:
            raise ValueError(f"not ascending below {NUM_PIECES}")
    except (ValueError, TypeError, zlib.error) as error:
        raise HalflingError(
            f"{tokenizer.name_or_path}: {_KEPT} in tokenizer_config.json is damaged ({error}): restore the folder as "
            "it was saved"
        ) from error
    return ids


def choose(
    pieces: Sequence[tuple[str, float]],
    counts: Mapping[str, Int64[np.ndarray, " pieces"]],
    *,
    coverage: float = 1.0,
    max_pieces: int | None = None,
) -> Int64[np.ndarray, " kept"]:
    """Return the ids of the pieces to keep, ascending.

    Always kept are special pieces, every single character of the scripts that the languages use (and of Latin, digits
    and punctuation), and the piece of the lowest score, which unknown characters are weighed by.

    Args:
        pieces: All of them, with their scores.
        counts: By language, how often each occurs. Languages weigh alike, however much text was counted.
        coverage: The share of each language's tokens that the pieces kept are to make up.
        max_pieces: At most so many, the most used ones.

    Raises:
        HalflingError: `max_pieces` leaves no room for what is always kept.
    """
    shares = {code: each / max(1, each.sum()) for code, each in counts.items()}
    always = _always(pieces, shares)
    wanted = always.copy()
    for share in shares.values():
        order = np.argsort(-share, kind="stable")
        number = int(np.searchsorted(np.cumsum(share[order]), coverage - 1e-12)) + 1
        wanted[order[:number][share[order[:number]] > 0]] = True
    if max_pieces is not None and wanted.sum() > max_pieces:
        if always.sum() > max_pieces:
            raise HalflingError(
                f"max_pieces={max_pieces}: special pieces and single characters are {always.sum()}: set it to that or "
                "more"
            )
        used = np.where(wanted & ~always, sum(shares.values()), -1.0)
        wanted = always.copy()
        wanted[np.argsort(-used, kind="stable")[: max_pieces - int(always.sum())]] = True
    return np.flatnonzero(wanted)


def _always(pieces: Sequence[tuple[str, float]], shares: Mapping[str, np.ndarray]) -> Bool[np.ndarray, " pieces"]:
    kept = np.zeros(len(pieces), bool)
    kept[:_NUM_SPECIALS] = kept[-1] = True
    kept[_NUM_SPECIALS + int(np.argmin([score for _, score in pieces[_NUM_SPECIALS:-1]]))] = True
    scripts = np.array([_script(piece.strip(SPACE_MARK)[:1]) for piece, _ in pieces])
    used = {*_EVERYBODYS}
    for share in shares.values():
        names, place = np.unique(scripts, return_inverse=True)
        used |= {*names[np.bincount(place, weights=share) >= _SCRIPT_SHARE].tolist()}
    single = np.array([len(piece) == 1 for piece, _ in pieces])
    return kept | (single & np.isin(scripts, [*used]))


@cache
def _script(character: str) -> str:
    if not character:
        return "Common"
    return next((name for name, pattern in _patterns().items() if pattern.match(character)), "other")


@cache
def _patterns() -> dict[str, "regex.Pattern[str]"]:
    # The large ones by name: a script of some hundred characters costs less to keep than to tell apart.
    names = (*_EVERYBODYS, "Cyrillic", "Arabic", "Devanagari", "Han", "Hangul", "Hiragana", "Katakana")
    return {name: regex.compile(rf"\p{{Script={name}}}") for name in names}


def save_trimmed(tokenizer: PreTrainedTokenizerBase, ids: Int64[np.ndarray, " kept"], out: Path) -> None:
    """Write a tokenizer of some pieces alone into a folder; special pieces are where they were, `<mask>` last."""
    tokenizer.save_pretrained(out)
    path, settings = out / "tokenizer.json", out / "tokenizer_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["vocab"] = [content["model"]["vocab"][number] for number in ids.tolist()]
    new = {old: number for number, old in enumerate(ids.tolist())}
    content["added_tokens"] = [{**token, "id": new[token["id"]]} for token in content["added_tokens"]]
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    said = json.loads(settings.read_text(encoding="utf-8"))
    if len(tokenizer) == NUM_PIECES or _KEPT in tokenizer.init_kwargs:
        gaps = np.diff(own_ids(tokenizer)[ids], prepend=0).astype("<u4")
        said[_KEPT] = base64.b85encode(zlib.compress(gaps.tobytes(), 9)).decode()
    settings.write_text(json.dumps(said, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
