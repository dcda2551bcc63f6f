"""How many bytes of each language are wanted."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator, ByteSize, Field, TypeAdapter, ValidationError

from halfling.bounds import Amount
from halfling.languages import CC100
from halfling.records import Settings

_BYTES = TypeAdapter(ByteSize)


def _bytes(value: Any) -> int:
    try:
        return _BYTES.validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{str(value)[:40]!r} is not a number of bytes: write 40000000, 40MB or 27GB") from error


Bytes = Annotated[Amount, BeforeValidator(_bytes)]
"""A number of bytes that a recipe may also write as `27GB` (10^9) or `27GiB` (2^30)."""

ENDLESS = 2**62
"""Bytes; the quota of a language of which everything is wanted and nobody knows yet how much that is."""


class QuotaSettings(Settings):
    """How much of which language."""

    languages: str | tuple[str, ...] = Field(
        "all",
        description='"all" that the source holds, a set ("xlmr-100", "thesis-6"), or a list of CC100 codes',
    )
    total_bytes: Bytes | None = Field(
        None, gt=0, le=ENDLESS, description="text to take, bytes or 27GB; null for everything"
    )
    alpha: float = Field(1.0, ge=0, le=10, description="each language's share follows its size to this power")


def quotas(settings: QuotaSettings, codes: Iterable[str], limits: Mapping[str, int]) -> dict[str, int]:
    """Return how many bytes of text to take of each language, by code.

    A language's size is that of its file as CC100 publishes it: known before anything is fetched, the same
    whatever the source, and compressed, so that three bytes for a letter do not count three times.

    Args:
        limits: code -> all the text that there is, as far as it is known.
    """
    sizes = {code: CC100[code].compressed_bytes for code in codes}
    most = {code: limits.get(code, ENDLESS) for code in sizes}
    if settings.total_bytes is None:
        return dict(sorted(most.items()))
    return share_out(sizes, total=settings.total_bytes, alpha=settings.alpha, limits=most)


def share_out(
    sizes: Mapping[str, int], *, total: int, alpha: float, limits: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Share `total` bytes out in proportion to `size ** alpha`.

    A language never gets more than its limit; what it leaves is shared out again among the others, in proportion.
    This is the mixing of XLM-R (https://arxiv.org/abs/1911.02116), there said of sampling probabilities.

    Args:
        sizes: language -> bytes of text, positive.
        total: bytes to share out.
        alpha: 1 keeps the proportions, 0 gives every language the same.
        limits: language -> the most that it can give; its size where not said.

    Returns:
        Language -> bytes, integers that add up to `total` exactly, or to all limits if these are less.
    """
    most = {**sizes, **(limits or {})}
    # Exact fractions: the parts of 2.5 TB must still add up to the byte.
    weight = {code: Fraction(float(size) ** alpha) for code, size in sizes.items()}
    shares: dict[str, int] = {}
    rest, of_rest = total, sum(weight.values(), Fraction(0))
    # As all shares grow, the limits are met in this order. Whoever meets its own leaves more to the others.
    for code in sorted(sizes, key=lambda code: most[code] / weight[code]):
        if most[code] * of_rest <= rest * weight[code]:
            shares[code] = most[code]
            rest -= most[code]
            of_rest -= weight[code]
    shares |= _whole(rest, {code: rest * weight[code] / of_rest for code in sizes if code not in shares})
    return dict(sorted(shares.items()))


def _whole(total: int, parts: Mapping[str, Fraction]) -> dict[str, int]:
    """Round `parts` so that they still add up to `total`: the largest remainders are rounded up."""
    whole = {code: int(part) for code, part in parts.items()}
    by_remainder = sorted(parts, key=lambda code: (whole[code] - parts[code], code))
    for code in by_remainder[: total - sum(whole.values())]:
        whole[code] += 1
    return whole
