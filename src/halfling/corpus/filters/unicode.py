"""Unicode repair: what a text meant to say, in one normal form."""

import re
import unicodedata

_SPACES = re.compile("[\t\v\f\x1c-\x1f\x85\u2028\u2029]")
# Controls carry no text. Joiners (U+200C, U+200D) are not among them: Persian and Hindi are misspelt without.
# A lone surrogate is half a character, and no UTF-8.
_CONTROLS = re.compile("[\x00-\x08\r\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff\ud800-\udfff]")

# UTF-8 that somebody read as Latin-1 or Windows-1252: a first byte's character, then a later byte's.
MOJIBAKE_FIRST = "".join(map(chr, range(0xC2, 0xF5)))
MOJIBAKE_LATER = "".join(map(chr, range(0x80, 0xC0))) + "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
_MOJIBAKE = re.compile(f"[{MOJIBAKE_FIRST}][{MOJIBAKE_LATER}]")


def mend(text: str) -> str:
    r"""Return `text` repaired, in normal form C, without control characters, paragraphs stripped, empty ones removed.

    Separators other than "\n" (tabs, U+2028 ...) become spaces, so that words stay apart. Mojibake ("Ã©" for "é")
    is mended by ftfy (https://ftfy.readthedocs.io), line by line, and only on lines that look like it: ftfy itself
    decides, but at 2 MB/s. Its other habits (straight quotes, ligatures, widths) are left out: they are the author's.
    """
    if not text.isascii():
        if _MOJIBAKE.search(text):
            import ftfy  # here: few texts need it, and a process should not wait for it

            lines = text.split("\n")
            text = "\n".join(ftfy.fix_encoding(line) if _MOJIBAKE.search(line) else line for line in lines)
        # Controls before the normal form: two characters that one stood between may now become one.
        text = unicodedata.normalize("NFC", _CONTROLS.sub("", _SPACES.sub(" ", text)))
    else:
        text = _CONTROLS.sub("", _SPACES.sub(" ", text))
    return "\n".join(paragraph for line in text.split("\n") if (paragraph := line.strip()))
