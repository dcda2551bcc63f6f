"""Recipes and the files of models and runs, written by somebody who is careless or means harm: one line, at once."""

import inspect
import json
import os
import time
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from annotated_types import Ge, Gt, Le, Lt

from halfling import json_text, yaml_text
from halfling.errors import HalflingError
from halfling.exits.calibration import Calibration
from halfling.exits.policy import ExitPolicy
from halfling.files import sha256
from halfling.models.classifier import read_checkpoint
from halfling.pipeline.recipe import Recipe, read_recipe
from halfling.pipeline.stages import KINDS
from halfling.records import Manifest, Settings
from halfling.results import Quality
from halfling.settings import read_settings
from halfling.tasks.task import read_task

RECIPE = "name: small\ndata: some/folder\ntext: '{data}/cc100'\ntasks: [xnli]\n"
SECOND = 1.5
"""Of the processor; a whole import of torch may lie before."""

GROWS = "a: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"b{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(9)
)
YAML = {
    "two sections": ("teacher: {epochs: 1}\nseed: 1\nteacher: {epochs: 2}\n", "line 7, column 1: 'teacher' is said"),
    "two keys": ("teacher:\n  epochs: 1\n  epochs: 2\n", "line 7, column 3: 'epochs' is said twice"),
    "two quoted keys": ("seed: 1\n'seed': 2\n", "line 6, column 1: 'seed' is said twice"),
    "a date": ("seed: 2024-13-45\n", "seed: Input should be a valid integer"),
    "a tagged date": ("seed: !!timestamp 2024-13-45\n", "line 5, column 7: '2024-13-45' is no timestamp"),
    "no integer": ("seed: !!int many\n", "line 5, column 7: 'many' is no int"),
    "no integer at all": ("seed: !!int ''\n", "line 5, column 7: '' is no int"),
    "no truth": ("seed: !!bool maybe\n", "line 5, column 7: 'maybe' is no bool"),
    "no number": ("seed: !!float x\n", "line 5, column 7: 'x' is no float"),
    "5,000 digits": (f"seed: {'9' * 5000}\n", "line 5, column 7: '99999"),
    "5,000 hexadecimal digits": (f"seed: 0x{'f' * 5000}\n", "line 5, column 7: '0xffff"),
    "NaN": ("teacher: {learning_rate: .nan}\n", "teacher.learning_rate: Input should be"),
    "infinity": ("teacher: {weight_decay: .inf}\n", "teacher.weight_decay: Input should be"),
    "an anchor within itself": ("teacher: &a {shape: *a}\n", "line 5, column 21: the anchor a refers to itself"),
    "a list within itself": ("tasks2: &a [*a]\n", "the anchor a refers to itself"),
    "anchors that grow": (GROWS, "more than 10000 values"),
    "data that grow": (f"report: {{note: '{'{data}' * 9000}'}}\ndata: '{'x' * 5000}'\n", "data"),
    "deep lists": (f"seed: {'[' * 100_000}\n", "line 5, column 38: nested more than 32 deep"),
    "deep sections": (f"seed: {'{a: ' * 5000}\n", "nested more than 32 deep"),
    "deep items": (f"seed:\n  {'- ' * 5000}\n", "nested more than 32 deep"),
    "code": ("seed: !!python/object/apply:os.system [exit 3]\n", "could not determine a constructor for the tag"),
    "a list as a key": ("? [a]\n: 1\n", "line 5, column 3: while constructing a mapping found unhashable key"),
    "half a character": ('name2: "\\uD800"\n', "line 5, column 8: half a surrogate pair"),
    "a control character": ("name2: \x00\n", "not YAML"),
    "two documents": ("---\nname: b\n", "line 5, column 1: expected a single document"),
    "a key that is no text": ("0x" + "f" * 900 + ": 1\n", "'0xfff"),
    "many values": (f"seed: [{'1,' * 25_000}]\n", "more than 10000 values"),
}


