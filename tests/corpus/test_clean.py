import pytest

from halfling.corpus.clean import Cleaner, digest64, mend


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


def test_every_drop_has_a_reason_and_a_count():
    cleaner = Cleaner(min_characters=3, max_characters=5)
    texts = ["ab", "abc", "abcde", "abcdef", "\x00", "a\x00bc", "abc ", "été", "e\u0301te\u0301"]
    kept = [cleaned[0] for text in texts if (cleaned := cleaner.clean(text))]
    assert kept == ["abc", "abcde", "été"]
    assert cleaner.dropped == {"too_short": 1, "too_long": 1, "no_text": 1, "duplicate": 3}


def test_the_digest_is_blake2b_of_eight_bytes():
    # b2sum -l 64 says so of the three bytes "abc".
    assert digest64("abc") == 0xD8BB14D833D59559
