"""Which documents are of another language than their file says, by py3langid: the extra `halfling-nlp[langid]`."""

from collections.abc import Callable
from functools import cache
from typing import Any

from halfling.errors import HalflingError

_CHARACTERS = 2000  # of a document are looked at
_LABELS = {"gn": "gug", "ns": "nso", "zh-Hans": "zh", "zh-Hant": "zh"}
"""Languages of CC100 that go by another code there."""
_KIN = tuple(
    frozenset(codes.split())
    for codes in (
        "ar ary arz",
        "bs hr sr",
        "el grc",
        "hbo he",
        "id ms",
        "ku sdh",
        "ltg lv",
        "nn no",
        "uz uzs",
        "wuu yue zh",
    )
)
"""One language in several codes: of one macrolanguage in ISO 639-3, or an older stage of the same."""
_NO_LANGUAGE = "zxx"


def other_language(code: str, max_confidence: float) -> Callable[[str], bool] | None:
    """Return what says whether a text is of another language than `code`, or None for a language it does not know.

    It is sure: the likeliest language is not kin to `code` (Bosnian under `hr` is no fault), and the confidence of that
    language and its kin is above `max_confidence`, 0..1. One and the same text has one and the same answer; but the
    confidence is a sum in float32, and within its rounding another processor may fall on the other side of the bound.

    py3langid (https://github.com/adbar/py3langid) is a naive Bayes model over byte n-grams, after langid.py
    (https://aclanthology.org/P12-3005/); model and code are in its wheel.

    Raises:
        HalflingError: py3langid is not installed.
    """
    identifier = _identifier()
    label = _LABELS.get(code, code)
    if label not in identifier.labels:
        return None
    own = _kin(label)

    def is_other(text: str) -> bool:
        ranked = identifier.rank(text[:_CHARACTERS])
        found = ranked[0][0]
        if found in own or found == _NO_LANGUAGE:
            return False
        kin = _kin(found)
        return sum(confidence for label, confidence in ranked if label in kin) > max_confidence

    return is_other


def _kin(label: str) -> frozenset[str]:
    return next((kin for kin in _KIN if label in kin), frozenset({label}))


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError as error:
        raise HalflingError(
            "clean.max_other_language: py3langid is not installed: pip install 'halfling-nlp[langid]'"
        ) from error
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
