"""Rows in columns: plain text that a terminal of any width leaves as it is."""

from collections.abc import Sequence


def in_columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of equal length as lines, the first column to the left, all others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = ((row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])) for row in rows)
    return "\n".join("  ".join(cells) for cells in aligned)
