import re
import xml.etree.ElementTree as ET

import pytest

from halfling.exits.calibration import Calibration, TradeOff
from halfling.exits.policy import ExitPolicy
from halfling.report import plots
from halfling.report.gather import join

SVG = "{http://www.w3.org/2000/svg}"


def _words(svg):
    return ["".join(element.itertext()).strip() for element in ET.fromstring(svg).iter(SVG + "text")]


def test_words_stay_words_and_colours_follow_the_page(quality, cost):
    qualities = [quality("plain"), quality("plain-exits", exits=True), quality("plain", language="en")]
    rows = join(qualities, [cost("plain"), cost("plain", language="en"), cost("plain-exits", exits=True)])
    svg = plots.quality_against_time(rows, "quality")
    said = {"plain", "plain-exits", "engine int8", "engine int8, exits"}
    assert said | {"trained languages: span F1 %", "zero-shot languages: span F1 %"} <= set(_words(svg))
    assert re.findall(r"(?<!, )#[0-9a-f]{6}\b", svg) == []  # every colour is a page's variable with a default
    assert "DejaVu" not in svg


def test_a_plot_holds_no_date_and_no_version(quality, cost):
    svg = plots.quality_against_time(join([quality()], [cost()]), "quality")
    assert "dc:date" not in svg
    assert not re.search(r"[Mm]atplotlib v", svg)


def test_bars_show_the_share_of_each_exit_over_all_seeds_in_the_form_that_is_served(quality):
    qualities = [
        quality("m", exits=True, seed=0, exit_histogram={3: 90, 12: 10}),
        quality("m", exits=True, seed=1, exit_histogram={3: 30, 12: 70}),
        quality("m", exits=True, precision="float32", exit_histogram={3: 100}),
        quality("m"),
    ]
    words = _words(plots.exits_by_language(qualities, "exits", ("en", "sw")))
    assert {"60", "40", "Swahili", "after 3", "after 12", "m, engine int8"} <= set(words)
    assert not {"m, engine float32", "100"} & set(words)


def test_without_exits_there_are_no_bars(quality):
    assert plots.exits_by_language([quality()], "exits", ("sw",)) is None


@pytest.mark.parametrize(("threshold", "rings"), [(0.5, 1), (0.25, 0)])
def test_the_chosen_point_of_the_curve_is_ringed(threshold, rings):
    curve = tuple(
        TradeOff(layers=(6, 12), thresholds=(t,), quality=0.8 - t / 10, flops_share=1 - t / 2, mean_exit_layer=12)
        for t in (0, 0.5)
    )
    policy = ExitPolicy.uniform((6, 12), threshold)
    calibration = Calibration(task="x", language="sw", metric="span F1", policy=policy, max_drop=1, curve=curve)
    svg = plots.trade_off({"student-x-0": calibration}, "trade-off")
    assert {"student-x-0", "span F1 %, Swahili dev"} <= set(_words(svg))
    assert len(re.findall(r"fill-opacity: 0; stroke: [^;]*; stroke-width: 1.8", svg)) == rings
    assert plots.trade_off({}, "trade-off") is None
