"""How large a number in a recipe or on the command line may be: every setting's type has both its ends.

The ends are far from what anybody needs. They refuse a slip of the finger (`epochs=1e9`) before any work; a setting
narrows its own with `Field(ge=..., le=...)`.
"""

from typing import Annotated

from pydantic import Field

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What every library's random generator takes."""

Repeats = Annotated[int, Field(ge=0, le=10_000)]
"""Epochs, rounds: how often something is done."""

Size = Annotated[int, Field(ge=0, le=65_536)]
"""Of a batch, a row of tokens, a width: all of it is in memory at once."""

Part = Annotated[int, Field(ge=1, le=1000)]
"""Of a model or a corpus: layers, chunks, or the number of one."""

Processes = Annotated[int, Field(ge=1, le=1024)]
"""Processes or threads at the same time."""

Count = Annotated[int, Field(ge=0, le=10**9)]
"""Examples, lines, pieces of a vocabulary."""

Amount = Annotated[int, Field(ge=0, le=10**15)]
"""Tokens or bytes of a whole corpus."""

Share = Annotated[float, Field(ge=0, le=1)]
"""Of a whole."""

Rate = Annotated[float, Field(gt=0, le=1e30)]
"""Of learning. What is too much for a model, training finds: no number is."""

Weight = Annotated[float, Field(ge=0, le=1e6)]
"""A factor, points or milliseconds."""
