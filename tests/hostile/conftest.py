"""How a refusal looks."""

from collections.abc import Callable
from typing import Any

import pytest

from halfling.errors import HalflingError


@pytest.fixture
def refused() -> Callable[..., str]:
    """A function that does some work, checks that it ends with one line that holds some words, and returns the line."""

    def check(work: Callable[[], Any], *words: str) -> str:
        with pytest.raises(HalflingError) as caught:
            work()
        said = str(caught.value)
        assert "\n" not in said
        for word in words:
            assert word in said, said
        return said

    return check
