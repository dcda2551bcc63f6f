"""Made-up records: no model was ever run for these numbers, they only have the form of results."""

import math

import pytest

from halfling.exits.calibration import Calibration, TradeOff
from halfling.exits.policy import ExitPolicy
from halfling.results import Cost, MeasuredDrop, Quality

LANGUAGES = ("en", "ru", "hi", "tr", "sw", "ur")
METRICS = {"intents": "accuracy", "entities": "span F1"}
# model -> (layers, gflops, gmacs_linear, score in English, ms alone in PyTorch, bytes in memory, bytes on disk)
MODELS = {
    "teacher": (24, 77.9, 38.65, 0.83, 82.0, 2.9e9, 2.24e9),
    "student-uniform": (12, 22.1, 10.87, 0.79, 25.6, 1.5e9, 1.11e9),
    "student-uniform-exits": (12, 22.1, 10.87, 0.788, 25.6, 1.5e9, 1.11e9),
}
# (runtime, precision) -> what is left of time alone, time in a batch, memory, disk, and of the score
FORMS = {
    ("pytorch", "float32"): (1.0, 1.0, 1.0, 1.0, 1.0),
    ("engine", "float32"): (0.62, 0.8, 0.8, 1.0, 1.0),
    ("engine", "int8"): (0.21, 0.34, 0.28, 0.26, 0.996),
}
PLAIN = {"runtime": "engine", "precision": "int8", "exits": False}


def quality(model="student", task="entities", language="sw", seed=0, **changes) -> Quality:
    fields = {
        "trained_on": language == "en",
        "num_examples": 100,
        "metric": METRICS.get(task, "score"),
        "score": 0.6,
        "accuracy": 0.9,
        "f1": 0.6,
        "mean_exit_layer": 12.0,
        "exit_histogram": {12: 100},
        "gflops": 20.0,
        "gmacs_linear": 10.0,
    }
    return Quality(model=model, task=task, language=language, seed=seed, **(PLAIN | fields | changes))


def cost(model="student", task="entities", language="sw", **changes) -> Cost:
    fields = {
        "rounds_ms_b1": (10.0, 10.0),
        "rounds_ms_b32": (200.0, 200.0),
        "timed_gflops": 1.0,
        "peak_bytes": 10**9,
        "disk_bytes": 10**8,
    }
    return Cost(model=model, task=task, language=language, **(PLAIN | fields | changes))


def int8_drop(model="student", task="entities", language="sw", **changes) -> MeasuredDrop:
    fields = {
        "backend": "native",
        "num_examples": 1000,
        "metric": METRICS.get(task, "score"),
        "float32": 0.6,
        "int8": 0.598,
        "drop": 0.2,
        "lower": -0.1,
        "bound": 0.45,
        "suffices": True,
        "seed": 0,
        "exits": False,
        "wide_layers": (),
    }
    return MeasuredDrop(model=model, task=task, language=language, **(fields | changes))


@pytest.fixture(name="int8_drop")
def _int8_drop():
    return int8_drop


@pytest.fixture(name="quality")
def _quality():
    return quality


@pytest.fixture(name="cost")
def _cost():
    return cost


@pytest.fixture
def write(tmp_path):
    """Return a function that writes records as one input folder."""

    def into(name, qualities=(), costs=(), calibration=None, int8_drops=()):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for file, records in (("quality.jsonl", qualities), ("costs.jsonl", costs), ("int8.jsonl", int8_drops)):
            if records:
                (folder / file).write_text("".join(record.model_dump_json() + "\n" for record in records))
        if calibration is not None:
            calibration.write(folder / "exit_policy.json")
        return folder

    return into


def _rounds(ms, phase):
    """Return seven rounds: a slow swing that all models of a round share, and a jitter of their own."""
    return tuple(ms * (1 + 0.04 * math.sin(turn) + 0.02 * math.sin(7 * turn + 3 * phase)) for turn in range(7))


def _case(model, form, task, number, exits):
    """Return qualities of three seeds and the cost of one model in one form in one language."""
    language, (layers, gflops, gmacs, score, ms, peak, disk) = LANGUAGES[number], MODELS[model]
    alone, batch, memory, size, kept = FORMS[form]
    early = {"intents": {3: 52 - 7 * number, 6: 24 - 3 * number}, "entities": {6: 30 - 5 * number, 9: 18 - number}}
    histogram = early[task] if exits else {}
    histogram = histogram | {layers: 100 - sum(histogram.values())}
    share = sum(layer * inputs for layer, inputs in histogram.items()) / 100 / layers
    case = {"language": language, "runtime": form[0], "precision": form[1], "exits": exits}
    measured = {"model": model, "task": task, **case}
    found = score * kept - 0.035 * number - 0.011 * exits - (0.05 if task == "entities" else 0)
    qualities = [
        quality(
            **measured,
            seed=seed,
            num_examples=1000,
            score=found + 0.004 * seed,
            accuracy=found + 0.004 * seed + (0.11 if task == "entities" else 0),
            f1=found + 0.004 * seed - (0.002 if task == "intents" else 0),
            mean_exit_layer=layers * share,
            exit_histogram={layer: 10 * inputs for layer, inputs in histogram.items()},
            gflops=gflops * share * (0.85 + 0.03 * number),
            gmacs_linear=gmacs * share,
        )
        for seed in range(3)
    ]
    # Checking an exit takes time too: where few leave, nothing is gained.
    spent = share + 0.06 * exits
    ms_alone, phase = ms * alone * spent * (1 + 0.02 * number), len(model) + number + 5 * exits
    return qualities, cost(
        **measured,
        rounds_ms_b1=_rounds(ms_alone, phase),
        rounds_ms_b32=_rounds(20 * ms * batch * spent, phase + 1),
        timed_gflops=gflops * share * 0.85,
        peak_bytes=int(peak * memory),
        disk_bytes=int(disk * size),
    )


def _calibration(task, seed):
    curve = tuple(
        TradeOff(
            layers=(3, 6, 12),
            thresholds=(step / 10,) * 2,
            quality=0.79 - 0.0035 * step**1.6 - 0.01 * seed,
            flops_share=1 - 0.065 * step,
            mean_exit_layer=12 - 0.7 * step,
        )
        for step in range(10)
    )
    policy = ExitPolicy.uniform((3, 6, 12), 0.4)
    return Calibration(task=task, language="en", metric=METRICS[task], policy=policy, max_drop=1.0, curve=curve)


@pytest.fixture
def inputs(write):
    """Return inputs as a whole run leaves them: three models in their forms, two tasks, six languages, three seeds."""
    folders = {}
    for task in METRICS:
        for model in MODELS:
            qualities, costs = [], []
            for form in FORMS:
                for exits in (False, True) if model.endswith("-exits") and form[0] == "engine" else (False,):
                    for number in range(len(LANGUAGES)):
                        scored, spent = _case(model, form, task, number, exits)
                        qualities += scored
                        costs.append(spent)
            role = f"evaluate {model}-{task}"
            folders[role] = write(role, qualities, costs)
        for seed in range(2):
            role = f"calibrate/student-uniform-{task}-{seed}"
            folders[role] = write(role, calibration=_calibration(task, seed))
    return folders