def error_of(read: typing.Callable[[], object]) -> str:
    """The one line that reading ends with, within a second."""
    began = time.process_time()
    with pytest.raises(HalflingError) as raised:
        read()
    assert time.process_time() - began < SECOND
    said = str(raised.value)
    assert "\n" not in said
    assert len(said) < 500
    return said


@pytest.mark.parametrize("what", YAML)
def test_a_recipe_that_yaml_would_misread_is_refused_at_its_place(what, tmp_path):
    text, expected = YAML[what]
    path = tmp_path / "my.yaml"
    path.write_text(RECIPE.replace("data: some/folder\n", "") + text if "data:" in text else RECIPE + text)
    said = error_of(lambda: read_recipe(path))
    assert said.startswith(f"{path}: ")
    assert expected in said


def test_norwegian_a_date_and_a_time_are_text():
    said = yaml_text.parse("[no, yes, on, off, NO, 2024-01-31, 24:00:00, null, ~, true, 12, 1.5]", "here")
    assert said == ["no", "yes", "on", "off", "NO", "2024-01-31", "24:00:00", None, None, True, 12, 1.5]


def test_an_anchor_that_ends_is_followed():
    assert yaml_text.parse("a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}\n", "here")["d"] == {"b": 3, "c": 2}


@pytest.mark.parametrize(
    "word", ["seed=" + "9" * 5000, "seed=!!int x", "seed=[", f"seed={'[' * 9999}", f"{'a.' * 999}b=1"]
)
def test_a_word_of_the_command_line_is_read_as_strictly(word, tmp_path):
    (tmp_path / "my.yaml").write_text(RECIPE)
    error_of(lambda: read_recipe(tmp_path / "my.yaml", [word]))


JSON = {
    "two values of a name": ('{"a": 1, "b": {"c": 1, "c": 2}}', "two values named 'c'"),
    "NaN": ('{"a": NaN}', "a=nan, which is no number"),
    "infinity": ('{"a": [-Infinity]}', "a=-inf, which is no number"),
    "too large for a number": ('{"a": 1e999}', "a=inf, which is no number"),
    "5,000 digits": (f'{{"a": {"9" * 5000}}}', "a number has too many digits"),
    "deep": ("[" * 100_000, "nested more than 64 deep"),
    "deep and whole": ("[" * 200 + "]" * 200, "nested more than 64 deep"),
    "half a character": ('{"a": "\\ud800"}', "half a surrogate pair"),
    "cut": ('{"a": ', "line 1, column 7: Expecting value"),
    "nothing": ("", "line 1, column 1: Expecting value"),
}


@pytest.mark.parametrize("what", JSON)
def test_json_that_python_would_misread_is_refused(what, tmp_path):
    text, expected = JSON[what]
    path = tmp_path / "a.json"
    path.write_text(text)
    said = error_of(lambda: json_text.read(path))
    assert said.startswith(f"{path}: ")
    assert expected in said


def test_json_that_is_meant_is_read(tmp_path):
    whole = {"a": [1, 2.5, None, True, "नदी", "\U0001f600"], "b": {"c": 10**40}}
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(whole), encoding="utf-8")
    assert json_text.read(tmp_path / "a.json") == whole


def no_file(kind: str, path: Path) -> None:
    """Put something at `path` that is not the file that is meant."""
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "1 GB":
        with path.open("wb") as file:
            file.truncate(10**9)
    elif kind == "latin-1":
        path.write_bytes('{"name": "Zürich"}'.encode("latin-1"))
    elif kind == "broken link":
        path.symlink_to("nowhere")


READERS = {
    "my.yaml": lambda path: read_recipe(path),
    "manifest.json": lambda path: Manifest.read(path),
    "exit_policy.json": lambda path: Calibration.read(path),
    "policy.json": lambda path: ExitPolicy.read(path),
    "quality.jsonl": lambda path: Quality.read_lines(path),
    "text.json": lambda path: json_text.read(path),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "1 GB", "latin-1", "broken link"])
