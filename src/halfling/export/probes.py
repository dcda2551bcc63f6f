"""Texts that tell tokenizers apart, and what transformers makes of them."""

import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from halfling.engine.text import BOS, EOS, Pieces, join
from halfling.models.classifier import Head

_SPACES = [
    chr(code) for code in (*range(0x21), *range(0x7F, 0xA1), 0x3000, *range(0x2000, 0x2010), *range(0x2028, 0x2030))
]
_ODD = [
    chr(code) for code in (0xAD, 0x34F, 0x61C, 0x180E, 0x2060, 0x2581, 0xFE0F, 0xFEFF, 0xFFFD, 0x1680, 0x205F, 0xE0041)
]
_WORDS = [
    "Tiếng Việt",
    "Île Ångström",
    "한국어 문장",
    "ガラス",
    "क़लम लड़के",
    "สวัสดีชาวโลก",
    "ﬁne Ⅳ ½ ﷺ ｆｕｌｌ",
    "İstanbul ǅ ß ſ",
]
_TEXTS = [
    "", " ", "Anna", " Anna  lives\tin\nRome ", "ANNA LIVES", "e\u0323\u0301 \u0301a", "600000 1000000 0000000",
    "👨\u200d👩\u200d👧 🇰🇪🇹🇿 👍🏽", "a\u200db\u200cc", "\r\n",
    "under_score ' \" `` '' #hash @at", "a" * 2000, "xy" * 700,
]  # fmt: skip


class Difference(NamedTuple):
    """A text, the ids that transformers gives for it, and those that the engine would give."""

    text: str
    wanted: list[int]
    given: list[int]


class Probes:
    """Texts with the ids that transformers gives: the task's own, those that are hard, and all tokens that were added.

    XLM-R's own special tokens are left out: who writes `</s>` into a text means structure there, and text here.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, head: Head, max_tokens: int, texts: Sequence[str]) -> None:
        """Take what a model reads with, what it answers, how much it reads, and texts of its task."""
        own = {tokenizer.bos_token, tokenizer.pad_token, tokenizer.eos_token, tokenizer.unk_token, tokenizer.mask_token}
        added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.content not in own]
        hard = [
            *_TEXTS,
            *(unicodedata.normalize(form, word) for word in _WORDS for form in ("NFC", "NFD")),
            *(text for one in (*_SPACES, *_ODD) for text in (f"a{one}b", f"{one}a {one}")),
            *(text for one in added for text in (one, f"a {one} b", f"a{one}b", f"{one}{one}", one.upper())),
        ]
        self.texts = [text for text in (*hard, *texts) if not any(token in text for token in own if token)]
        self.inputs: list[tuple[str, ...]]
        self.by_word, self.max_tokens = head == "token", max_tokens
        if self.by_word:  # three words each, as one of them alone would hide a first word's own treatment
            self.inputs = [tuple(self.texts[start : start + 3]) for start in range(0, len(self.texts), 3)]
            read = tokenizer([*map(list, self.inputs)], is_split_into_words=True, truncation=True, max_length=10**6)
            self.wanted = read["input_ids"]
        else:
            pairs = [*pairwise(self.texts[:30])]
            self.inputs = [*((text,) for text in self.texts), *pairs]
            cut = {"truncation": "longest_first", "max_length": max_tokens}
            self.wanted = tokenizer(self.texts, **cut)["input_ids"]
            self.wanted += tokenizer([one for one, _ in pairs], [two for _, two in pairs], **cut)["input_ids"]

    def difference(self, pieces: Pieces) -> Difference | None:
        """Return the first input that the engine would read otherwise with these pieces, None if there is none."""
        cut = iter(pieces([text for one in self.inputs for text in one]))
        for one, wanted in zip(self.inputs, self.wanted, strict=True):
            given = self._ids([next(cut) for _ in one])
            if given != wanted:
                return Difference(" ".join(one), wanted, given)
        return None

    def _ids(self, parts: list[list[int]]) -> list[int]:
        """Return what the engine makes of the pieces of a text, of a pair, or of words."""
        if self.by_word:
            return [BOS, *(piece for part in parts for piece in part), EOS]
        return join(parts[0], parts[1] if parts[1:] else None, self.max_tokens)[0]
