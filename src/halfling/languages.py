"""CC100's files, XLM-R's hundred, the six evaluation languages: each code said once."""

import csv
import difflib
import re
from collections.abc import Collection, Sequence
from importlib import resources
from typing import NamedTuple

from halfling.errors import HalflingError


class Language(NamedTuple):
    """One file of CC100 (https://data.statmt.org/cc-100/)."""

    code: str
    name: str
    compressed_bytes: int  # as CC100's page publishes it: rounded, xz
    text_bytes: int  # of the file once decompressed, estimated
    in_xlmr: bool  # one of the hundred that XLM-R was trained on
    scripts: tuple[str, ...]  # ISO 15924, the usual one first
    xnli: str | None  # its name there, None where it is not
    wikiann: str | None


def _cc100() -> dict[str, Language]:
    """Read the table.

    `text_bytes` is XLM-R's appendix A (https://arxiv.org/abs/1911.02116), which is rounded to a tenth of a GiB: below
    one GiB, and for files that XLM-R did not read, a language's text is estimated from its compressed size by the ratio
    of all languages of its script.
    """
    table = resources.files("halfling").joinpath("cc100-languages.tsv").read_text(encoding="utf-8")
    found = {}
    for row in csv.DictReader(table.splitlines(), delimiter="\t"):
        found[row["code"]] = Language(
            code=row["code"],
            name=row["name"],
            compressed_bytes=int(row["compressed_bytes"]),
            text_bytes=int(row["text_bytes"]),
            in_xlmr=row["in_xlmr"] == "1",
            scripts=tuple(row["scripts"].split("+")),
            xnli=row["xnli"].strip("-") or None,
            wikiann=row["wikiann"].strip("-") or None,
        )
    return found


CC100: dict[str, Language] = _cc100()
"""Every file of CC100, by its code."""

CODE = r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*"
"""What may be a code of a language, here or elsewhere: `sw`, `zh-Hant`."""


def require_code(code: str, option: str) -> None:
    """Raise where a word cannot be a language's code.

    Raises:
        HalflingError: So it is. The message begins with `option`.
    """
    if not re.fullmatch(CODE, code):
        raise HalflingError(f"{option} {code}: no code of a language, as sw or zh-Hant")


def plain_code(code: str) -> str:
    """Return a code as it is compared: neither case nor the kind of dash tells languages apart."""
    return code.replace("_", "-").lower()


def with_and_without_region(code: str) -> tuple[str, str]:
    """Return a code as it is compared, and without its region: `sw-ke` and `sw`. A script stays: `zh-hant`."""
    plain = plain_code(code)
    return plain, re.sub("-([a-z]{2}|[0-9]{3})$", "", plain)


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


def set_of(known: Collection[str], language: str | None) -> str | None:
    """Return whose set holds for a language, of those `known`: its own, or without its region; None: the default.

    As RFC 4647 looks languages up (https://www.rfc-editor.org/rfc/rfc4647#section-3.4), `SW` and `sw-KE` find `sw`,
    but another script is another text: `zh-Hant` does not find `zh`.
    """
    if language is None or language in known:
        return language
    plain = {plain_code(code): code for code in known}
    return next((plain[code] for code in with_and_without_region(language) if code in plain), None)


def task_name(task: str, code: str) -> str:
    """Return the name that a task's data gives to the language `code` of CC100.

    Raises:
        HalflingError: The code is unknown, or the task's data does not hold the language.
    """
    (code,) = resolve([code])
    name: str | None = getattr(CC100[code], task)
    if name is None:
        there = ", ".join(each.code for each in CC100.values() if getattr(each, task))
        raise HalflingError(f"languages: {task} does not hold {CC100[code].name} ({code}): it holds {there}")
    return name


def _nearest(code: str) -> str:
    if "," in code:
        return f"several are a list: [{code}]"
    # People write `swa`, `zh` or `Swahili`: compare with names as well as with codes.
    keys = {name: name for name in (*CC100, *SETS)}
    keys |= {language.name.lower(): language.code for language in CC100.values()}
    found = difflib.get_close_matches(code.lower(), keys, n=8, cutoff=0.5)
    near = list(dict.fromkeys(keys[key] for key in found))[:3]
    return f"the nearest known are {', '.join(near)}" if near else f"sets are {', '.join(SETS)}"
