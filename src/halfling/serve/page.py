"""The page to try a model: one file, which loads nothing from elsewhere."""

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from fastapi import Response

_PAGE = Path(__file__).with_name("page.html")


@cache
def response() -> Response:
    """Return the page; a browser runs its own script alone, and lets it ask this service alone."""
    text = _PAGE.read_text(encoding="utf-8")
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hashes(text, 'script')}",
            f"style-src {_hashes(text, 'style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    headers = {"content-security-policy": policy, "x-content-type-options": "nosniff", "cache-control": "no-cache"}
    return Response(text.encode(), media_type="text/html; charset=utf-8", headers=headers)


def _hashes(text: str, element: str) -> str:
    found = re.findall(rf"<{element}>(.*?)</{element}>", text, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in found)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