def test_what_is_not_the_file_that_is_meant_is_refused_at_once(kind, name, tmp_path):
    path = tmp_path / name
    no_file(kind, path)
    assert error_of(lambda: READERS[name](path)).startswith(f"{path}: ")


@pytest.mark.parametrize("kind", ["folder", "pipe", "1 GB", "latin-1"])
@pytest.mark.parametrize("name", ["config.json", "task.json", "task-sources.json"])
def test_a_model_s_folder_with_something_else_in_it_is_one_line_or_no_model(kind, name, tmp_path):
    (tmp_path / "task.json").write_text('{"name": "mine"}')
    (tmp_path / name).unlink(missing_ok=True)
    no_file(kind, tmp_path / name)
    if name == "config.json":
        assert str(tmp_path) in error_of(lambda: read_checkpoint(tmp_path))
    elif kind in ("1 GB", "latin-1"):
        assert error_of(lambda: read_task(tmp_path)).startswith(f"{tmp_path / name}: ")
    else:  # no file of that name
        assert (read_task(tmp_path) is None) == (name == "task.json")


@pytest.mark.parametrize("name", ["exit_policy.json", "manifest.json", "task.json", "config.json"])
def test_no_file_of_a_run_is_read_with_one_of_two_values_lost(name, tmp_path):
    twice = {"exit_policy.json": "policy", "manifest.json": "stage", "task.json": "name", "config.json": "model_type"}
    (tmp_path / name).write_text(f'{{"{twice[name]}": "a", "{twice[name]}": "b"}}')
    read = {"task.json": read_task, "config.json": read_checkpoint}.get(name, lambda _: READERS[name](tmp_path / name))
    assert "two values named" in error_of(lambda: read(tmp_path))


