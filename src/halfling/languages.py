"""CC100's files, XLM-R's hundred, the six evaluation languages: each code said once."""

import difflib
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from halfling.errors import HalflingError


class Language(NamedTuple):
    """One file of CC100 (https://data.statmt.org/cc-100/)."""

    code: str
    name: str
    compressed_bytes: int  # as CC100's page publishes it: rounded, xz
    in_xlmr: bool  # one of the hundred that XLM-R was trained on


def _cc100() -> dict[str, Language]:
    table = resources.files("halfling").joinpath("cc100-languages.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in table.splitlines()[1:]]
    return {code: Language(code, name, int(size), flag == "1") for code, name, size, flag in rows}


CC100: dict[str, Language] = _cc100()
"""Every file of CC100, by its code."""

SETS: dict[str, tuple[str, ...]] = {
    "cc100": tuple(CC100),
    "xlmr-100": tuple(language.code for language in CC100.values() if language.in_xlmr),
    "thesis-6": ("en", "ru", "hi", "tr", "sw", "ur"),
}
"""Languages by the name of the set."""


def resolve(wanted: str | Sequence[str]) -> tuple[str, ...]:
    """Return the codes that a set's name, a code or a list of codes stands for, in their given order.

    Raises:
        HalflingError: A code or set is unknown, stands there twice, or nothing is asked for.
    """
    if isinstance(wanted, str):
        if wanted in SETS:
            return SETS[wanted]
        wanted = [wanted]
    if not wanted:
        raise HalflingError("languages: an empty list: name a set or at least one code")
    for code in wanted:
        if code not in CC100:
            raise HalflingError(f"languages: unknown {code!r}: {_nearest(code)}")
        if list(wanted).count(code) > 1:
            raise HalflingError(f"languages: {code!r} stands there twice: name it once")
    return tuple(wanted)


def _nearest(code: str) -> str:
    # People write `swa`, `zh` or `Swahili`: compare with names as well as with codes.
    keys = {name: name for name in (*CC100, *SETS)}
    keys |= {language.name.lower(): language.code for language in CC100.values()}
    found = difflib.get_close_matches(code.lower(), keys, n=8, cutoff=0.5)
    near = list(dict.fromkeys(keys[key] for key in found))[:3]
    return f"the nearest known are {', '.join(near)}" if near else f"sets are {', '.join(SETS)}"
