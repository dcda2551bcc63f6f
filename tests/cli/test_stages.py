"""The commands that are derived from declared stages."""

import json
import subprocess
import sys
from inspect import Parameter
from pathlib import Path

import pytest
import typer

from halfling.cli.inputs import ask
from halfling.cli.settings import setting_options, shown
from halfling.cli.stages import _short, command_of
from halfling.pipeline.stages import KINDS, Kind
from halfling.tasks.task import Task

KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@KIND
def test_every_declared_stage_has_a_command_that_shows_each_setting_with_its_default(kind, halfling, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    words = (kind.command or kind.name).split()
    said = halfling(*words, "--help")
    assert (said.status, said.err) == (0, "")
    assert f"Usage: halfling {' '.join(words)} " in said.out
    text = " ".join(said.out.replace("│", " ").split())
    for name, field in kind.settings.model_fields.items():
        if name != "clean":  # each of its own settings has an option
            assert f"--{name.replace('_', '-')} " in text
            assert f"[{shown(field)}]" in text


@KIND
def test_no_option_of_a_command_stands_for_two_things(kind):
    command = command_of(kind)
    options = [option for one in command.params for option in one.opts if option.startswith("--")]
    assert len({*options}) == len(options)


def test_help_and_predict_do_without_torch_and_yaml():
    code = """
import sys
from halfling.cli import main
sys.argv[1:] = ["--help"]
try:
    main.main()
finally:
    print(sorted({"torch", "transformers", "yaml"} & {*sys.modules}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_setting_is_given_as_an_option_or_by_its_key(halfling, tmp_path):
    by_key = halfling("sample", tmp_path / "a", "lines=20", "train_sentences=10", "dev_sentences=4", "--json")
    options = ("--lines", 20, "--train-sentences", 10, "--dev-sentences", 4)
    by_option = halfling("sample", tmp_path / "b", *options, "--json")
    first, second = json.loads(by_key.out), json.loads(by_option.out)
    assert first["settings"] == second["settings"]
    assert first["fingerprint"] == second["fingerprint"]
    said = halfling("sample", tmp_path / "c", "--lines", "many")
    assert (said.status, said.out) == (1, "")
    assert said.err.startswith("error: SampleSettings: lines: Input should be a valid integer")


def test_a_list_is_given_as_an_option(halfling, source, tmp_path):
    def settings(*given):
        said = halfling("corpus", "build", source, tmp_path / "out", "--total-bytes", "3kB", *given, "--json")
        assert said.status == 0, said.err
        return json.loads(said.out)["settings"]

    by_option = settings("--languages", "en,sw")
    assert by_option == settings("languages=[en,sw]") == settings("--languages", "[en, sw]")
    assert by_option["languages"] == ["en", "sw"]
    assert settings("--languages", "all")["languages"] == "all"


def test_a_list_of_numbers_may_have_brackets_or_none(write_masked_lm, halfling, error, tmp_path):
    from halfling.cli.settings import overrides_in

    kind = KINDS["exits"].settings
    given = {one.name: None for one in setting_options(kind)}
    assert overrides_in(given | {"setting_layers": "1,2"}, kind) == ["layers=[1,2]"]
    assert overrides_in(given | {"setting_layers": "[1,2]"}, kind) == ["layers=[1,2]"]
    said = error("exits", write_masked_lm(tmp_path / "model"), tmp_path / "out", "--layers", "one,two")
    assert said.startswith("ExitsSettings: layers.0: Input should be a valid integer")


def test_text_stays_text_and_a_nested_setting_has_its_option():
    from halfling.cli.settings import overrides_in

    report, corpus = KINDS["report"].settings, KINDS["corpus"].settings
    given = {one.name: None for kind in (report, corpus) for one in setting_options(kind)}
    assert overrides_in({**given, "setting_title": "2024: a"}, report) == ['title="2024: a"']
    nested = {"setting_clean_min_characters": "3", "setting_chunks": "7"}
    assert overrides_in(given | nested, corpus) == ["clean.min_characters=3", "chunks=7"]


def read(kind: Kind, **given) -> dict:
    """Return the inputs that are read of what the command line gave."""
    asked = ask(kind)
    all_given = {parameter.name: None for one in asked for parameter in one.parameters} | given
    return {role: value for one in asked for role, value in one.read(all_given).items()}


def test_places_folders_and_what_is_left_out():
    inputs = read(KINDS["finetune"], encoder="e", task_train=["a.csv"], teacher=Path("t"))
    assert inputs == {"encoder": Path("e"), "task": Task(train={"en": "a.csv"}), "teacher": Path("t")}
    assert read(KINDS["exits"], finetuned="m") == {"finetuned": Path("m")}
    assert read(KINDS["corpus"], source="https://host/x") == {"source": "https://host/x"}
    assert read(KINDS["corpus"], source="x") == {"source": Path("x")}


def test_models_are_folders_by_name():
    costs = KINDS["costs"]
    assert read(costs, models=["a=x", "b=y"]) == {"models": {"a": Path("x"), "b": Path("y")}}
    with pytest.raises(typer.BadParameter, match="expected NAME=FOLDER"):
        read(costs, models=["x"])
    with pytest.raises(typer.BadParameter, match="name each model once"):
        read(costs, models=["a=x", "a=y"])


def test_two_folders_of_one_name_are_refused():
    with pytest.raises(typer.BadParameter, match="two folders of one name"):
        read(KINDS["report"], inputs=[Path("a/b/c"), Path("d/b/c")])
    assert read(KINDS["report"], inputs=[Path("a/b/c")]) == {"b/c": Path("a/b/c")}


def test_a_folder_that_a_setting_names_is_no_option_but_an_input(tmp_path):
    teacher = KINDS["teacher"]
    assert [one.name for one in teacher.inputs] == ["packed", "tokenizer"]
    stage = teacher.stage("x", teacher.settings(source=str(tmp_path), epochs=0), tmp_path / "out", {})
    assert stage.inputs == {"source": tmp_path}
    assert teacher.stage("x", teacher.settings(), tmp_path / "out", {}).inputs == {}


def test_an_input_that_nobody_can_give_is_a_fault_of_the_declaration():
    kind = Kind("any", "any:any", "")
    kind.__dict__.update(work=test_places_folders_and_what_is_left_out)
    kind.__dict__["inputs"] = [Parameter("a", Parameter.KEYWORD_ONLY, annotation=int)]
    with pytest.raises(TypeError, match="no way to ask for a <class 'int'>"):
        ask(kind)


def test_brackets_in_a_folders_name_are_shown_as_they_are(halfling, tmp_path):
    said = halfling("sample", tmp_path / "[red]a[0]", "lines=20", "train_sentences=10", "dev_sentences=4")
    assert said.status == 0
    assert said.err.startswith("[1/1] [red]a[0] ")


def test_a_folder_made_anew_says_which_setting_changed(halfling, tmp_path):
    out = tmp_path / "out[bold]"
    for lines in (4, 4, 5):
        said = halfling("sample", out, f"lines={lines}", "train_sentences=2", "dev_sentences=2")
        assert said.status == 0, said
        assert ("made anew: lines was 4 and is 5" in said.err) == (lines == 5)
    assert "out[bold]" in said.err


def test_what_a_stage_prints_is_the_same_once_it_was_read_from_its_manifest():
    counts = {
        "steps": 8,
        "layers": (2, 6),
        "thresholds": (),
        "curve": [{"step": 25}],
        "names": ("en",),
        "how": {"a": 1},
    }
    read = json.loads(json.dumps(counts))
    assert json.loads(json.dumps(_short(counts))) == _short(read) == {"steps": 8, "layers": [2, 6]}