def test_a_pipe_or_a_device_is_no_input(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", Path("/dev/zero")):
        assert "not a file" in error_of(lambda path=path: sha256(path))


def settings_classes(kind: type[Settings] = Settings) -> Iterator[type[Settings]]:
    """Every class of settings that a stage or a recipe has."""
    for each in kind.__subclasses__():
        if each.__module__.startswith("halfling."):
            yield each
        yield from settings_classes(each)


def numbers_in(annotation: object, said: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """What is said of each number in a type, constraints of pydantic's taken apart."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        yield from numbers_in(inner[0], (*said, *inner[1:]))
    elif annotation in (int, float):
        yield tuple(one for each in said for one in getattr(each, "metadata", [each]))
    elif origin is not typing.Literal:
        for each in inner:
            yield from numbers_in(each, said if origin in (typing.Union, types.UnionType) else ())


def test_every_number_in_every_setting_has_two_ends():
    for kind in KINDS.values():
        assert issubclass(kind.settings, Settings)
    classes = {*settings_classes(), Recipe}
    assert len(classes) > 25
    unbounded, seen = [], 0
    for each in classes:
        for name, field in each.model_fields.items():
            for said in numbers_in(field.annotation, tuple(field.metadata)):
                seen += 1
                low, high = (any(isinstance(one, ends) for one in said) for ends in ((Ge, Gt), (Le, Lt)))
                if not (low and high):
                    unbounded.append(f"{each.__name__}.{name}")
    assert not unbounded
    assert seen > 100


@pytest.mark.parametrize("value", ["99999999999", "1e25", "1e30", "-1", ".nan", ".inf", "-.inf", "9" * 300, "null2"])
def test_a_number_beyond_its_ends_is_refused_with_the_setting_s_name(value):
    for kind in KINDS.values():
        for name, field in kind.settings.model_fields.items():
            plain = [*numbers_in(field.annotation, tuple(field.metadata))]
            if not plain or typing.get_origin(field.annotation) is tuple or "shape" in name or name == "student":
                continue
            if value == "99999999999" and name in (
                "total_bytes",
                "max_training_bytes",
                "tokens_per_epoch",
                "once_bytes",
            ):
                continue  # 100 GB of text are possible
            if name == "learning_rate" and value in ("99999999999", "1e25", "1e30"):
                continue  # found while it trains: test_weights.py
            required = [f"{key}=x" for key, one in kind.settings.model_fields.items() if one.is_required()]
            words = [*(word for word in required if not word.startswith(f"{name}=")), f"{name}={value}"]
            said = error_of(lambda words=words, kind=kind: read_settings(kind.settings, words))
            assert said.startswith((f"{kind.settings.__name__}: {name}", f"{name}=")), said


def test_a_length_beyond_all_sense_is_refused(halfling):
    for tokens in ("1e30", "999999999999999999999", "-1", "0", "nan"):
        said = halfling("flops", "--shape", "xlm-roberta-base", "--tokens", tokens)
        assert said.status == 2
        assert "--tokens" in said.err
        assert "Traceback" not in said.err


def test_null_is_no_list_of_null(halfling, tmp_path):
    from halfling.cli.settings import overrides_in, shown
    from halfling.training.exits import ExitsSettings

    given = {f"setting_{name}": None for name in ExitsSettings.model_fields} | {"setting_layers": "null"}
    assert read_settings(ExitsSettings, overrides_in(given, ExitsSettings)).layers is None
    assert overrides_in(given | {"setting_layers": "2,4"}, ExitsSettings) == ["layers=[2,4]"]
    assert shown(ExitsSettings.model_fields["layers"]) == "default: not set"


@pytest.mark.parametrize(
    "said",
    [
        "quality.xnli.languages=[en, sv]",
        "costs.xnli.languages=[en, sv]",
        "calibrate.xnli.languages=[sv]",
        "corpus.languages=[en, swa]",
        "tasks={xnli: {languages: [en, sv]}}",
    ],
)
def test_a_language_that_is_not_there_is_found_when_the_recipe_is_read(said, tmp_path):
    (tmp_path / "my.yaml").write_text(RECIPE)
    words = [said]
    if said.startswith(("quality", "costs")):  # which must be the same
        words = [f"{section}.xnli.languages=[en, sv]" for section in ("quality", "costs")]
    assert ("sv" if "sv" in said else "'swa'") in error_of(lambda: read_recipe(tmp_path / "my.yaml", words))


def test_a_dry_run_says_which_settings_the_command_line_changed(halfling, tmp_path):
    (tmp_path / "my.yaml").write_text(
        "name: my\ndata: sample\ntext: sample/cc100\ntasks: [xnli]\nteacher: {epochs: 2}\n"
    )
    run = ("run", tmp_path / "my.yaml", "--dry-run", "--runs", tmp_path / "runs")
    lines = [
        line for line in halfling(*run, "teacher.epochs=3", "pack.block_tokens=128").out.splitlines() if "set:" in line
    ]
    assert lines == ["set: teacher.epochs = 3 (2 without)"]
    assert "set:" not in halfling(*run).out


def test_a_lone_file_is_said_to_be_taken_for_english(halfling, tmp_path):
    (tmp_path / "mine.csv").write_text("text,label\n" + "one,a\ntwo,b\n" * 20)
    said = halfling("tasks", "show", tmp_path / "mine.csv")
    assert said.err == "note: no language named, so English training data: --train CODE=FILE, --dev CODE=FILE\n"
    assert halfling("tasks", "show", f"sw={tmp_path / 'mine.csv'}").err == ""


def test_yaml_and_json_have_one_reader_each():
    """A second reader would be one that loses sections: no other module may load either."""
    source = Path(inspect.getfile(yaml_text)).parent
    for path in source.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name != "yaml_text.py":
            assert "safe_load" not in text, path
            assert "yaml.load" not in text, path
        if path.name != "json_text.py":
            assert "json.load(" not in text, path
            assert "json.loads(" not in text or path.name in OWN_OUTPUT, path
        assert "model_validate_json" not in text or path.name in OWN_OUTPUT, path


OWN_OUTPUT = {"encode.py", "pieces.py", "piece_counts.py", "trim.py", "memory.py", "fresh_process.py", "run.py"}
"""What is parsed there was printed or written by this process or its child just before."""
