"""The language of a text, guessed by py3langid, where nobody says whose exits and thresholds hold."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from halfling.errors import HalflingError

AUTO = "auto"
"""What a caller says instead of a language."""

SURE = 0.8
"""Probability above which a guess counts. Below, as in short texts, the cautious default's thresholds hold."""


_MOST = 2000
"""Characters that are looked at."""

_OURS = {"nso": "ns", "fuv": "ff", "gug": "gn"}
"""Codes of py3langid that CC100 calls otherwise."""


def guessed(text: str | Sequence[str]) -> str | None:
    """Return the code of the language that a text, a pair or a list of words is in; None: it is not sure.

    Raises:
        HalflingError: py3langid is not installed.
    """
    code, _ = _identifier().classify((text if isinstance(text, str) else " ".join(text))[:_MOST])
    return None if code == "und" else _OURS.get(code, code)


def unguessable(codes: Sequence[str]) -> list[str]:
    """Return those of some codes of languages that no guess ever is, `zh-Hans` for one.

    Raises:
        HalflingError: py3langid is not installed.
    """
    known = {_OURS.get(code, code) for code in _identifier().labels}
    return [code for code in codes if code not in known]


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise HalflingError(
            f"language={AUTO}: py3langid is not installed: pip install 'halfling-nlp[guess]', or name the language"
        ) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=SURE)
