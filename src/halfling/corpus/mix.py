"""How many bytes of each language are wanted."""

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BeforeValidator

_UNITS = {"": 1, "B": 1} | {
    f"{prefix}{ending}": base**power
    for power, prefix in enumerate("KMGT", start=1)
    for ending, base in (("B", 1000), ("IB", 1024))
}


def parse_bytes(value: Any) -> Any:
    """Return `"27GB"`, `"1.5 MiB"` and the like as a number of bytes; leave what is not text as it is.

    Raises:
        ValueError: The text is not a number with a unit.
    """
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([\d_]+(?:\.\d+)?)\s*([A-Za-z]*)\s*", value)
    if not match or match[2].upper() not in _UNITS:
        raise ValueError(f"{value!r} is not a number of bytes: write 40000000, 40MB or 27GB")
    return int(Fraction(match[1]) * _UNITS[match[2].upper()])


Bytes = Annotated[int, BeforeValidator(parse_bytes)]
"""A number of bytes that a recipe may also write as `27GB` (10^9) or `27GiB` (2^30)."""


def share_out(
    sizes: Mapping[str, int], *, total: int, alpha: float, limits: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Share `total` bytes out in proportion to `size ** alpha`.

    A language never gets more than its limit; what it leaves is shared out again among the others.
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
    while open_ := sorted(set(sizes) - set(shares)):
        rest = total - sum(shares.values())
        each = Fraction(rest) / sum((weight[code] for code in open_), Fraction(0))
        full = [code for code in open_ if most[code] <= each * weight[code]]
        if not full:
            return dict(sorted((shares | _whole(rest, {code: each * weight[code] for code in open_})).items()))
        shares |= {code: most[code] for code in full}
    return dict(sorted(shares.items()))


def _whole(total: int, parts: Mapping[str, Fraction]) -> dict[str, int]:
    """Round `parts` so that they still add up to `total`: the largest remainders are rounded up."""
    whole = {code: int(part) for code, part in parts.items()}
    by_remainder = sorted(parts, key=lambda code: (whole[code] - parts[code], code))
    for code in by_remainder[: total - sum(whole.values())]:
        whole[code] += 1
    return whole
