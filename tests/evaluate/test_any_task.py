"""Whatever the task: exits are trained, calibrated, exported and measured, and the task travels along."""

from pathlib import Path

import pytest

from halfling.calibrate.settings import CalibrateSettings
from halfling.calibrate.stage import calibrate
from halfling.engine import AdaptiveEngine
from halfling.evaluate.quality import QualitySettings, measure_quality
from halfling.exits.calibration import Calibration
from halfling.export.write import ExportSettings, export
from halfling.results import Quality
from halfling.tasks.examples import understood
from halfling.tasks.task import Task, read_task
from halfling.training.exits import ExitsSettings, train_exits

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def tasks(tiny_tasks):
    """The tiny tasks, and those of files as a user has them."""
    own = {
        "five intents": Task(
            name="five intents",
            train={"en": str(DATA / "intents-train-en.csv")},
            dev={code: str(DATA / f"intents-dev-{code}.csv") for code in ("sw", "ur")},
        ),
        "goods": Task(
            name="goods",
            train={"en": str(DATA / "products-train-en.conll")},
            dev={code: str(DATA / f"products-dev-{code}.conll") for code in ("sw", "ur")},
        ),
    }
    return {**tiny_tasks, **own}


@pytest.mark.parametrize(
    ("name", "languages"),
    [
        ("moods", ("en", "sw")),
        ("pairs", ("en", "sw")),
        ("five intents", ("en", "sw", "ur")),
        ("goods", ("en", "sw", "ur")),
    ],
)
def test_a_task_goes_all_the_way(name, languages, tasks, write_classifier, tmp_path):
    plain = write_classifier(tmp_path / "plain", tasks[name])
    task = understood(tasks[name])
    out = {}
    for stage in ("exits", "policy", "float32", "int8", "measured"):
        out[stage] = tmp_path / stage
        out[stage].mkdir()
    training = ExitsSettings(layers=(1, 2), epochs=1, batch_size=20, max_tokens=32, max_train_examples=40)
    counts = train_exits(settings=training, finetuned=plain, out=out["exits"])
    assert counts["exit_layers"] == [1, 2, 3]
    asked = CalibrateSettings(timing="none", max_drop=100.0, max_tokens=32, resamples=100)
    calibrate(settings=asked, model=out["exits"], out=out["policy"])
    chosen = Calibration.read(out["policy"] / "exit_policy.json")
    assert (chosen.task, chosen.language, chosen.policy.is_early) == (name, "en", True)
    for precision in ("float32", "int8"):
        settings = ExportSettings(backends=("onnx",), precision=precision, max_int8_drop=100)
        export(settings=settings, model=out["exits"], out=out[precision], policy=out["policy"])
        assert read_task(out[precision]).labels == task.labels
    models = {"plain": plain, "early/torch": out["exits"], "early/engine": out["float32"], "early/int8": out["int8"]}
    measure_quality(settings=QualitySettings(max_examples=20), models=models, out=out["measured"])
    rows = [Quality.model_validate_json(line) for line in (out["measured"] / "quality.jsonl").read_text().splitlines()]
    forms = [("pytorch", "float32", False)] * 2 + [("engine", "float32", True), ("engine", "int8", True)]
    assert [(*row.form[1:], row.language) for row in rows] == [(*form, code) for form in forms for code in languages]
    assert {row.metric for row in rows} == {task.metric}
    assert {row.task for row in rows} == {name}
    spared = [row.gflops for row in rows if row.exits]
    assert all(one < row.gflops for one, row in zip(spared, rows[len(languages) : 2 * len(languages)], strict=False))
    (answer,) = AdaptiveEngine.from_pretrained(out["int8"]).predict(["Anna lives in Rome"])
    assert (answer.label in task.labels) if answer.tags is None else ({*answer.tags} <= {*task.labels})
