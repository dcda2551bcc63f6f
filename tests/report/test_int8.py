import pytest

from halfling.report.build import ReportSettings, build_report
from halfling.report.int8 import int8_table


def test_the_int8_table_has_a_row_for_each_export_and_marks_what_too_few_examples_tell(int8_drop):
    drops = [
        int8_drop("student", language="sw", drop=0.3, bound=0.7, suffices=False),
        int8_drop("student", language="en", drop=-0.1, bound=0.25),
        int8_drop("student", language="en", exits=True, wide_layers=(5, 2), drop=0.4, bound=0.5),
        int8_drop("big", language="en", backend="onnx"),
    ]
    table = int8_table(drops, ("en", "ru"))
    assert table.columns == ("model", "export", "English", "Swahili", "layers in 16 bits")
    assert [tuple(cell.replace("\u00a0", " ") for cell in row) for row in table.rows] == [
        ("big", "onnx", "0.20 ≤ 0.45", "–", "–"),
        ("student", "native", "-0.10 ≤ 0.25", "0.30 ≤ 0.70*", "–"),
        ("student", "native, exits", "0.40 ≤ 0.50", "–", "2, 5"),
    ]
    assert table.note.startswith("Points of span F1 that float32 has more ≤ ")


def test_several_seeds_of_one_export_are_a_mean_and_the_largest_bound(int8_drop):
    drops = [
        int8_drop(seed=seed, drop=drop, bound=bound) for seed, (drop, bound) in enumerate([(0.1, 0.4), (0.3, 0.3)])
    ]
    assert int8_table(drops, ("sw",)).rows == (("student", "native", "0.20 ≤\u00a00.40", "–"),)


def test_without_drops_there_is_no_table():
    assert int8_table([], ("sw",)).rows == ()


@pytest.mark.parametrize("measured", [False, True])
def test_the_report_shows_what_int8_cost_beside_the_task_s_other_tables(measured, inputs, write, int8_drop, tmp_path):
    lines = [int8_drop("student-uniform", task=task, language="sw") for task in ("entities", "intents")]
    if measured:
        inputs["more"] = write("more", int8_drops=lines)
    (tmp_path / "out").mkdir()
    build_report(settings=ReportSettings(), out=tmp_path / "out", **inputs)
    for name in ("table.md", "index.html"):
        said = (tmp_path / "out" / name).read_text().replace("\u00a0", " ")
        assert said.count("0.20 ≤ 0.45") == 2 * measured, name
