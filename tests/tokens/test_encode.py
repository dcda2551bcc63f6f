"""Ids word by word are the tokenizer's own, whatever the text."""

import base64
import json
import random
import struct
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import get_ident

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer, models

from halfling.models.pieces import as_xlm_roberta
from halfling.tokens import encode
from halfling.tokens.encode import TextEncoder, load_tokenizer
from halfling.tokens.native import NativePieces
from halfling.tokens.tables import table_of, tables
from halfling.tokens.unigram import train_unigram
from halfling.tokens.words import WordIds

WORDS = (
    "the river runs past an old mill and children watch boats carry grain to market town 100 1000 100000 "
    "река течёт мимо старой мельницы и дети смотрят как лодки везут зерно на рынок города "
    "नदी पुरानी चक्की के पास से बहती है और बच्चे नावों को देखते हैं ड़ क़ öffnen görülmüştür sınırınının "
    "নদী ছেলে কোথায় 河水流过 磨坊 แม่น้ำ น้ำ 강이 흐른다 می‌رود كتاب ... ..... 39–888 "
    "q\u0300 q\u0301 q\u0308"  # so that marks have pieces of their own
)
HOSTILE = [
    " a\u0301b",  # a space with a combining mark
    "a \u0301b",
    "a \u0340\u0301b c",  # the mark is rewritten, and the one after it would be lost without its space
    "a \u0344b",
    "ก \u0e33 ข",
    "a\u0600 b",
    "a\u200d b \u200dc \u200c d",  # joiners
    "a\u00a0b\u3000c\u2009d\u1680e\u2028f",  # spaces that are not ASCII's
    "a\u200bb\ufeffc\u00add",  # spaces of no width, soft hyphen
    "a\tb\nc\x0bd\x0ce\rf\r\ng \x1c h \x85 i",
    "▁ a▁b ▁▁c ▁river river▁",
    "<s> a</s>b <pad><unk>< mask> <mask>the  <mask> x",
    "＜s＞ ﬁsh ½ ™ ㈱ ①②③ ｶﾞ ﾞ ´ ¨ ´a a´",
    "Türkiye´nin İstanbul i\u0307stanbul ISIĞI ıİ",
    "  two  spaces   and three ",
    "",
    " ",
    "\n",
    "x" * 70_000,
    "river" * 1000,
    "unknown ☃☃ ☃a☃☃b 𐍈𐍈",
    "e\u0301e\u0323\u0301 a\u0323\u0302 \u1100\u1161\u11a8",
    "👩‍👩‍👧 🇹🇷🇹🇷 👍🏽 \U000e0041",
    "क\u093c क़ ো ো \u09c7 \u09be ি",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small tokenizer of XLM-R's layout with its normalisation."""
    words = WORDS.split()
    chance = np.random.default_rng(0)
    model = train_unigram(
        (" ".join(chance.choice(words, 12)) for _ in range(300)), vocab_size=190, character_coverage=1.0, num_threads=1
    )
    out = tmp_path_factory.mktemp("tokenizer")
    as_xlm_roberta(model, 512).save_pretrained(out)
    return out


@pytest.fixture(scope="module")
def encoder(folder):
    found = TextEncoder(load_tokenizer(folder))
    assert found.by_word
    return found


def plain(texts, folder):
    """The tokenizer's own ids, special tokens as unknown ones."""
    tokenizer = load_tokenizer(folder)
    reserved = [0, 1, 2, tokenizer.get_vocab_size() - 1]
    encoded = [each.ids for each in tokenizer.encode_batch(texts, add_special_tokens=False)]
    return [[3 if id_ in reserved else id_ for id_ in ids] for ids in encoded]


def by_word(texts, encoder):
    found = encoder.with_own_words().encode(pa.array(texts, pa.string()))
    assert len(found.ids) == found.lengths.sum()
    return [ids.tolist() for ids in np.split(found.ids, np.cumsum(found.lengths)[:-1])]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_have_the_tokenizers_ids(folder, encoder, text):
    texts = [text, f"river {text} mill", f"river{text}mill", f"{text} {text}"]
    assert by_word(texts, encoder) == plain(texts, folder)


def test_texts_of_every_kind_have_the_tokenizers_ids(folder, encoder):
    chance = np.random.default_rng(1)
    parts = [*WORDS.split(), *" \n\u0301\u200d\u00a0\u0600▁<\u093c\u0340", "<s>", "ﬁ", "☃"]
    texts = ["".join(chance.choice(parts, 30)) for _ in range(500)]
    texts += [" ".join(chance.choice(parts, 30)) for _ in range(500)]
    assert by_word(texts, encoder) == plain(texts, folder)


def test_every_character_beside_a_space_has_the_tokenizers_ids(folder, encoder):
    # The first 0x3200 hold every script's marks; of the rest, marks and formats alone.
    codes = [c for c in range(1, 0xE1000) if c < 0x3200 or unicodedata.category(chr(c)) in ("Mn", "Mc", "Me", "Cf")]
    texts = [f"a {chr(c)}\u0301{chr(c)} b{chr(c)} c {chr(c)}a" for c in codes if not 0xD800 <= c < 0xE000]
    assert by_word(texts, encoder) == plain(texts, folder)


def test_random_vocabularies_cut_as_the_tokenizers_model_does():
    # Few scores make ties, huge ones sum to minus infinity; pieces come twice, hold marks, or lack every letter.
    chance = random.Random(0)
    scores = [lambda: -chance.uniform(0, 9), lambda: float(-chance.randint(0, 2)), lambda: chance.uniform(-9, 30)]
    scores.append(lambda: chance.choice([-1.7e308, -1.0]))
    for number in range(300):
        letters, score = chance.sample("abcd▁☃𐍈é0", 4), scores[number % len(scores)]
        pieces = [("<unk>", 0.0)]
        for _ in range(chance.randint(1, 25)):
            mark = "▁" if chance.random() < 0.3 else ""
            pieces.append((mark + "".join(chance.choices(letters, k=chance.randint(1, 4))), score()))
        words = ["".join(chance.choices([*{*letters} - {"▁"}, "x"], k=chance.randint(1, 12))) for _ in range(20)]
        model = Tokenizer(models.Unigram(pieces, unk_id=0))
        assert native(pieces)(words) == [model.encode(f"▁{w}").ids for w in words], pieces


def test_more_pieces_than_the_trie_holds_are_left_to_the_tokenizer(folder, monkeypatch):
    monkeypatch.setattr("halfling.tokens.tables._LARGEST_KEY", 100)
    with pytest.raises(ValueError, match="keys up to 100, came"):
        native([("<unk>", 0.0), ("abc", -1.0), ("bcd", -1.0), *((c, -1.0) for c in "efghijklmnopqrst")] * 9)
    found = TextEncoder(load_tokenizer(folder))
    assert not found.by_word
    assert by_word(["river 100", "mill"], found) == plain(["river 100", "mill"], folder)


def test_texts_of_megabytes_are_encoded_in_one_thread_of_all_workers(folder, monkeypatch):
    seen = []

    class Watched(TextEncoder):
        def _encode(self, texts):
            seen.append(get_ident())
            return super()._encode(texts)

    monkeypatch.setattr(encode, "_SLICE_BYTES", 40)
    shared = Watched(load_tokenizer(folder))
    huge, small = pa.array(["river", "x" * 81]), pa.array(["x" * 80, "river"])
    with ThreadPoolExecutor(2) as pool:
        for texts in (huge, huge, small):
            pool.submit(shared.with_own_words().encode, texts).result()
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([3, 3, 3, 3], [3, 1]),
        ([12, 1, 1], [1, 2]),
        ([1, 12, 1], [1, 1, 1]),
        ([1, 1], [2]),
        ([], []),
        ([30, 30], [1, 1]),
    ],
)
def test_a_large_text_is_a_slice_of_its_own(monkeypatch, sizes, expected):
    monkeypatch.setattr(encode, "_SLICE_BYTES", 10)
    texts = pa.array(["x" * size for size in sizes], pa.string())
    assert [len(some) for some in encode._slices(texts)] == expected


