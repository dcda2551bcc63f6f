import io

import pytest
import rich.console

from halfling.records import MaskedLoss
from halfling.report import tables
from halfling.report.gather import join
from halfling.report.summary import Mean, Saving


@pytest.fixture
def rows(quality, cost):
    cases = [
        ("big", "en", 0.8),
        ("big", "ru", 0.5),
        ("big", "sw", 0.7),
        ("small", "en", 0.75),
        ("small", "sw", 0.4),
    ]
    qualities = [
        quality(model, language=code, f1=f1, gflops=2 if model == "big" else 0.0125) for model, code, f1 in cases
    ]
    return join(qualities, [cost(model, language=code) for model, code, _ in cases])


def test_the_language_table_averages_over_all_but_the_source(rows):
    table = tables.language_table(rows, "wikiann", ("en", "ru", "sw"), "en")
    assert table.columns == ("model", "en", "ru", "sw", "zero-shot mean")
    assert table.rows == (("small", "75.0", "–", "40.0", "–"), ("big", "80.0", "50.0", "70.0", "60.0"))


def test_the_held_out_table_has_every_language_and_begins_with_the_mean():
    losses = [
        MaskedLoss(model=model, language=code, loss=loss, num_masked=9)
        for model, code, loss in [("student", "sw", 7.0), ("teacher", "sw", 6.0), ("teacher", "en", 5.0)]
    ]
    table = tables.held_out_table(losses)
    assert table.columns == ("code", "language", "teacher", "student")
    assert table.rows == (
        ("", "mean of the languages", "5.50", "7.00"),
        ("en", "English", "5.00", "–"),
        ("sw", "Swahili", "6.00", "7.00"),
    )


def test_the_thesis_table_shows_one_language_with_the_cheapest_model_first(rows):
    table = tables.thesis_table(rows, "wikiann", "sw")
    assert table.title == "The thesis's table: Swahili"
    assert table.rows == (
        ("small", "90.0", "40.0", "10.00", "0.0125", "10.00", "1.00"),
        ("big", "90.0", "70.0", "10.00", "2.00", "10.00", "1.00"),
    )


def test_markdown_puts_words_left_and_numbers_right():
    table = tables.Table(title="T", columns=("a", "b", "c"), rows=(("x", "y", "1"),), note="N.", num_labels=2)
    assert tables.markdown(table) == "### T\n\n| a | b | c |\n| --- | --- | ---: |\n| x | y | 1 |\n\nN.\n"


@pytest.mark.parametrize(
    ("value", "shown"), [(38.654, "38.65"), (1.0, "1.00"), (0.0, "0.00"), (0.012345, "0.0123"), (0.5, "0.5")]
)
def test_small_amounts_keep_three_digits(value, shown):
    assert tables.amount(value) == shown


def test_a_spread_stands_beside_its_mean_in_the_same_unit():
    assert tables.with_spread(Mean(0.789, 0.0041), tables.percent) == "78.9 ± 0.4"
    assert tables.with_spread(Mean(0.789, None), tables.percent) == "78.9"
    assert tables.with_spread(None, tables.percent) == "–"


def test_a_language_that_cc100_does_not_know_is_shown_by_its_code():
    assert tables.language_name("sw") == "Swahili"
    assert tables.language_name("tlh") == "tlh"


def test_the_terminal_table_keeps_the_source_language_apart(rows):
    console = rich.console.Console(file=io.StringIO(), width=80)
    console.print(tables.print_table(rows))
    lines = [line.split() for line in console.file.getvalue().splitlines() if line.strip()]
    assert lines[0][:7] == ["task", "model", "en", "%", "zero", "%", "layer"]
    assert ["wikiann", "big", "80.0", "60.0", "12.00", "2.00", "10.00", "200.00", "1.00"] in lines
    assert ["wikiann", "small", "75.0", "–", "12.00", "0.0125", "10.00", "200.00", "1.00"] in lines


def test_each_saving_stands_under_its_own_heading():
    saving = Saving("s-exits", "s", "wikiann", "sw", 8.2, -3.4, 0.4, 0.5, 0.6, 0.75)
    table = tables.saving_table([saving, saving._replace(task="xnli")], "wikiann")
    (cells,) = table.rows
    assert dict(zip(table.columns, cells, strict=True)) == {
        "model": "s-exits",
        "language": "sw",
        "flops_share": "0.400",
        "timed flops_share": "0.500",
        "time_share": "0.600",
        "realisation": "1.20",
        "score change": "-3.4",
        "exit layer": "8.20",
        "time_share b32": "0.750",
        "realisation b32": "1.50",
    }
