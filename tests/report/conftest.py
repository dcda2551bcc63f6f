"""Made-up records: no model was ever run for these numbers, they only have the form of results."""

import pytest

from halfling.exits.policy import Calibration, ExitPolicy, TradeOff
from halfling.records import Cost, Quality

LANGUAGES = ("en", "ru", "hi", "tr", "sw", "ur")
# model -> (gflops, gmacs_linear, score in English, ms at batch 1, ms at batch 32, bytes, mean exit layer)
MODELS = {
    "teacher": (77.9, 38.65, 0.83, 82.0, 1610.0, 2.18e9, 24.0),
    "student-uniform": (22.1, 10.87, 0.79, 25.6, 512.0, 1.17e9, 12.0),
    "student-uniform-exits": (15.4, 7.46, 0.778, 19.5, 381.0, 1.17e9, 8.2),
}


def quality(model="student", task="wikiann", language="sw", seed=0, **changes) -> Quality:
    fields = {
        "num_examples": 100,
        "accuracy": 0.9,
        "f1": 0.6,
        "mean_exit_layer": 12.0,
        "exit_histogram": {12: 100},
        "gflops": 20.0,
        "gmacs_linear": 10.0,
    }
    return Quality(model=model, task=task, language=language, seed=seed, **(fields | changes))


def cost(model="student", task="wikiann", language="sw", **changes) -> Cost:
    fields = {"latency_ms_b1": 10.0, "latency_ms_b32": 200.0, "peak_bytes": 10**9, "timed_gflops": 1.0}
    return Cost(model=model, task=task, language=language, **(fields | changes))


@pytest.fixture(name="quality")
def _quality():
    return quality


@pytest.fixture(name="cost")
def _cost():
    return cost


@pytest.fixture
def write(tmp_path):
    """Return a function that writes records as one input folder."""

    def into(name, qualities=(), costs=(), calibration=None):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for file, records in (("quality.jsonl", qualities), ("costs.jsonl", costs)):
            if records:
                (folder / file).write_text("".join(record.model_dump_json() + "\n" for record in records))
        if calibration is not None:
            calibration.write(folder / "exit_policy.json")
        return folder

    return into


@pytest.fixture
def inputs(write):
    """Return inputs as a whole run leaves them: three models, two tasks, six languages, three seeds."""
    folders = {}
    for task in ("xnli", "wikiann"):
        for model, (gflops, gmacs, score, b1, b32, peak, depth) in MODELS.items():
            for seed in range(3):
                rows = []
                for number, language in enumerate(LANGUAGES):
                    spread = 0.035 * number + 0.004 * seed
                    histogram = (
                        {3: 55 - 4 * number, 6: 25 - 4 * number, 12: 20 + 8 * number}
                        if model.endswith("-exits")
                        else {int(depth): 100}
                    )
                    layer = sum(k * n for k, n in histogram.items()) / 100
                    rows.append(
                        quality(
                            model,
                            task,
                            language,
                            seed,
                            accuracy=score - spread + (0.1 if task == "wikiann" else 0),
                            f1=score - spread - (0.002 if task == "xnli" else 0),
                            mean_exit_layer=layer,
                            exit_histogram=histogram,
                            gflops=gflops * (0.85 + 0.03 * number),
                            gmacs_linear=gmacs,
                        )
                    )
                role = f"quality {model}-{task}-{seed}"
                folders[role] = write(role, qualities=rows)
            role = f"costs {model}-{task}"
            folders[role] = write(
                role,
                costs=[
                    cost(
                        model,
                        task,
                        language,
                        latency_ms_b1=b1 * (1 + 0.02 * number),
                        latency_ms_b32=b32,
                        peak_bytes=int(peak),
                        timed_gflops=gflops * (0.85 + 0.03 * number),
                    )
                    for number, language in enumerate(LANGUAGES)
                ],
            )
        curve = tuple(
            TradeOff(
                layers=(3, 6, 12),
                thresholds=(step / 10,) * 2,
                quality=0.79 - 0.0035 * step**1.6,
                flops_share=1 - 0.065 * step,
                mean_exit_layer=12 - 0.7 * step,
            )
            for step in range(10)
        )
        policy = ExitPolicy.uniform((3, 6, 12), 0.4)
        for seed in range(2):
            role = f"calibrate/student-uniform-{task}-{seed}"
            shifted = tuple(point.model_copy(update={"quality": point.quality - 0.01 * seed}) for point in curve)
            folders[role] = write(role, calibration=Calibration(task=task, policy=policy, max_drop=1.0, curve=shifted))
    return folders
