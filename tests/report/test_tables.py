import io

import pytest
import rich.console

from halfling.cost.latency import Ratio
from halfling.errors import HalflingError
from halfling.report import tables
from halfling.report.gather import join
from halfling.report.summary import Mean, Saving
from halfling.report.words import COLUMNS, WORDS, language_name, meaning
from halfling.results import Form, MaskedLoss


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
        quality(model, language=code, score=f1, f1=f1, gflops=2 if model == "big" else 0.0125)
        for model, code, f1 in cases
    ]
    return join(qualities, [cost(model, language=code) for model, code, _ in cases])


def test_the_language_table_averages_over_the_languages_without_labels(rows):
    table = tables.language_table(rows, ("en", "ru", "sw"))
    assert table.title == "Languages: span F1 %"
    assert table.columns == ("model", "form", "en, trained", "ru", "sw", "zero-shot mean")
    assert table.rows == (
        ("small", "engine int8", "75.0", "–", "40.0", "–"),
        ("big", "engine int8", "80.0", "50.0", "70.0", "60.0"),
    )


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


def test_one_held_out_loss_that_is_given_twice_is_refused():
    twice = [MaskedLoss(model="teacher", language="sw", loss=loss, num_masked=9) for loss in (1.0, 9.0)]
    with pytest.raises(HalflingError, match="is given twice"):
        tables.held_out_table(twice)


def test_the_thesis_table_shows_one_language_with_the_cheapest_model_first(rows):
    table = tables.thesis_table(rows, "sw")
    assert table.title == "Swahili: quality and cost"
    assert table.rows == (
        ("small", "engine int8", "90.0", "40.0", "10.00", "0.0125", "10.00", "1.00", "0.1"),
        ("big", "engine int8", "90.0", "70.0", "10.00", "2.00", "10.00", "1.00", "0.1"),
    )


def test_markdown_puts_words_left_and_numbers_right():
    table = tables.Table(title="T", columns=("a", "b", "c"), rows=(("x", "y", "1"),), note="N.", num_labels=2)
    assert tables.markdown(table) == "### T\n\n| a | b | c |\n| --- | --- | ---: |\n| x | y | 1 |\n\nN.\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1610.4, "1610"), (38.654, "38.65"), (1.0, "1.00"), (0.0, "0.00"), (0.012345, "0.0123"), (0.5, "0.5")],
)
def test_small_amounts_keep_three_digits_and_large_ones_none_after_the_point(value, shown):
    assert tables.amount(value) == shown


def test_a_spread_stands_beside_its_mean_in_the_same_unit():
    assert tables.with_spread(Mean(0.789, 0.0041), tables.percent) == "78.9\u00a0±\u00a00.4"
    assert tables.with_spread(Mean(1.5, 0.25), "{:+.1f}".format) == "+1.5\u00a0±\u00a00.2"
    assert tables.with_spread(Mean(0.789, None), tables.percent) == "78.9"
    assert tables.with_spread(None, tables.percent) == "–"


def test_a_language_that_cc100_does_not_know_is_shown_by_its_code():
    assert language_name("sw") == "Swahili"
    assert language_name("tlh") == "tlh"


def test_the_terminal_shows_every_form_in_80_columns(quality, cost):
    forms = [
        {"runtime": "pytorch", "precision": "float32"},
        *({"precision": precision, "exits": on} for precision in ("float32", "int8") for on in (False, True)),
    ]
    languages = {"en": 0.8, "ru": 0.5, "sw": 0.7}
    qualities = [
        quality("student-uniform-exits", language=code, score=score, **form)
        for form in forms
        for code, score in languages.items()
    ]
    times = {"rounds_ms_b1": (82.0, 82.0), "rounds_ms_b32": (1610.0, 1610.0)}
    costs = [cost("student-uniform-exits", language=code, **form, **times) for form in forms for code in languages]
    console = rich.console.Console(file=io.StringIO(), width=80)
    console.print(tables.print_table(join(qualities, costs)))
    lines = [line.split() for line in console.file.getvalue().splitlines() if line.strip()]
    assert lines[0][:4] == ["entities:", "span", "F1", "%"]
    assert lines[1] == ["model", "trained", "zero", "layer", "GFLOPs", "ms", "ms/32", "RAM", "disk"]
    assert lines[3:] == [
        ["student-uniform-exits"],
        *(
            [*form, "80.0", "60.0", "12.00", "20.00", "82.00", "1610", "1.00", "0.1"]
            for form in (
                ["PyTorch"],
                ["engine", "float32"],
                ["engine", "float32,", "exits"],
                ["engine", "int8"],
                ["engine", "int8,", "exits"],
            )
        ),
    ]


SAVING = Saving(
    form=Form("s-exits", "engine", "int8", True),
    language="sw",
    mean_exit_layer=8.2,
    score_change=Mean(-3.4, None),
    plain_change=None,
    flops_share=0.4,
    timed_flops_share=0.5,
    time_b1=Ratio(median=0.6, lower=0.58, upper=0.63),
    time_b32=Ratio(median=0.98, lower=0.95, upper=1.03),
)


def test_each_saving_stands_under_its_own_heading_and_what_holds_one_is_called_noise():
    table = tables.saving_table([SAVING], "span F1")
    (cells,) = table.rows
    assert dict(zip(table.columns, cells, strict=True)) == {
        "model": "s-exits, engine int8",
        "language": "Swahili",
        "flops_share": "0.400",
        "time_share": "0.60 [0.58,\u00a00.63]",
        "realisation": "1.20",
        "time_share in 32": "0.98 [0.95,\u00a01.03] noise",
        "realisation in 32": "1.96",
        "score change": "-3.4",
        "against plain": "–",
        "exit layer": "8.20",
        "timed flops_share": "0.500",
    }


def test_every_column_head_is_explained(rows):
    shown = [tables.thesis_table(rows, "sw"), tables.language_table(rows, ()), tables.saving_table([SAVING], "")]
    heads = [head for table in shown for head in table.columns]
    assert [head for head in heads if not meaning(head)] == []
    assert meaning("en, trained").startswith("English: ")
    assert [name for name, text in (WORDS | COLUMNS).items() if len(text) < 10] == []
    assert meaning("a model's name") == ""
