"""Recipes, task files and exported folders that chance has made or damaged: an answer or one line, never less.

The examples are the same at every run (`derandomize`).
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfling import json_text, yaml_text
from halfling.engine import AdaptiveEngine
from halfling.errors import HalflingError
from halfling.pipeline.plan import plan
from halfling.pipeline.recipe import read_recipe
from halfling.records import Manifest
from halfling.tasks.examples import describe
from halfling.tasks.task import Task, read_task

FEW = settings(
    derandomize=True,
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
FEWER = settings(FEW, max_examples=40)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.sampled_from([10**12, -1, 2**63, 10**30]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["xnli", "train", "uniform", "xlm-roberta-base", "27GB", "{data}", "en", "[", "hub", "sample"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
WHOLE: dict[str, Any] = {
    "name": "small",
    "data": "some/folder",
    "text": "{data}/cc100",
    "tasks": {"xnli": {"languages": ["en", "sw"]}, "mine": {"train": {"en": "a.csv"}, "dev": {"sw": "b.csv"}}},
    "corpus": {"languages": ["en", "sw"], "chunks": 2},
    "teacher": {"shape": {"num_layers": 2, "width": 16, "num_heads": 2}, "epochs": 1},
    "distill": {"layer_maps": ["uniform"], "student": {"num_layers": 1, "width": 16, "num_heads": 2}, "epochs": 1},
    "finetune": {"xnli": {"epochs": 1}},
    "exits": {"mine": {"layers": [1]}},
    "calibrate": {"xnli": {"max_drop": 1.0}},
    "models": {"seeds": [0, 1]},
}


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a nested value."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*before, key)
            yield from places(inner, (*before, key))


def changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """A copy of a nested value with another value at a place; without it where `new` is `...`."""
    copy = json.loads(json.dumps(value))
    *parents, last = place
    inner = copy
    for key in parents:
        inner = inner[key]
    if new is ...:
        del inner[last]
    else:
        inner[last] = new
    return copy


@contextmanager
def one_line_at_most() -> Iterator[None]:
    """Nothing leaves the block but a HalflingError of one line."""
    said = "nothing"
    try:
        yield
    except HalflingError as error:
        said = str(error)
    assert said
    assert "\n" not in said


@FEWER
@given(st.sampled_from([*places(WHOLE)]), VALUES | st.just(...), st.sampled_from(["value", "another key"]))
def test_a_recipe_with_anything_anywhere_is_planned_or_refused_in_one_line(tmp_path, place, new, how):
    if how == "another key" and new is not ...:
        place = (*place[:-1], "unknown" if isinstance(place[-1], str) else place[-1])
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump(changed(WHOLE, place, new), allow_unicode=True), encoding="utf-8")
    with one_line_at_most():
        recipe = read_recipe(path)
        assert len({stage.name for stage in plan(recipe, tmp_path / "runs")}) == len(plan(recipe, tmp_path / "runs"))


@FEW
@given(
    st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#\n \t,?%@`0.~<é\ud800\x00\x85\u2028"), max_size=60) | st.text()
)
def test_any_text_is_yaml_or_one_line(text):
    with one_line_at_most():
        yaml_text.parse(text, "here")


@FEW
@given(VALUES)
def test_what_yaml_and_json_write_is_read_back_as_it_was(value):
    if value == value and "nan" not in repr(value) and "inf" not in repr(value):
        text = json.dumps(value)
        if "\\ud8" not in text:
            assert json_text.parse(text, "here") == value


@FEW
@given(st.binary(max_size=80), st.integers(0, 400), st.sampled_from(["insert", "overwrite", "cut"]))
def test_a_damaged_manifest_or_task_is_read_or_one_line(tmp_path, noise, at, how):
    manifest = Manifest(
        stage="a",
        fingerprint="b",
        settings={"c": 1},
        inputs={},
        versions={},
        seed=0,
        seconds=1.0,
        counts={},
        files={},
        digest="d",
    )
    for name, text in (("manifest.json", manifest.model_dump_json()), ("task.json", Task(name="n").model_dump_json())):
        whole = text.encode()
        at %= len(whole)
        damaged = {
            "insert": whole[:at] + noise + whole[at:],
            "overwrite": whole[:at] + noise + whole[at + len(noise) :],
            "cut": whole[:at],
        }[how]
        (tmp_path / name).write_bytes(damaged)
    with one_line_at_most():
        Manifest.read(tmp_path / "manifest.json")
    with one_line_at_most():
        read_task(tmp_path)


LINES = {
    "csv": 'text,label\nAnna lives in Rome,a\n"in, Rome",b\n' + "yes,a\nno,b\n" * 12,
    "jsonl": "".join(f'{{"text": "Anna {n}", "label": "{"ab"[n % 2]}"}}\n' for n in range(26)),
    "conll": "Anna B-PER\nlives O\n\nin O\nRome B-LOC\n\n" * 12,
}


# pandas leaves a file open that it cannot read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@settings(FEW, max_examples=24)
@given(
    st.sampled_from([*LINES]),
    st.sampled_from(
        [b"\xff", b"\x00", b'"', b"\n\n", b",,,", b"\t", b"{", b"\xef\xbb\xbf", b"", b"null", b"\r", b"-100"]
    ),
    st.integers(0, 10**6),
    st.booleans(),
)
def test_a_damaged_task_file_is_described_or_one_line(tmp_path, kind, noise, at, cut):
    whole = LINES[kind].encode()
    at %= len(whole)
    path = tmp_path / f"data.{kind}"
    path.write_bytes(whole[:at] + noise + (b"" if cut else whole[at:]))
    with one_line_at_most():
        found = describe(Task(train={"en": str(path)}))
        assert sum(split["examples"] for split in found["splits"].values()) > 0
        assert len(found["task"].labels) >= 2


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def exported(kept, halfling, write_tagger) -> Path:
    """An exported tagger, made once."""
    if not (kept / "served").exists():
        said = halfling("export", write_tagger(kept / "model"), kept / "served", "--backends", "onnx")
        assert said.status == 0, said.err
    return kept / "served"


TEXTS = ["Anna lives in Rome", "no", "maybe Anna"]


@FEWER
@given(
    st.integers(0, 10**6),
    st.sampled_from(["flip", "cut", "add", "drop", "swap", "empty", "folder", "pipe"]),
    st.integers(0, 10**9),
)
def test_a_damaged_export_answers_as_it_did_or_is_refused_in_one_line(tmp_path, exported, which, how, at):
    import os

    answers = AdaptiveEngine.from_pretrained(exported, "onnx").predict(TEXTS)
    folder = tmp_path / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(exported, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path, other = files[which % len(files)], files[(which + 1 + at % (len(files) - 1)) % len(files)]
    whole = path.read_bytes()
    if how == "swap":
        path.write_bytes(other.read_bytes())
        other.write_bytes(whole)
    elif how in ("drop", "folder", "pipe"):
        path.unlink()
        if how != "drop":
            (os.mkfifo if how == "pipe" else os.mkdir)(path)
    else:
        place = at % len(whole)
        path.write_bytes(
            {
                "flip": whole[:place] + bytes([whole[place] ^ (1 << at % 8)]) + whole[place + 1 :],
                "cut": whole[:place],
                "add": whole + b"\n",
                "empty": b"",
            }[how]
        )
    with one_line_at_most():
        engine = AdaptiveEngine.from_pretrained(folder, "onnx")
        assert engine.predict(TEXTS) == answers, f"{path.name}: another answer"


@FEWER
@given(st.data(), VALUES | st.just(...))
def test_an_export_whose_json_was_edited_is_refused_in_one_line(tmp_path, exported, data, new):
    answers = AdaptiveEngine.from_pretrained(exported, "onnx").predict(TEXTS)
    folder = tmp_path / "edited"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(exported, folder)
    said = json.loads((folder / "engine.json").read_text())
    edited = changed(said, data.draw(st.sampled_from([*places(said)])), new)
    (folder / "engine.json").write_text(json.dumps(edited))
    with one_line_at_most():  # but for a field that is left out and was its default
        assert AdaptiveEngine.from_pretrained(folder, "onnx").predict(TEXTS) == answers
