"""Mojibake: UTF-8 that somebody read as Windows-1252. ftfy mends it; here is decided where it may."""

import re
from itertools import pairwise

MOJIBAKE_FIRST = "".join(map(chr, range(0xC2, 0xF5)))
"""What a first byte of several is read as."""
MOJIBAKE_LATER = "".join(map(chr, range(0x80, 0xC0))) + "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ"
"""What a later byte is read as."""
_SUSPECT = re.compile(f"[{MOJIBAKE_FIRST}][{MOJIBAKE_LATER}]")
_SEQUENCE = re.compile(
    f"[\xc2-\xdf][{MOJIBAKE_LATER}]|[\xe0-\xef][{MOJIBAKE_LATER}]{{2}}|[\xf0-\xf4][{MOJIBAKE_LATER}]{{3}}"
)

_QUOTES = "‘’“”‚„‹›«»"
_AFTER_CAPITAL = "…–—†‡•™€\xa0\xad"
"""What may also follow a word in capitals."""
_AFTER_CAPITALS = "¹²³°©®"
"""What may follow a word in capitals too, where the misread letter would be a small one: "JOSÉ²" is not "JOSɲ"."""
_AFTER_SMALL = _QUOTES + "…–—•™\xa0\xad"
"""What may follow a small letter; "â€" begins nearly every sign of punctuation that was misread, "â†" an arrow."""
_WORD = 40
"""Characters of a word that are looked at, at most."""


def is_suspect(text: str) -> bool:
    """Return whether a text holds what mojibake looks like; most of it is a letter before a quotation mark."""
    return _SUSPECT.search(text) is not None


def unmangled(line: str) -> str:
    """Return a line with its mojibake mended by ftfy (https://ftfy.readthedocs.io), as far as the line proves it.

    ftfy alone takes `«MAÇÃ»` for `«MAÇû`: "Ã»" may be a misread "û". So a repair needs a proof: characters together
    that no clean text has, as "Ã©" or "coÃ»t". What can be read as a letter before a mark of punctuation is no proof.
    It is mended along with others where nothing in the line speaks against, and stays as it is where something does.
    """
    if not is_suspect(line):
        return line
    runs = _runs(line)
    # "Â" before "«" and before "»": no word ends so twice.
    sure = {"Â«", "Â»"} & {found[0] for run in runs for found in run}
    doubtful = [
        found
        for run in runs
        if all(_reads_clean(line, found) and not (len(sure) == 2 and found[0] in sure) for found in run)
        for found in run
    ]
    if len(doubtful) == sum(map(len, runs)):
        return line
    import ftfy  # here: few texts need it, and a process should not wait for it

    if not doubtful or _SEQUENCE.sub("", line).isascii():
        return ftfy.fix_encoding(line)
    # Between what stays.
    ends = [0, *(place for found in doubtful for place in found.span()), len(line)]
    pieces = [line[begin:end] for begin, end in pairwise(ends)]
    return "".join(piece if number % 2 else ftfy.fix_encoding(piece) for number, piece in enumerate(pieces))


def _runs(line: str) -> list[list[re.Match[str]]]:
    """Return the sequences of a line that decode as UTF-8, those that adjoin together."""
    runs: list[list[re.Match[str]]] = []
    end = -1
    for found in _SEQUENCE.finditer(line):
        if found.start() != end:
            runs.append([])
        runs[-1].append(found)
        end = found.end()
    return runs


def _reads_clean(line: str, found: re.Match[str]) -> bool:
    """Return whether a sequence may be a letter and the punctuation behind it."""
    letter, mark = found[0][0], found[0][1:]
    begin, end = found.span()
    before, after = line[max(0, begin - 1) : begin], line[end : end + 1]
    if letter.islower():
        return all(each in _AFTER_SMALL for each in mark)
    if letter.isupper() and (before.islower() or before.isdecimal()):
        return False  # "coÃ»t", "1920Ã—1080"
    if mark in _QUOTES:  # of a word in capitals, or of a letter that is quoted itself: a suffix may follow
        inside = before.isupper() or before in {*_QUOTES, "'", '"'}
        return not after.isalnum() or mark == "’" or (inside and after.islower())
    if mark == "…":
        return not after.isalnum() or (before.isupper() and after.islower())
    if mark in _AFTER_CAPITALS:
        meant = f"{letter}{mark}".encode("latin-1").decode("utf-8")
        return line[max(0, begin - 2) : begin].isupper() and meant.islower() and not after.isalnum()
    if not before.isupper() or mark not in _AFTER_CAPITAL:
        return False
    if mark == "\xa0" and letter == "Â":  # a misread no-break space, unless the word has other such letters
        return not line[max(0, begin - _WORD) : begin].rpartition(" ")[2].isascii()
    return mark in "—\xa0\xad" or not after.isalnum()
