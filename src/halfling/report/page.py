"""The page: everything in one file, without scripts, for a phone as for a wide screen."""

import base64
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from halfling.report.headline import Headline
from halfling.report.tables import Table
from halfling.report.words import COLUMNS, WORDS, meaning


class Plot(NamedTuple):
    """A plot as it stands in the page."""

    name: str
    """Name of its file, without ending."""
    caption: str
    svg: str


class Section(NamedTuple):
    """What the page says of one task."""

    title: str
    tables: Sequence[Table]
    plots: Sequence[Plot]


def render_page(
    *, title: str, note: str, headlines: Sequence[Headline], sections: Sequence[Section], results: Table, csv: str
) -> str:
    """Return the page as HTML; every word in it is escaped, only the plots are taken as they are.

    There is a headline for each task that has two models; `csv` is the text of `results.csv`, kept for download.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals |= {"inline": _inline, "meaning": meaning, "words": WORDS, "columns": COLUMNS}
    folder = resources.files("halfling.report")
    template = environment.from_string(folder.joinpath("page.html").read_text(encoding="utf-8"))
    return template.render(
        style=Markup(folder.joinpath("page.css").read_text(encoding="utf-8")),
        title=title,
        note=note,
        headlines=headlines,
        sections=sections,
        results=results,
        csv=base64.b64encode(csv.encode()).decode(),
    )


def _inline(plot: Plot) -> Markup:
    """Return the plot as an element of the page: no XML prologue, and a name for those who listen."""
    element = plot.svg[plot.svg.index("<svg") :].replace("<svg", '<svg role="img" class="plot"', 1)
    start = element.index(">") + 1
    return Markup(element[:start]) + Markup("<title>{}</title>").format(plot.caption) + Markup(element[start:])
