import pytest

from halfling.exits.calibration import Calibration, OfLanguage, TradeOff
from halfling.exits.policy import ExitPolicy
from halfling.report.build import ReportSettings, build_report
from halfling.report.sets import sets_table
from halfling.report.words import meaning


def of_language(layers, thresholds, *, from_labels=False, time_share=None, **more):
    policy = ExitPolicy(layers=layers, thresholds=thresholds, **more)
    point = TradeOff(
        layers=layers,
        thresholds=thresholds,
        quality=0.98,
        drop=0.25,
        drop_bound=1.0,
        flops_share=0.6543,
        time_share=time_share,
        mean_exit_layer=4.0,
    )
    return OfLanguage(policy=policy, from_labels=from_labels, point=point, num_texts=900, confidence=0.95)


def calibration(task="entities"):
    sets = {
        "ur": of_language((6,), ()),
        "tlh": of_language((2, 3, 6), (0.125, 0.3)),
        "en": of_language((2, 6), (0.5,), from_labels=True, time_share=0.7),
    }
    return Calibration(task=task, policy=ExitPolicy(layers=(6,), thresholds=()), languages=sets, curve=())


def test_each_language_has_its_thresholds_share_and_loss_and_any_other_the_most_cautious():
    table = sets_table(
        {"student-0": calibration(), "plain-0": calibration().model_copy(update={"languages": {}})}, ("en", "sw")
    )
    heads = ("language", "chosen by", "thresholds", "flops_share", "time_share", "loss", "bound", "texts")
    assert table.columns == ("model", *heads)
    assert [*table.rows] == [
        ("student-0", "English", "labels", "2: 0.5", "0.654", "0.70", "0.25", "1.00", "900"),
        ("student-0", "tlh", "text", "2: 0.125, 3: 0.3", "0.654", "–", "0.25", "1.00", "900"),
        ("student-0", "Urdu", "text", "no early exits", "0.654", "–", "0.25", "1.00", "900"),
        ("student-0", "any other", "the most cautious", "no early exits", "–", "–", "–", "–", "–"),
    ]
    assert [head for head in table.columns if not meaning(head)] == []


def test_patience_is_said_as_one():
    patient = of_language((1, 2, 3), (0.25, 0.25), criterion="patience", patience=2)
    found = calibration().model_copy(update={"languages": {"sw": patient}})
    assert sets_table({"any": found}, ()).rows[0][3] == "2 exits that agree"


def test_without_sets_there_is_no_table():
    assert sets_table({"any": calibration().model_copy(update={"languages": {}})}, ("en",)).rows == ()


@pytest.mark.parametrize("several", [False, True])
def test_the_report_shows_the_sets_beside_the_task_s_other_tables(several, inputs, write, tmp_path):
    if several:
        inputs["calibrate student-x-0"] = write("more", calibration=calibration())
    (tmp_path / "out").mkdir()
    build_report(settings=ReportSettings(), out=tmp_path / "out", **inputs)
    for name in ("table.md", "index.html"):
        text = (tmp_path / "out" / name).read_text()
        assert ("Thresholds by language" in text) == several
        assert ("2: 0.125, 3: 0.3" in text) == several
