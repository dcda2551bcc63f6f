"""The plots: quality against arithmetic, exits by language, the curve of calibration."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from halfling.exits.policy import Calibration
from halfling.records import Quality, Result
from halfling.report import summary
from halfling.report.svg import PALETTE, SERIES, WIDTH_INCHES, house_style, themed_svg
from halfling.report.tables import SCORE_TITLES, language_name

_MARKERS = "osD^v"


def quality_against_gflops(rows: Sequence[Result], task: str, source: str, exit_suffix: str) -> str:
    """Return a plot of each model's score against its arithmetic: full mark in `source`, hollow zero-shot.

    A thin line joins an early-exit model to its plain student.
    """
    here = [row for row in rows if row.task == task]
    with house_style():
        figure = Figure(figsize=(WIDTH_INCHES, 3.6), layout="constrained")
        axes = figure.add_subplot(xlabel="GFLOPs per input", ylabel=SCORE_TITLES[task])
        places: dict[tuple[str, bool], tuple[float, float]] = {}
        for index, model in enumerate(summary.models(here)):
            colour, marker = SERIES[index % len(SERIES)], _MARKERS[index // len(SERIES) % len(_MARKERS)]
            for foreign in (False, True):
                own = [row for row in here if row.model == model and (row.language != source) == foreign]
                quality = summary.over_seeds(own, summary.score)
                work = summary.over_seeds(own, lambda row: row.gflops)
                if quality is None or work is None:
                    continue
                places[model, foreign] = (work.value, 100 * quality.value)
                axes.plot(
                    *places[model, foreign],
                    marker=marker,
                    markersize=8,
                    linestyle="none",
                    color=colour,
                    markerfacecolor=PALETTE["surface"] if foreign else colour,
                    markeredgewidth=1.8,
                    label=model if (model, not foreign) not in places else "_",
                )
        for (model, foreign), place in places.items():
            plain = places.get((model.removesuffix(exit_suffix), foreign), place)
            axes.plot(*zip(place, plain, strict=True), color=PALETTE["faint"], linewidth=1, zorder=1)
        axes.set_xlim(left=0)  # twice as far to the right is twice the work
        figure.legend(loc="outside lower center", ncols=2)
        return themed_svg(figure, f"quality-{task}")


def exits_by_language(qualities: Sequence[Quality], task: str, order: Sequence[str]) -> str | None:
    """Return bars of how many inputs left after which layer, or None when no model of the task has exits."""
    totals: dict[str, dict[str, dict[int, int]]] = {}
    for quality in qualities:
        if quality.task == task:
            bar = totals.setdefault(quality.model, {}).setdefault(quality.language, {})
            for layer, inputs in quality.exit_histogram.items():
                bar[layer] = bar.get(layer, 0) + inputs
    layers_of = {model: sorted({k for bar in bars.values() for k in bar}) for model, bars in totals.items()}
    with_exits = sorted(model for model, layers in layers_of.items() if len(layers) > 1)
    if not with_exits:
        return None
    with house_style():
        heights = [1.1 + 0.3 * len(totals[model]) for model in with_exits]
        figure = Figure(figsize=(WIDTH_INCHES, sum(heights)), layout="constrained")
        grid = figure.subplots(len(with_exits), squeeze=False, height_ratios=heights)
        for axes, model in zip(grid[:, 0], with_exits, strict=True):
            _stack(axes, totals[model], layers_of[model], order)
            axes.set_title(model, fontsize=11, loc="left")
        return themed_svg(figure, f"exits-{task}")


def _stack(axes: Axes, bars: Mapping[str, Mapping[int, int]], layers: Sequence[int], order: Sequence[str]) -> None:
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


def trade_off(calibrations: Mapping[str, Calibration], task: str) -> str | None:
    """Return the curves that calibration drew on English dev, the chosen points ringed; None without any."""
    here = {name: found for name, found in sorted(calibrations.items()) if found.task == task}
    if not here:
        return None
    with house_style():
        figure = Figure(figsize=(WIDTH_INCHES, 3.4), layout="constrained")
        axes = figure.add_subplot(xlabel="arithmetic, of all layers", ylabel=SCORE_TITLES[task] + ", English dev")
        for index, (name, found) in enumerate(here.items()):
            colour = SERIES[index % len(SERIES)]
            curve = sorted(found.curve, key=lambda point: (point.flops_share, point.quality))
            work, quality = [100 * p.flops_share for p in curve], [100 * p.quality for p in curve]
            axes.plot(work, quality, linestyle="none", marker="o", markersize=3, color=colour)
            # Through what nothing cheaper is as good as: a search by time leaves points below it.
            best = [n for n, most in enumerate(accumulate(quality, max)) if quality[n] == most]
            axes.plot([work[n] for n in best], [quality[n] for n in best], color=colour, label=name)
            for point in curve:
                if point == found.chosen:
                    axes.plot(
                        100 * point.flops_share,
                        100 * point.quality,
                        marker="o",
                        markersize=11,
                        markerfacecolor="none",
                        markeredgewidth=1.8,
                        color=colour,
                    )
        axes.xaxis.set_major_formatter(PercentFormatter(decimals=0))
        figure.legend(loc="outside lower center", ncols=2)
        return themed_svg(figure, f"trade-off-{task}")
