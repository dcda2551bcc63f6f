import pytest

from halfling.corpus.clean import Cleaner, CleanSettings, Kept, Rejected, digest64
from halfling.corpus.mend import mend


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
    assert mend(text) == mended
    assert mend(mended) == mended


def cleaned(texts, *scripts, **settings):
    return Cleaner(CleanSettings(**settings), scripts or ("Latn",)).clean(texts)


def kept(texts, *scripts, **settings):
    return [each.text.decode() for each in cleaned(texts, *scripts, **settings) if isinstance(each, Kept)]


def reasons(texts, *scripts, **settings):
    return [each.reason if isinstance(each, Rejected) else None for each in cleaned(texts, *scripts, **settings)]


def test_length_bounds_are_included_and_count_what_is_left_once_mended():
    texts = ["ab", "abc", "abcde", "abcdef", "\x00", "a\x00bc", "  a  \n \n b "]
    expected = ["too_short", None, None, "too_long", "no_text", None, None]
    assert reasons(texts, min_characters=3, max_characters=5) == expected
    assert kept(texts, min_characters=3, max_characters=5) == ["abc", "abcde", "abc", "a\nb"]


def test_the_digest_is_blake2b_of_eight_bytes():
    # b2sum -l 64 says so of the three bytes "abc".
    assert digest64("abc") == 0xD8BB14D833D59559
