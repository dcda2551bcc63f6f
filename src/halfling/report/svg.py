"""A figure as SVG text: the same bytes for the same numbers, light or dark as the page around it is."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib.figure import Figure

# Each colour is written as `var(--plot-NAME, #hex)`: a page may set NAME, a lone file shows this.
PALETTE = {
    "surface": "#ffffff",
    "ink": "#20262e",
    "faint": "#69727d",
    "grid": "#e4e7eb",
    "1": "#2b6cb0",
    "2": "#c2571a",
    "3": "#2f855a",
    "4": "#7b4bb3",
    "5": "#b83257",
    "6": "#15808d",
}
SERIES = [PALETTE[str(number)] for number in range(1, 7)]
WIDTH_INCHES = 5.0  # near a phone's width, so that text in a scaled plot stays readable

_STYLE = {
    "svg.hashsalt": "halfling",
    "svg.fonttype": "none",
    "font.size": 11,
    "text.color": PALETTE["ink"],
    "axes.edgecolor": PALETTE["faint"],
    "axes.labelcolor": PALETTE["ink"],
    "axes.facecolor": PALETTE["surface"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": PALETTE["grid"],
    "figure.facecolor": PALETTE["surface"],
    "xtick.color": PALETTE["faint"],
    "ytick.color": PALETTE["faint"],
    "xtick.labelcolor": PALETTE["ink"],
    "ytick.labelcolor": PALETTE["ink"],
    "legend.frameon": False,
    "legend.fontsize": 10,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw within this: our colours and sizes, and identifiers that do not change from run to run."""
    with mpl.rc_context(_STYLE):
        yield


def themed_svg(figure: Figure, name: str) -> str:
    """Return the figure as SVG text with themed colours and with identifiers of its own."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    for role, colour in PALETTE.items():
        text = text.replace(colour, f"var(--plot-{role}, {colour})")
    # Words stay words, in the reader's own letters; matplotlib names its own, in two ways.
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", text)
    text = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", text)
    # Several plots stand in one page, where an identifier may occur once.
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
