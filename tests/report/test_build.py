import csv
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from halfling.errors import HalflingError
from halfling.report.build import ReportSettings, build_report
from halfling.results import MaskedLoss, Result

COLUMNS = (
    "model,task,language,runtime,precision,exits,seed,trained_on,num_examples,metric,score,accuracy,f1,"
    "mean_exit_layer,gflops,gmacs_linear,latency_ms_b1,latency_ms_b32,timed_gflops,peak_bytes,disk_bytes"
)
FORMS = 3 + 3 + 5  # of three models, one of them with exits
VOID = {"meta", "link", "br", "hr", "img"}


@pytest.fixture
def report(tmp_path, inputs):
    out = tmp_path / "report"
    out.mkdir()
    settings = ReportSettings(title="A made-up report", note="Made up: 1 < 2 & nothing was measured.")
    return out, build_report(settings=settings, out=out, **inputs)


def test_the_report_holds_exactly_the_promised_files(report):
    out, counts = report
    plots = {f"{kind}-{task}.svg" for kind in ("quality", "exits", "trade-off") for task in ("intents", "entities")}
    assert {file.name for file in out.iterdir()} == {
        "results.csv",
        "results.jsonl",
        "table.md",
        "index.html",
        *plots,
    }
    assert counts == {"results": FORMS * 2 * 6 * 3, "models": 3, "languages": 6, "seeds": 3}


def test_held_out_losses_have_a_section_of_their_own(tmp_path, inputs):
    held_out = tmp_path / "held-out"
    held_out.mkdir()
    line = MaskedLoss(model="teacher", language="sw", loss=6.25, num_masked=9).model_dump_json()
    (held_out / "masked_lm.jsonl").write_text(line + "\n")
    build_report(settings=ReportSettings(), out=held_out, **inputs, held_out=held_out)
    assert "| sw | Swahili | 6.25 |" in (held_out / "table.md").read_text()
    assert "Language modelling" in (held_out / "index.html").read_text()


def test_the_report_says_what_models_were_made_of(tmp_path, inputs):
    out = tmp_path / "out"
    out.mkdir()
    made_of = {"model": "some/where", "note": "4-bit weights of some/where (MIT licence)"}
    lines = [json.dumps({"name": name, "origin": made_of}) + "\n" for name in ("teacher", "student", "teacher")]
    (next(iter(inputs.values())) / "origins.jsonl").write_text("".join(lines))
    build_report(settings=ReportSettings(note="Made up."), out=out, **inputs)
    said = "Made up. teacher, student: 4-bit weights of some/where (MIT licence)."
    assert said in (out / "index.html").read_text()
    assert said in (out / "table.md").read_text()


def test_results_csv_has_the_named_columns_and_is_sorted(report):
    lines = (report[0] / "results.csv").read_text().splitlines()
    assert lines[0] == COLUMNS
    keys = [tuple(row.values())[:7] for row in csv.DictReader(lines)]
    assert keys == sorted(set(keys))
    assert len(keys) == FORMS * 2 * 6 * 3


def test_results_jsonl_says_the_same_as_results_csv(report):
    out, _ = report
    from_json = [Result.model_validate_json(line) for line in (out / "results.jsonl").read_text().splitlines()]
    from_csv = [Result(**row) for row in csv.DictReader((out / "results.csv").read_text().splitlines())]
    assert from_json == from_csv


def test_the_same_inputs_in_any_order_give_the_same_bytes(report, tmp_path, inputs):
    again = tmp_path / "again"
    again.mkdir()
    settings = ReportSettings(title="A made-up report", note="Made up: 1 < 2 & nothing was measured.")
    build_report(settings=settings, out=again, **dict(reversed(inputs.items())))
    for file in report[0].iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_table_shows_the_thesis_form_for_swahili_with_its_spread(report):
    text = (report[0] / "table.md").read_text()
    lines = text[text.index("## entities\n\n### Swahili: quality and cost") :].splitlines()
    assert lines[4] == "| model | form | acc % | F1 % | GMACs linear | GFLOPs | time ms | memory GB | disk GB |"
    # Swahili is the fifth language: 0.788 x 0.996 - 4 x 0.035 - 0.011 - 0.05, three seeds 0.004 apart.
    expected = "| student-uniform-exits | engine int8, exits | 69.8 ± 0.4 | 58.8 ± 0.4 | 9.95 | 19.61 |"
    assert lines[10].replace("\u00a0", " ").startswith(expected)
    assert lines[10].endswith(" | 0.42 | 0.289 |")


