import random
import unicodedata

import pytest

from halfling.corpus.digests import digest64
from halfling.corpus.filters.clean import Cleaner, CleanSettings, Kept
from halfling.corpus.filters.scripts import COMPOSES, EXPECTED, flags_of
from halfling.corpus.filters.unicode import mend
from halfling.languages import CC100


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("e\u0301te\u0301", "été"),
        ("a\x00b\x07c\x9fd\ufeff", "abcd"),
        ("a\tb\u2028c\x85d", "a b c d"),
        ("  one  \n \x01 \n two ", "one\ntwo"),
        ("\x00\n\t", ""),
        ("می\u200cخواهم क्\u200dष", "می\u200cخواهم क्\u200dष"),
    ],
)
def test_mending(text, mended):
    assert mend(text).text == mended
    assert mend(mended) == (mended, ())


def test_a_text_without_the_flag_of_composing_characters_is_in_normal_form():
    flags = flags_of(("Latn",))
    characters = [chr(code) for code in range(0x30000) if not flags[code] & COMPOSES]
    for seed in range(3):
        random.Random(seed).shuffle(characters)
        assert unicodedata.is_normalized("NFC", "".join(characters))
    assert all(flags[ord(each)] & COMPOSES for each in "\u0301\u212b\u1161\u11a8\u0958\u3099")
    assert not any(flags[ord(each)] & COMPOSES for each in "aé“क中각")


def cleaned(texts, *scripts, **settings):
    return Cleaner(CleanSettings(**settings), scripts or ("Latn",)).clean(texts)


def kept(texts, *scripts, **settings):
    return [each.text.decode() for each in cleaned(texts, *scripts, **settings) if isinstance(each, Kept)]


def reasons(texts, *scripts, **settings):
    return [each if isinstance(each, str) else None for each in cleaned(texts, *scripts, **settings)]


def test_length_bounds_are_included_and_count_what_is_left_once_mended():
    texts = ["ab", "abc", "abcde", "abcdef", "\x00", "a\x00bc", "  a  \n \n b "]
    expected = ["too_short", None, None, "too_long", "no_text", None, None]
    assert reasons(texts, min_characters=3, max_characters=5) == expected
    assert kept(texts, min_characters=3, max_characters=5) == ["abc", "abcde", "abc", "a\nb"]


def test_the_digest_is_blake2b_of_eight_bytes():
    # b2sum -l 64 says so of the three bytes "abc".
    assert digest64("abc") == 0xD8BB14D833D59559


RUSSIAN = "Река течёт мимо старой мельницы, и дети смотрят на лодки."
# "How are you?", twice, in either encoding.
ZAWGYI_TEXT = "\u1031\u1014\u1031\u1000\u102c\u1004\u1039\u1038\u101c\u102c\u1038 " * 2
BURMESE = "\u1014\u1031\u1000\u1031\u102c\u1004\u103a\u1038\u101c\u102c\u1038 " * 2


@pytest.mark.parametrize("code", sorted(CC100))
def test_every_language_knows_letters_of_its_own(code):
    flags = flags_of(CC100[code].scripts)
    assert ((flags & EXPECTED) != 0).sum() >= 26
    assert not flags[ord("1")] & EXPECTED


def test_a_text_in_another_script_goes_and_a_mixed_one_stays():
    mixed = RUSSIAN + " Linux and Windows"
    assert reasons([RUSSIAN, mixed, "The river runs past an old mill"], "Cyrl") == [None, None, "script"]
    assert reasons([RUSSIAN, "The river runs past an old mill"], "Latn") == ["script", None]
    assert reasons([RUSSIAN, "The river runs past an old mill"], "Cyrl", "Latn") == [None, None]


def test_romanised_variants_are_latin():
    assert all(CC100[code].scripts == ("Latn",) for code in CC100 if code.endswith("_rom"))
    assert reasons(["yeh ek achchha vakya hai"], *CC100["hi_rom"].scripts) == [None]
    assert reasons(["yeh ek achchha vakya hai"], *CC100["hi"].scripts) == ["script"]


def test_burmese_and_zawgyi_are_told_apart():
    assert reasons([BURMESE, ZAWGYI_TEXT], *CC100["my"].scripts) == [None, "script"]
    assert reasons([BURMESE, ZAWGYI_TEXT], *CC100["my_zaw"].scripts) == ["script", None]


def test_what_all_scripts_share_is_nobodys_and_japanese_has_three_scripts():
    assert reasons(["Oʻzbekiston Respublikasi, 2021"], "Latn") == [None]
    assert reasons(["コーヒーを飲みますか、それとも紅茶ですか"], *CC100["ja"].scripts) == [None]


def test_a_table_of_numbers_goes():
    assert reasons(["1 | 22 | 333 | 4.4 % | 5 -> 6 | $7", "Bought 22 for $7.50 (or so)."]) == ["symbols", None]


def test_what_repeats_itself_goes_and_plain_text_does_not():
    plain = " ".join(f"word{number} and {number * 7919 % 1000}" for number in range(100))
    assert reasons(["buy now " * 200, "ab" * 500, plain]) == ["repetition", "repetition", None]


def test_a_long_line_stays_once_in_its_document_and_short_ones_repeat():
    long = "a line that is long enough to be compared with others"
    (found,) = cleaned([f"Yes.\n{long}\nYes.\n{long}\nthe end of it"])
    assert found.text.decode() == f"Yes.\n{long}\nYes.\nthe end of it"
    assert (len(found.lines), found.line_sizes, found.repeated) == (1, [len(long)], 1)


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("La cafÃ© est trÃ¨s bon", "La café est très bon"),
        ("itâ€™s here", "it’s here"),
        ("«é» est une lettre", "«é» est une lettre"),
    ],
)
def test_mojibake_is_mended_where_it_is_mojibake(broken, whole):
    assert mend(broken).text == whole


def test_a_batch_cleans_as_its_documents_do_alone():
    texts = ["  leading space stays out", "two\n\n\nparagraphs of text", "tab\there it stands", RUSSIAN, "", "x" * 20]
    texts += ["e\u0301te\u0301 and more of it", "La cafÃ© est trÃ¨s bon", "\ud800 half a character", "buy " * 200]
    alone = [each for text in texts for each in cleaned([text])]
    assert cleaned(texts) == alone
    assert all(
        each.text.decode() == mend(text).text for text, each in zip(texts, alone, strict=True) if isinstance(each, Kept)
    )


def test_texts_that_come_with_their_bytes_are_cleaned_like_texts_alone():
    texts = [
        "a lone \ud800 surrogate in a text",
        "e\u0301 is composed, as it should be",
        "short",
        "what stays as it is",
    ]
    cleaner = Cleaner(CleanSettings(), ("Latn",))
    found = cleaner.clean(texts)
    assert found == cleaner.clean(texts)
    assert [isinstance(each, str) for each in found] == [False, False, True, False]
    assert found[1].text == "é is composed, as it should be".encode()
    assert found[3].text == texts[3].encode()
