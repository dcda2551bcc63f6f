"""How many bytes of each language are wanted."""

import bisect
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, ByteSize, Field, TypeAdapter, ValidationError

from halfling.errors import HalflingError
from halfling.languages import CC100
from halfling.records import Settings

_BYTES = TypeAdapter(ByteSize)


def _bytes(value: Any) -> int:
    try:
        return _BYTES.validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{value!r} is not a number of bytes: write 40000000, 40MB or 27GB") from error


Bytes = Annotated[int, BeforeValidator(_bytes)]
"""A number of bytes that a recipe may also write as `27GB` (10^9) or `27GiB` (2^30)."""

ENDLESS = 2**62
"""Bytes; the quota of a language of which everything is wanted and nobody knows yet how much that is."""


class QuotaSettings(Settings):
    """How much of which language."""

    languages: str | tuple[str, ...] = Field(
        "all",
        description='"all" that the source holds, a set ("xlmr-100", "thesis-6"), or a list of CC100 codes',
    )
    total_bytes: Bytes | None = Field(None, gt=0, description="text to take, bytes or 27GB; null for everything")
    alpha: float = Field(1.0, ge=0, le=10, description="each language's share follows its size to this power")
    floors: dict[str, Bytes] = Field(default_factory=dict, description='code or "all" -> at least so much text')
    caps: dict[str, Bytes] = Field(default_factory=dict, description='code or "all" -> at most so much text')


def quotas(settings: QuotaSettings, codes: Iterable[str], limits: Mapping[str, int]) -> dict[str, int]:
    """Return how many bytes of text to take of each language, by code.

    A language's size is that of its file as CC100 publishes it: known before anything is fetched, the same
    whatever the source, and compressed, so that three bytes for a letter do not count three times.

    Args:
        settings: What is wanted.
        codes: The languages.
        limits: code -> all the text that there is, as far as it is known.

    Raises:
        HalflingError: The floors ask for more than `total_bytes`, or for a language that is not there.
    """
    sizes = {code: CC100[code].compressed_bytes for code in codes}
    for name, bounds in {"floors": settings.floors, "caps": settings.caps}.items():
        if strange := sorted(set(bounds) - set(sizes) - {"all"}):
            raise HalflingError(f"{name}: {strange[0]!r} is not among the languages of the corpus")
    most = {code: min(limits.get(code, ENDLESS), _bound(settings.caps, code, ENDLESS)) for code in sizes}
    if settings.total_bytes is None:
        return dict(sorted(most.items()))
    floors = {code: _bound(settings.floors, code, 0) for code in sizes}
    return share_out(sizes, total=settings.total_bytes, alpha=settings.alpha, limits=most, floors=floors)


def _bound(bounds: Mapping[str, int], code: str, otherwise: int) -> int:
    return bounds.get(code, bounds.get("all", otherwise))


def share_out(
    sizes: Mapping[str, int],
    *,
    total: int,
    alpha: float,
    limits: Mapping[str, int] | None = None,
    floors: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Share `total` bytes out in proportion to `size ** alpha`, within bounds.

    A language never gets more than its limit; what it leaves is shared out again among the others, and what
    another is given to reach its floor is taken from them, in proportion both times.
    This is the mixing of XLM-R (https://arxiv.org/abs/1911.02116), there said of sampling probabilities.

    Args:
        sizes: language -> bytes of text, positive.
        total: bytes to share out.
        alpha: 1 keeps the proportions, 0 gives every language the same.
        limits: language -> the most that it can give; its size where not said.
        floors: language -> the least that it gets, unless its limit is below; 0 where not said.

    Returns:
        Language -> bytes, integers that add up to `total` exactly, or to all limits if these are less.

    Raises:
        HalflingError: The floors alone are more than `total`.
    """
    most = {**sizes, **(limits or {})}
    least = {code: min((floors or {}).get(code, 0), most[code]) for code in sizes}
    if sum(least.values()) > total:
        raise HalflingError(f"floors add up to {sum(least.values())} bytes, more than the total of {total}: lower them")
    # Exact fractions: the parts of 2.5 TB must still add up to the byte.
    weight = {code: Fraction(float(size) ** alpha) for code, size in sizes.items()}

    def filled(level: Fraction) -> Fraction:
        return sum(
            (min(max(level * weight[code], Fraction(least[code])), Fraction(most[code])) for code in sizes), Fraction(0)
        )

    # Everybody gets `level * weight` within bounds; between two of these levels nobody meets a new bound.
    levels = sorted({Fraction(bound) / weight[code] for code in sizes for bound in (least[code], most[code])})
    level = levels[bisect.bisect_right(levels, Fraction(total), key=filled) - 1]
    open_ = [code for code in sizes if least[code] <= level * weight[code] < most[code]]
    shares = {code: most[code] if level * weight[code] >= most[code] else least[code] for code in sizes}
    if open_:
        rest = total - sum(shares[code] for code in sizes if code not in open_)
        each = Fraction(rest) / sum((weight[code] for code in open_), Fraction(0))
        shares |= _whole(rest, {code: each * weight[code] for code in open_})
    return dict(sorted(shares.items()))


def _whole(total: int, parts: Mapping[str, Fraction]) -> dict[str, int]:
    """Round `parts` so that they still add up to `total`: the largest remainders are rounded up."""
    whole = {code: int(part) for code, part in parts.items()}
    by_remainder = sorted(parts, key=lambda code: (whole[code] - parts[code], code))
    for code in by_remainder[: total - sum(whole.values())]:
        whole[code] += 1
    return whole
