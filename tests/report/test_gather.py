import pytest

from halfling.errors import HalflingError
from halfling.exits.calibration import Calibration
from halfling.exits.policy import ExitPolicy
from halfling.report.gather import gather, join


def test_every_seed_meets_the_medians_of_its_case(quality, cost):
    costs = [cost("b", rounds_ms_b1=(7.0, 9.0, 1.0), rounds_ms_b32=(4.0, 5.0, 6.0)), cost("a", **_three(3.0))]
    rows = join([quality("b"), quality("a", seed=1), quality("a")], costs)
    assert [(row.model, row.seed, row.latency_ms_b1, row.latency_ms_b32) for row in rows] == [
        ("a", 0, 3.0, 3.0),
        ("a", 1, 3.0, 3.0),
        ("b", 0, 7.0, 5.0),
    ]


def _three(ms):
    return {"rounds_ms_b1": (ms,) * 3, "rounds_ms_b32": (ms,) * 3}


@pytest.mark.parametrize(
    "other",
    [
        {"model": "x"},
        {"task": "x"},
        {"language": "ur"},
        {"runtime": "pytorch"},
        {"precision": "float32"},
        {"exits": True},
    ],
)
def test_a_quality_without_its_cost_is_named(quality, cost, other):
    with pytest.raises(HalflingError, match=r"student \(engine int8\) on entities in sw: quality without cost"):
        join([quality()], [cost(**other)])


def test_a_cost_without_its_quality_is_named(quality, cost):
    with pytest.raises(HalflingError, match=r"student \(engine int8, exits\) on entities in sw: cost without quality"):
        join([quality()], [cost(), cost(exits=True)])


def test_a_policy_that_lets_nobody_exit_is_the_model_without_exits_and_stands_once(quality, cost):
    assert len(join([quality(), quality()], [cost(), cost()])) == 1


def test_what_was_measured_twice_is_named(quality, cost):
    with pytest.raises(HalflingError, match="on entities in sw: two costs"):
        join([quality()], [cost(), cost()])
    with pytest.raises(HalflingError, match="on entities in sw, seed 0: two qualities"):
        join([quality(), quality(score=0.1)], [cost()])


def test_times_that_cannot_be_of_the_same_rounds_are_refused(quality, cost):
    with pytest.raises(HalflingError, match=r"x \(engine int8\).*in more or fewer rounds than others"):
        join([quality(), quality("x")], [cost(), cost("x", **_three(1.0))])
    assert len(join([quality(), quality(task="x")], [cost(), cost(task="x", **_three(1.0))])) == 2


def test_folders_give_what_they_hold_and_calibrations_the_last_word_of_their_role(write, quality, cost):
    calibration = Calibration(task="intents", policy=ExitPolicy.uniform((1, 2), 0.5), max_drop=1, curve=())
    found = gather(
        {
            "quality both": write("both", [quality(), quality(seed=1)], [cost()]),
            "calibrate/student-intents-0": write("policy", calibration=calibration),
        }
    )
    assert [row.seed for row in found.qualities] == [0, 1]
    assert found.costs == [cost()]
    assert found.calibrations == {"student-intents-0": calibration}


def test_two_calibrations_of_one_name_are_refused(write):
    calibration = Calibration(task="intents", policy=ExitPolicy.uniform((1,), 0.0), max_drop=1, curve=())
    folder = write("policy", calibration=calibration)
    with pytest.raises(HalflingError, match="a second calibration named x"):
        gather({"calibrate/x": folder, "again/x": folder})


def test_a_folder_with_nothing_to_report_is_named(tmp_path):
    with pytest.raises(HalflingError, match=r"holds no quality.jsonl.*leave distill out"):
        gather({"distill": tmp_path})


def test_a_bad_line_is_named_with_its_file_and_number(write, quality):
    folder = write("bad", [quality(), quality(seed=1)])
    file = folder / "quality.jsonl"
    file.write_text(file.read_text().replace('"seed":1', '"seed":"one"'))
    with pytest.raises(HalflingError, match=r"quality.jsonl, line 2: not a Quality \(seed: .*\)"):
        gather({"bad": folder})


def test_a_cut_line_is_named_too(write, quality):
    folder = write("cut", [quality()])
    file = folder / "quality.jsonl"
    file.write_text(file.read_text()[:40])
    with pytest.raises(HalflingError, match=r"quality.jsonl, line 1: not JSON"):
        gather({"cut": folder})
