"""The native tokenizer's ids are those of `tokenizers`, whatever the text."""

import contextlib
import shutil
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from halfling.engine import AdaptiveEngine
from halfling.engine.exported import read_exported
from halfling.engine.text import NATIVE_FILE, load_pieces
from halfling.errors import HalflingError
from halfling.sample.language import LANGUAGES, read_language
from halfling.tokens.native import NativePieces


@pytest.fixture(scope="module")
def folder(write_export):
    return write_export("token", 0.75, backends=("native",), precision="int8")


@pytest.fixture(scope="module")
def pieces(folder):
    return NativePieces(folder / NATIVE_FILE)


@pytest.fixture(scope="module")
def expected(tokenizer):
    """A function that returns what `tokenizers` makes of texts."""

    def ids(texts):
        given = tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [one.ids for one in given]

    tokenizer.backend_tokenizer.no_truncation()
    return ids


def test_an_export_for_the_native_engine_brings_its_tokenizer_alone(folder):
    assert read_exported(folder).tokenizer == "native"
    assert isinstance(load_pieces(folder, "native"), NativePieces)
    assert "tokenizer.json" not in {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_sentences_in_every_form_have_the_ids_of_tokenizers(form, pieces, expected):
    texts = [
        unicodedata.normalize(form, text)
        for code in LANGUAGES
        for one in (read_language(code),)
        for text in (*one.plain, *one.ner, *(word for text in one.plain for word in text.split()))
    ]
    assert len(texts) > 1000
    assert pieces(texts) == expected(texts)


def test_any_characters_in_any_order_have_the_ids_of_tokenizers(pieces, expected):
    random = np.random.default_rng(0)
    every = [chr(code) for code in range(0x30000) if unicodedata.category(chr(code)) not in ("Cs", "Cn")]
    joiners = [
        "a",
        "e",
        " ",
        "\u0301",
        "\u0300",
        "\u093c",
        "\u1100",
        "\u1161",
        "\u200d",
        "\u0600",
        "\r\n",
        "\u2581",
        "\x85",
    ]
    texts = []
    for _ in range(4000):
        some = [every if random.random() < 0.4 else joiners for _ in range(random.integers(0, 12))]
        texts.append("".join(each[random.integers(len(each))] for each in some))
    assert pieces(texts) == expected(texts)
    assert pieces([chr(code) for code in range(0x3000) if code]) == expected(
        [chr(code) for code in range(0x3000) if code]
    )


def test_special_tokens_that_somebody_wrote_are_text(pieces):
    for ids in pieces(["<s>", "a</s>", "<mask> <unk>", "<pad>"]):
        assert not {0, 1, 2} & {*ids}


def test_no_texts_empty_texts_and_very_long_ones(pieces, expected):
    assert pieces([]) == []
    assert pieces(["", " \t\x85\u3000"]) == [[], []]
    long = ["abc" * 40_000, "a b " * 40_000, "\u0301" * 30_000, "\ufdfa" * 1000]
    prepend = "\u0600" * 20_000
    long += [prepend, prepend + "a b", prepend + "a\u0301", prepend + "\n" + prepend]
    assert pieces(long) == expected(long)


def test_threads_may_share_one(pieces):
    texts = [text for code in LANGUAGES for text in read_language(code).plain]
    alone = pieces(texts)
    with ThreadPoolExecutor(8) as pool:
        assert all(found == alone for found in pool.map(lambda _: pieces(texts), range(32)))


def test_damaged_files_are_refused_or_read_and_never_crash(folder, tmp_path):
    whole = (folder / NATIVE_FILE).read_bytes()
    random, path = np.random.default_rng(0), tmp_path / NATIVE_FILE
    for size in (0, 1, 95, 96, 1000, len(whole) - 8):
        path.write_bytes(whole[:size])
        with pytest.raises(HalflingError, match="export the model again"):
            NativePieces(path)
    texts = ["Anna lives in Rome", "e\u0301\u0300 ㎏ ﷺ", "\ufdfa" * 9]
    for number in range(300):
        content = bytearray(whole)
        if number < 96:
            content[number] ^= 0xFF
        else:
            start = int(random.integers(96, len(whole)))
            content[start : start + 4000] = random.integers(
                0, 256, len(content[start : start + 4000]), np.uint8
            ).tobytes()
        path.write_bytes(content)
        if 12 <= number < 16:
            continue
        if number in (*range(12), *range(16, 80)):  # what it is, and every size
            with pytest.raises(HalflingError, match="export the model again"):
                NativePieces(path)
        else:
            with contextlib.suppress(HalflingError):
                NativePieces(path)(texts)


def test_a_folder_whose_tokenizer_was_changed_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    with (tmp_path / "model" / NATIVE_FILE).open("r+b") as file:
        file.seek(5000)
        file.write(b"changed")
    with pytest.raises(HalflingError, match="damaged"):
        AdaptiveEngine.from_pretrained(tmp_path / "model")
