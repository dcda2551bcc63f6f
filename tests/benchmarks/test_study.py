"""The arithmetic of the study's tables, on scores written by hand."""

from pathlib import Path

import pytest

from halfling.errors import HalflingError
from halfling.records import json_lines
from halfling.results import Quality


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))


def quality(model, language, seed, score, *, engine=False, exits=False, gflops=2.0):
    return Quality(
        model=model,
        task="wikiann",
        language=language,
        runtime="engine" if engine else "pytorch",
        precision="int8" if engine else "float32",
        exits=exits,
        seed=seed,
        trained_on=language == "en",
        num_examples=10,
        metric="span F1",
        score=score,
        accuracy=score,
        f1=score,
        mean_exit_layer=6,
        gflops=gflops,
        gmacs_linear=1,
        exit_histogram={6: 10},
    )


@pytest.fixture
def run(tmp_path):
    """A run of two students, two seeds and two languages; the second is a point better with each, but one."""
    rows = []
    for seed, language, score in ((0, "en", 0.80), (0, "sw", 0.60), (1, "en", 0.82), (1, "sw", 0.62)):
        rows += [quality(f"student-uniform-e{epoch}", language, seed, score - (5 - epoch) / 100) for epoch in (1, 5)]
        rows.append(
            quality("student-and-exit-e5", language, seed, score + (0.02 if (seed, language) == (1, "sw") else 0.01))
        )
        rows.append(quality("student-uniform-e5-exits", language, seed, score, engine=True))
        share = 1.0 if language == "en" else 1.4
        rows.append(
            quality("student-uniform-e5-exits", language, seed, score - 0.005, engine=True, exits=True, gflops=share)
        )
        rows.append(quality("teacher", language, seed, 0.9))
        # Of an export without exits nothing is read, nor of exits in PyTorch where the student itself was measured.
        rows.append(quality("student-uniform-e5", language, seed, 0.1, engine=True))
        rows.append(quality("student-uniform-e5-exits", language, seed, 0.1))
    (tmp_path / "study/quality/all").mkdir(parents=True)
    (tmp_path / "study/quality/all/quality.jsonl").write_text(json_lines(rows))
    return tmp_path / "study"


def test_the_tables_by_hand(run):
    import study

    records = study.read([run], "wikiann")
    found, left = study.scores(records), study.exits(records)
    # Means of the two seeds: 70 and 72, 71 and 73.5. Four pairs that agree: p is 2 / 2^4. One test: q is p.
    assert study.zero_shot(records) == {"sw"}
    assert study.table(found, left, "uniform", {"sw"}).splitlines()[2:] == [
        "| and-exit | 72.25 | 62.50 | 1.77 | 2 | +1.25 | 2 of 2 | 0.125 | 0.125 | - | - |",
        "| uniform | 71.00 | 61.00 | 1.41 | 2 | | | | | 0.600 | +0.50 |",
    ]
    assert study.epochs_table(found).splitlines() == [
        "| student | epoch 1 | epoch 5 |",
        "|---|---:|---:|",
        "| uniform | 67.00 | 71.00 |",
    ]


def test_a_file_of_scores_is_read_as_its_run_is(run):
    import study

    (rows,) = run.glob("quality/*/quality.jsonl")
    assert [one for _, one in study.read([rows], "wikiann")] == [one for _, one in study.read([run], "wikiann")]


def test_a_student_that_was_measured_with_exits_alone_counts(run):
    import study

    records = [(where, one) for where, one in study.read([run], "wikiann") if one.model != "student-uniform-e5"]
    assert set(study.scores(records)[study.Student("uniform", 5)].values()) == {10.0}


def test_students_that_answer_alike_do_not_differ(run):
    import study

    own = study.scores(study.read([run], "wikiann"))[study.Student("uniform", 5)]
    assert study.paired(own, own) == (0.0, 1.0)
    with pytest.raises(ValueError, match="expected scores of the same run, seed and language"):
        study.paired(own, {})


def test_what_is_not_there_is_one_line(run, tmp_path):
    import study

    with pytest.raises(HalflingError, match="no quality of task xnli in these folders"):
        study.read([run], "xnli")
    with pytest.raises(HalflingError, match="top: no such student: there is uniform, and-exit"):
        study.table(study.scores(study.read([run], "wikiann")), {}, "top")