class _Outline(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.outside = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        if "id" in values:
            self.ids.append(values["id"])
        self.outside += [
            value
            for name, value in attributes
            if name in ("src", "href", "xlink:href") and not value.startswith(("#", "data:"))
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_from_outside(report):
    text = (report[0] / "index.html").read_text()
    outline = _Outline()
    outline.feed(text)
    assert outline.open == []
    assert "script" not in outline.tags
    assert outline.tags.count("svg") == 6
    assert outline.outside == []
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []
    assert len(outline.ids) == len(set(outline.ids))


def test_every_reference_inside_the_page_has_its_target(report):
    text = (report[0] / "index.html").read_text()
    targets = set(re.findall(r'\bid="([^"]+)"', text))
    wanted = set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text))
    assert wanted
    assert wanted <= targets


def test_the_page_escapes_what_people_write(report):
    text = (report[0] / "index.html").read_text()
    assert "Made up: 1 &lt; 2 &amp; nothing was measured." in text


def test_the_page_opens_with_three_figures_and_what_they_compare(report):
    text = (report[0] / "index.html").read_text()
    figures = re.findall(r"<strong>(.*?)</strong>", text)
    assert figures == ["90.8 %", "16.3×", "7.76×", "91.5 %", "21.1×", "7.76×"]
    compared = "student-uniform-exits (engine int8, exits) with teacher (transformers, PyTorch float32)"
    assert text.index("<strong>") < text.index(compared) < text.index("<table>")


def test_a_model_is_a_heading_and_each_of_its_rows_is_named_for_what_differs(report):
    text = (report[0] / "index.html").read_text()
    exits = text[text.index("<h3>Early exit") : text.index("<h3>Languages")]
    assert re.findall(r"<span>(.*?)</span>", exits) == [
        "student-uniform-exits, engine float32",
        "student-uniform-exits, engine int8",
    ]
    heads = re.findall(r'<th scope="row" class="label">(.*?)</th>', exits)
    assert heads == 2 * ["English", "Russian", "Hindi", "Turkish", "Swahili", "Urdu"]


def test_every_column_head_has_a_tooltip(report):
    text = (report[0] / "index.html").read_text()
    heads = re.findall(r'<th scope="col"[^>]*>(.*?)</th>', text)
    assert len(heads) > 60
    assert [head for head in heads if not re.fullmatch(r'<abbr title="[^"]+">[^<]+</abbr>', head)] == []


def test_a_task_may_have_any_name(tmp_path, write, quality, cost):
    rows = {"evaluate": write("evaluate", [quality(task="a/b: c?")], [cost(task="a/b: c?")])}
    build_report(settings=ReportSettings(), out=tmp_path, **rows)
    assert (tmp_path / "quality-a-b-c-.svg").exists()
    assert "<h2>a/b: c?</h2>" in (tmp_path / "index.html").read_text()


def test_progress_ends_with_the_last_file(tmp_path, inputs):
    seen = []
    build_report(settings=ReportSettings(), out=tmp_path, progress=lambda *told: seen.append(told), **inputs)
    assert seen[-1] == (10, 10, "index.html")


def test_one_plain_model_in_one_language_is_a_report_too(tmp_path, write, quality, cost):
    rows = {"evaluate": write("evaluate", [quality(language="xx")], [cost(language="xx")])}
    out = tmp_path / "out"
    out.mkdir()
    counts = build_report(settings=ReportSettings(), out=out, **rows)
    assert counts == {"results": 1, "models": 1, "languages": 1, "seeds": 1}
    assert "±" not in (out / "table.md").read_text()
    assert {file.suffix for file in out.iterdir()} == {".csv", ".jsonl", ".md", ".svg", ".html"}
    assert json.loads((out / "results.jsonl").read_text())["language"] == "xx"


def test_a_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(HalflingError, match="no quality among its inputs"):
        build_report(settings=ReportSettings(), out=tmp_path)


def test_the_report_and_what_it_reads_load_without_torch():
    cost = ", ".join(f"halfling.cost.{name}" for name in ("flops", "latency", "memory"))
    modules = f"halfling.report.build, halfling.exits.criteria, {cost}"
    code = f"import sys, {modules}; sys.exit(bool({{'torch', 'transformers'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
