"""The plots: quality against time, exits by language, the curve of calibration."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter

from halfling.exits.calibration import Calibration
from halfling.report import summary
from halfling.report.svg import PALETTE, SERIES, WIDTH_INCHES, house_style, themed_svg
from halfling.report.words import language_name
from halfling.results import Form, Quality, Result

_MARKERS = {"PyTorch": "o", "engine float32": "s", "engine int8": "D"}


def quality_against_time(rows: Sequence[Result], name: str) -> str:
    """Return a plot of one task's rows, named `name`: mean score against the time of a text alone.

    A colour is a model, a line joins its forms, a mark is a form; it is hollow with exits.
    """
    parts = {
        title: own
        for title, there in (("trained languages", True), ("zero-shot languages", False))
        if (own := [row for row in rows if row.trained_on == there])
    }
    forms = summary.forms(rows)
    models = list(dict.fromkeys(form.model for form in forms))
    colours = {model: SERIES[index % len(SERIES)] for index, model in enumerate(models)}
    marks = {form.label: form for form in sorted(forms, key=lambda form: form.rank)}
    legend = [Line2D([], [], color=colours[model], label=model) for model in models]
    legend += [Line2D([], [], linestyle="none", label=" ")] * (len(marks) - len(models))  # a column for each
    legend += [Line2D([], [], label=shown, **_mark(form, PALETTE["ink"])) for shown, form in marks.items()]
    with house_style():
        height = 0.6 + 1.9 * len(parts) + 0.13 * len(legend)
        figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
        for axes, (title, own) in zip(
            figure.subplots(len(parts), sharex=True, squeeze=False)[:, 0], parts.items(), strict=True
        ):
            axes.set_title(f"{title}: {rows[0].metric} %", fontsize=11, loc="left")
            for model in models:
                places = _places([row for row in own if row.model == model])
                axes.plot(*zip(*places.values(), strict=True), color=colours[model], linewidth=1, alpha=0.5)
                for form, place in places.items():
                    axes.plot(*place, **_mark(form, colours[model]))
            # Equal steps are equal factors; written as plain numbers.
            axes.set_xscale("log")
            axes.margins(0.06, 0.18)
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("time of a text alone, ms")
        figure.legend(handles=legend, loc="outside lower center", ncols=2)
        return themed_svg(figure, name)


def _places(rows: Sequence[Result]) -> dict[Form, tuple[float, float]]:
    """Return time and score in % of each form, means over languages and seeds."""
    places = {}
    for form in summary.forms(rows):
        own = [row for row in rows if row.form == form]
        places[form] = fmean(row.latency_ms_b1 for row in own), 100 * fmean(row.score for row in own)
    return places


def _mark(form: Form, colour: str) -> dict[str, Any]:
    return {
        "marker": _MARKERS[form._replace(exits=False).label],
        "markersize": 7,
        "markeredgewidth": 1.8,
        "linestyle": "none",
        "color": colour,
        "markerfacecolor": PALETTE["surface"] if form.exits else colour,
    }


def exits_by_language(qualities: Sequence[Quality], name: str, order: Sequence[str]) -> str | None:
    """Return bars, named `name`, of how many inputs of one task exit after which layer; None when none may.

    Each model is shown in one form, the one that is served.
    """
    served: dict[str, Form] = {}
    for quality in qualities:
        if quality.exits:
            served[quality.model] = max(quality.form, served.get(quality.model, quality.form), key=lambda f: f.rank)
    if not served:
        return None
    with house_style():
        bars_of = {form: _bars([quality for quality in qualities if quality.form == form]) for form in served.values()}
        heights = [1.0 + 0.3 * len(bars) for bars in bars_of.values()]
        figure = Figure(figsize=(WIDTH_INCHES, sum(heights)), layout="constrained")
        grid = figure.subplots(len(served), squeeze=False, height_ratios=heights)[:, 0]
        for axes, (form, bars) in zip(grid, sorted(bars_of.items()), strict=True):
            _stack(axes, bars, order)
            axes.set_title(f"{form.model}, {form._replace(exits=False).label}", fontsize=11, loc="left")
        return themed_svg(figure, name)


def _bars(qualities: Sequence[Quality]) -> dict[str, Counter[int]]:
    """Return the inputs after each layer by language, over all seeds."""
    bars: dict[str, Counter[int]] = {}
    for quality in qualities:
        bars.setdefault(quality.language, Counter()).update(quality.exit_histogram)
    return bars


def _stack(axes: Axes, bars: Mapping[str, Counter[int]], order: Sequence[str]) -> None:
    layers = sorted({layer for bar in bars.values() for layer in bar})
    codes = [*(code for code in order if code in bars), *sorted(set(bars) - set(order))][::-1]
    names = [language_name(code) for code in codes]
    start = [0.0] * len(codes)
    for index, layer in enumerate(layers):
        # One hue, fuller with depth: the more of a bar is dark, the more work was done.
        depth = (1 + 4 * index / max(1, len(layers) - 1)) / 5  # 0.2 + 0.8 * ... rounds to above 1
        shares = [100 * bars[code].get(layer, 0) / max(1, sum(bars[code].values())) for code in codes]
        drawn = axes.barh(names, shares, left=start, color=SERIES[0], alpha=depth, label=f"after {layer}")
        labels = [f"{share:.0f}" if share >= 8 else "" for share in shares]
        ink = PALETTE["surface"] if depth > 0.55 else PALETTE["ink"]
        axes.bar_label(drawn, labels, label_type="center", color=ink, fontsize=10)
        start = [before + share for before, share in zip(start, shares, strict=True)]
    axes.set(xlim=(0, 100), xticks=[0, 25, 50, 75, 100])
    axes.xaxis.set_major_formatter(PercentFormatter(decimals=0))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4, handlelength=1)


def trade_off(calibrations: Mapping[str, Calibration], name: str) -> str | None:
    """Return the curves, named `name`, of one task's calibrations, the chosen points ringed; None without any."""
    if not calibrations:
        return None
    with house_style():
        figure = Figure(figsize=(WIDTH_INCHES, 3.0 + 0.13 * len(calibrations)), layout="constrained")
        shown = {(found.metric or "score", language_name(found.language)) for found in calibrations.values()}
        label = " / ".join(f"{score} %, {language} dev" for score, language in sorted(shown))
        axes = figure.add_subplot(xlabel="flops_share", ylabel=label)
        for index, (model, found) in enumerate(sorted(calibrations.items())):
            colour = SERIES[index % len(SERIES)]
            curve = sorted(found.curve, key=lambda point: (point.flops_share, point.quality))
            work, quality = [100 * p.flops_share for p in curve], [100 * p.quality for p in curve]
            axes.plot(work, quality, linestyle="none", marker="o", markersize=3, color=colour)
            # Through what nothing cheaper is as good as: a search by time leaves points below it.
            best = [n for n, most in enumerate(accumulate(quality, max)) if quality[n] == most]
            axes.plot([work[n] for n in best], [quality[n] for n in best], color=colour, label=model)
            if found.chosen is not None:
                place = 100 * found.chosen.flops_share, 100 * found.chosen.quality
                axes.plot(*place, color=colour, marker="o", markersize=11, markerfacecolor="none", markeredgewidth=1.8)
        axes.xaxis.set_major_formatter(PercentFormatter(decimals=0))
        figure.legend(loc="outside lower center", ncols=2)
        return themed_svg(figure, name)
