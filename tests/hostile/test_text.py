"""Texts that a reader might take for something else: clean capitals, other encodings, strange characters and line ends."""

import csv
import io
import itertools
import json
import unicodedata

import pytest

from halfling.corpus.build import CorpusSettings, build_corpus
from halfling.corpus.filters.unicode import mend
from halfling.corpus.sources.cc100 import read_documents
from halfling.corpus.store import read_batches
from halfling.errors import HalflingError
from halfling.tasks.examples import TaggedExample, TextExample, read_examples
from halfling.tasks.task import Task

QUOTES = "‘’“”‚„‹›«»"
LETTERS = [chr(code) for code in (*range(0xC0, 0x120), *range(0x120, 0x1F00, 19)) if chr(code).isalpha()]
LETTERS = [letter for letter in LETTERS if unicodedata.is_normalized("NFC", letter)]
"""Of Latin-1, every one: mojibake is made of those; some of each other script."""


@pytest.mark.parametrize(
    "text",
    [
        "«MAÇÃ»",
        "“IRMÔ",
        "“HÂLÂ”",
        "“QUÁN XÔ",
        "A palavra é “IRMÔ, com til.",
        "„CHÂTEAU D’Â“",
        "»SPASS MIT Ö«",
        "MİKÂ’nın ve ODTÜ’nün, “Ô’nun",
        "A IRMÃ… disse: “VOCÊS, DA MANHÃ”—e foi",
        "SAMBÃ™ e MAÇÃ€",
        "CORAÇÃ\xadO DE MÃ\xa0MARIA, HÂLÂ\xa0HÂLÂ",
        "voilà\xa0»… “Groß”, »Spaß«",
        "«LÃ»: a lã da irmã",
    ],
)
def test_clean_capitals_before_punctuation_stay(text):
    assert mend(text) == (text, ())
    assert mend(f"{text} e {text.lower()}").text == f"{text} e {text.lower()}"


def places(letter: str, mark: str) -> list[str]:
    """Texts in which a letter stands before a quotation mark."""
    word = ("AB" if letter.isupper() else "ab") + letter
    found = [
        f"{letter}{mark}",
        f"{word}{mark}",
        f"{word}{mark}.",
        f"Ab {word}{mark}, ab",
        f"{letter}{mark} ab",
        f"ab {letter}{mark}",
    ]
    for begin in f"{QUOTES}\"'(":
        found += [
            f"{begin}{letter}{mark}",
            f"{begin}{word}{mark}",
            f"Ab c {begin}{word}{mark} ab.",
            f"{begin}{letter}b{mark}",
        ]
    found += [f"“{word}{mark}{after} ab" for after in "…–—»”’!?.,;:)"]
    return [*found, f"{word}’nin", f"{word}’S", f"“{letter}{mark}nin", f"“{word}{mark}\n“ab {word}{mark}"]


@pytest.mark.parametrize("mark", QUOTES)
def test_no_letter_before_a_quotation_mark_is_changed(mark):
    changed = [
        text
        for letter in LETTERS
        for text in places(letter, mark)
        if mend(text) != (text, ())
    ]
    assert not changed


@pytest.mark.parametrize("pair", [*itertools.product("ÂÃÎÐÉÔ", repeat=2)], ids="".join)
def test_two_such_words_in_a_line_are_no_proof_either(pair):
    one, two = pair
    for mark, other in itertools.product("’”»…", repeat=2):
        text = f"Ele disse «AB{one}{mark} e “{two}{other}"
        assert mend(text) == (text, ())


def misread(text: str) -> list[str]:
    """UTF-8 read as Latin-1 and as Windows-1252, which leaves what it does not know."""
    bytes_ = text.encode()
    return [
        bytes_.decode("latin-1"),
        "".join(bytes([one]).decode("cp1252", "ignore") or chr(one) for one in bytes_),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "La café est très bon",
        "it’s here, the boys’ room",
        "“Hello”, «Bonjour», « Bonjour »",
        "L’État, c’est moi… Il a dû partir, ça coûte",
        "SÃO PAULO, KÖLN, ESPAÑA, FRANÇA, ÉTAT, COÛTÉ",
        "À bientôt",
        "3 × 4 = 12, N° 5, § 5, WINDOWS® 10, 20 °C",
        "привет, ПРИВЕТ, «МАМА»",
        "Ελλάδα, 你好, नमस्ते, đường, Łódź, İstanbul’da 😀",
        "33. ↑ Siapan",
    ],
)
def test_mojibake_is_still_mended(text):
    for broken in misread(text):
        assert mend(broken).text == text
        assert "mojibake" in mend(broken).changes


def test_a_line_of_both_is_mended_where_it_is_broken():
    assert mend("“IRMÔ e cafÃ©, «MAÇÃ» e trÃ¨s").text == "“IRMÔ e café, «MAÇÃ» e très"


def test_a_line_of_two_megabytes_is_mended_too():
    begin, again = "“IRMÔ disse que o cafÃ© é bom, ", "“IRMÔ disse que o café é bom, "
    assert mend(begin * 60_000).text == (again * 60_000).strip()


def test_every_change_is_counted_by_language_and_said_on_the_card(tmp_path):
    (tmp_path / "source").mkdir()
    texts = [
        "La cafÃ© est trÃ¨s bon, et trÃ¨s cher aussi",
        "cafe\u0301 en deux signes, et de plus en plus",
        "une tabulation\tet un signe\x07 de trop dans ce texte",
        "«MAÇÃ» est un mot propre, et le reste aussi",
        "court\t",  # dropped, so what was mended in it counts nowhere
    ]
    (tmp_path / "source" / "fr.txt").write_text("\n\n".join(texts), encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    counts = build_corpus(settings=CorpusSettings(chunks=1, workers=1), source=tmp_path / "source", out=out)
    assert counts["languages"]["fr"]["mended"] == {"controls": 1, "mojibake": 1, "normal_form": 1, "spaces": 1}
    assert counts["languages"]["fr"]["dropped"] == {"too_short": 1}
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "| mojibake | 1 |" in card
    assert "| fr | French | 4 |" in card
    kept = {each.text for batch in read_batches(out / "chunk-1" / "fr.parquet") for each in batch}
    assert "«MAÇÃ» est un mot propre, et le reste aussi" in kept
    assert "La café est très bon, et très cher aussi" in kept