def test_equal_cuts_fall_as_the_tokenizers(folder, encoder):
    # "00" + "000" scores as "000" + "00": SentencePiece's single precision decides such ties by where they stand.
    texts = ["0" * n for n in range(1, 40)] + ["." * n for n in range(1, 40)] + ["sınırınınının"]
    assert by_word(texts, encoder) == plain(texts, folder)


@pytest.mark.parametrize("size", [1, 40])
def test_slices_of_any_size_have_the_tokenizers_ids(folder, encoder, monkeypatch, size):
    monkeypatch.setattr(encode, "_SLICE_BYTES", size)
    assert by_word(HOSTILE, encoder) == plain(HOSTILE, folder)


def test_the_tokenizer_is_given_little_at_a_time(encoder, monkeypatch):
    given = []

    class Watched:
        def encode_batch_fast(self, texts, **options):
            given.append(len("".join(texts).encode()))
            return encoder._tokenizer.encode_batch_fast(texts, **options)

    own = encoder.with_own_words()
    own._tokenizer = Watched()
    monkeypatch.setattr(encode, "_SLICE_BYTES", 100)
    own.with_own_words().encode(pa.array([f"<s>{number}" for number in range(99)], pa.string()))
    assert sum(given) > 300
    assert max(given) <= 104


def test_special_tokens_written_in_a_text_are_unknown_text(encoder):
    found = encoder.encode(pa.array(["the <s> river </s> <mask>", "the＜s＞ mill <unk>"]))
    assert not set(found.ids.tolist()) & {0, 1, 2, encoder._mask}
    assert (found.ids == 3).sum() == 5


def test_a_part_of_what_was_encoded_is_what_its_texts_alone_come_to(encoder):
    texts = pa.array(["the river <s>", "a mill", "<mask> and </s>", "", "the end <s>"])
    ends = [1, 1, 4, 5]
    for begin, end, part in zip([0, *ends], ends, encoder.encode(texts).cut(ends), strict=False):
        alone = encoder.encode(texts[begin:end])
        for mine, expected in zip(part, alone, strict=True):
            assert mine.tolist() == expected.tolist()


def test_an_unknown_normalisation_goes_to_the_tokenizer(folder, tmp_path):
    parts = json.loads((folder / "tokenizer.json").read_text())
    changes = [
        {"normalizer": {"type": "Lowercase"}},
        {"normalizer": {"type": "Sequence", "normalizers": [parts["normalizer"], {"type": "Lowercase"}]}},
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}},
    ]
    for change in changes:
        (tmp_path / "tokenizer.json").write_text(json.dumps(parts | change))
        encoder = TextEncoder(load_tokenizer(tmp_path))
        assert not encoder.by_word
        assert by_word(["The river  RUNS <s>"], encoder) == plain(["The river  RUNS <s>"], tmp_path)


@pytest.mark.parametrize("normalizer", [None, "with one space for several"])
def test_known_normalisations_are_cut_by_word(folder, tmp_path, normalizer):
    parts = json.loads((folder / "tokenizer.json").read_text())
    one_space = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    steps = {"type": "Sequence", "normalizers": [parts["normalizer"], one_space]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(parts | {"normalizer": normalizer and steps}))
    encoder = TextEncoder(load_tokenizer(tmp_path))
    assert encoder.by_word
    assert by_word(HOSTILE, encoder) == plain(HOSTILE, tmp_path)


@pytest.mark.parametrize(("first", "known"), [("a", True), (" ", False)])
def test_a_table_that_rewrites_spaces_is_left_to_the_tokenizer(first, known, folder):
    trie = np.zeros(128, "<u4")
    trie[0] = 64 << 10  # the root's children lie around 64
    trie[64 ^ ord(first)] = ord(first)
    table = base64.b64encode(struct.pack("<I", trie.nbytes) + trie.tobytes() + b"\0").decode()
    parts = json.loads((folder / "tokenizer.json").read_text())
    changed = parts | {"normalizer": {"type": "Precompiled", "precompiled_charsmap": table}}
    assert (table_of(changed) is not None) == known
    assert table_of(parts) is not None
    assert table_of(parts | {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "YWJj"}}) is None


def native(pieces):
    """Return a function that cuts words by these pieces, whose first is the unknown one."""
    return NativePieces(tables(pieces, unknown=0))


def test_the_best_cut_is_the_one_of_the_highest_score():
    pieces = [("<unk>", 0.0), ("▁a", -1.0), ("b", -1.0), ("▁ab", -1.5), ("bb", -3.0), ("▁", -1.0)]
    assert native(pieces)(["ab", "abb", "a", "", "axxb", "b"]) == [
        [3],
        [3, 2],  # -2.5, before ▁a b b (-3) and ▁a bb (-4)
        [1],
        [],
        [1, 0, 2],  # an unknown stretch is one token
        [5, 2],
    ]


def test_words_are_cut_once_and_memory_is_bounded():
    seen = []

    def cut(words):
        seen.extend(words.to_pylist())
        return pa.array([[len(word)] for word in words.to_pylist()], pa.list_(pa.int32()))

    words = WordIds(cut, max_words=4)
    assert words.look_up(pa.array(["a", "bb", "a", ""])).to_pylist() == [[1], [2], [1], [0]]
    assert words.look_up(pa.array(["bb", "ccc", "bb", "a"])).to_pylist() == [[2], [3], [2], [1]]
    assert seen == ["a", "bb", "", "ccc"]
    assert words.look_up(pa.array(["dddd"])).to_pylist() == [[4]]
    assert len(words._words) == 2  # the commonest half
    seen.clear()
    assert words.look_up(pa.array(["a", "bb", "ccc", "x" * 300, "x" * 300])).to_pylist() == [
        [1],
        [2],
        [3],
        [300],
        [300],
    ]
    assert seen == ["ccc", "x" * 300]
    assert len(words._words) == 3  # what is very long hardly comes again
