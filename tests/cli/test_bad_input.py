"""What a user can get wrong: one line on stderr, a status that is not 0, and nothing half-written."""

import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from halfling.training import labelled

DOCUMENT = "A document of some words, long enough to be kept.\n\n"
PAIRS = "Anna lives in Rome\tAnna lives\tentailment\n" * 8
SENTENCES = "Anna\tB-PER\nlives\tO\n\n" * 8
FILES = {"xnli": "xnli/train-en.tsv.xz", "wikiann": "panx/train-en.tsv.xz"}
TASKS = pytest.mark.parametrize(("task", "text"), [("xnli", PAIRS), ("wikiann", SENTENCES)], ids=FILES)


@pytest.fixture
def write(tmp_path):
    """A function that writes an .xz file, cut at a share of its length."""

    def at(name: str, text: str, share: float = 1.0) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        compressed = lzma.compress(text.encode())
        path.write_bytes(compressed[: int(len(compressed) * share)])
        return path

    return at


@pytest.fixture
def labelled_data(write, tmp_path):
    """A function that writes a preset's English training file, and returns its data folder and how to name them."""

    def at(task: str, text: str, share: float = 1.0) -> tuple[Path, list[object]]:
        path = write(f"data/{FILES[task]}", text, share)
        # No dev of the preset's own: it would have to be there.
        return tmp_path / "data", ["--task", task, "--data", tmp_path / "data", "--dev", path, "--max-tokens", 16]

    return at


@pytest.fixture
def recipe(tmp_path):
    """A function that writes a recipe whose text and data lie in `data`."""

    def at(**changes) -> Path:
        path = tmp_path / "my.yaml"
        small = {"name": "my", "data": str(tmp_path / "data"), "text": "{data}/cc100", "tasks": ["xnli"]}
        path.write_text(yaml.safe_dump(small | changes))
        return path

    return at


def test_a_wrong_path_of_a_recipe(error, tmp_path):
    assert error("run", tmp_path / "nowhere.yaml") == (
        f"{tmp_path}/nowhere.yaml: cannot be read (No such file or directory)"
    )


def test_a_wrong_path_of_text_within_a_recipe(error, recipe, tmp_path):
    said = error("run", recipe(text=str(tmp_path / "nowhere")), "--runs", tmp_path / "runs")
    assert said == f"corpus: no source at {tmp_path}/nowhere: run the stage that makes it, or mend the path"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("corpus", "build", "NOWHERE", "OUT"),
        ("tokenizer", "NOWHERE", "OUT"),
        ("pack", "NOWHERE", "NOWHERE", "OUT"),
        ("teacher", "NOWHERE", "NOWHERE", "OUT"),
        ("distill", "NOWHERE", "NOWHERE", "OUT"),
        ("finetune", "NOWHERE", "OUT", "--train", "FILE"),
        ("finetune", "FOLDER", "OUT", "--train", "NOWHERE"),
        ("exits", "NOWHERE", "OUT"),
        ("calibrate", "NOWHERE", "OUT"),
        ("export", "NOWHERE", "OUT"),
        ("export", "FOLDER", "OUT", "--policy", "NOWHERE"),
        ("quality", "OUT", "--model", "any=NOWHERE"),
        ("costs", "OUT", "--model", "any=NOWHERE"),
        ("evaluate", "OUT", "--model", "any=NOWHERE"),
        ("masked-lm", "NOWHERE", "NOWHERE", "OUT", "model=any"),
        ("publish", "NOWHERE", "OUT", "title=any"),
        ("report", "OUT", "--from", "NOWHERE"),
    ],
    ids=" ".join,
)
def test_a_wrong_path_of_a_stage(command, error, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "train.csv").write_text("text,label\na,b\nc,d\n")
    places = {"NOWHERE": tmp_path / "nowhere", "any=NOWHERE": f"any={tmp_path}/nowhere", "OUT": tmp_path / "runs/out"}
    places |= {"FILE": tmp_path / "train.csv", "FOLDER": tmp_path / "data"}
    assert f"at {tmp_path}/nowhere: " in error(*(places.get(word, word) for word in command))


def test_an_existing_folder_that_holds_no_model(error, labelled_data, tmp_path):
    folder, options = labelled_data("xnli", PAIRS)
    (tmp_path / "empty").mkdir()
    said = error("finetune", folder, tmp_path / "out", *options)
    assert said.startswith(f"{folder}: no model could be loaded from this folder or hub id")
    for command in ("exits", "calibrate", "export"):
        said = error(command, tmp_path / "empty", tmp_path / "out")
        assert said == f"{tmp_path}/empty: no model here (no config.json): name a fine-tuned model's folder"


def test_a_folder_of_students_is_no_model_and_names_the_last(error, labelled_data, write_masked_lm, tmp_path):
    _, options = labelled_data("xnli", PAIRS)
    for epoch in (1, 5, 10):
        write_masked_lm(tmp_path / f"uniform/epoch-{epoch}")
    said = error("finetune", tmp_path / "uniform", tmp_path / "out", *options)
    assert said == (
        f"{tmp_path}/uniform: holds 3 models and is none: name one, for instance {tmp_path}/uniform/epoch-10"
    )


def test_a_truncated_xz_of_the_corpus(error, write, tmp_path):
    path = write("cc100/en.txt.xz", DOCUMENT + os.urandom(5000).hex(), 0.5)
    assert error("corpus", "build", path.parent, tmp_path / "out", goes_on=True) == (
        f"{path}: truncated after line 2: fetch the file again"
    )


@TASKS
def test_a_truncated_xz_of_labelled_data(task, text, error, labelled_data, write_masked_lm, tmp_path):
    folder, options = labelled_data(task, text, share=0.7)
    encoder = write_masked_lm(tmp_path / "encoder")
    said = error("finetune", encoder, tmp_path / "out", *options)
    assert said == f"{folder / FILES[task]}: truncated: fetch the file again"


@pytest.mark.parametrize(
    ("task", "text", "where"),
    [
        ("xnli", PAIRS + "a\tb\tmaybe\n", "row 9: label 'maybe' is none of the task's (entailment, neutral, contra"),
        ("wikiann", SENTENCES + "Oslo\tB-GPE\n", "sentence 9: label 'B-GPE' is none of the task's (O, B-PER, I-PER, "),
    ],
)
def test_a_label_outside_the_task(task, text, where, error, labelled_data, write_masked_lm, tmp_path):
    folder, options = labelled_data(task, text)
    encoder = write_masked_lm(tmp_path / "encoder")
    said = error("finetune", encoder, tmp_path / "out", *options)
    assert said.startswith(f"{folder / FILES[task]}, {where}")
    assert "; the data have " in said


@pytest.mark.parametrize("text", ["", "\n\n\n"], ids=["nothing", "blank lines"])
def test_an_empty_language_of_the_corpus(text, error, write, tmp_path):
    write("cc100/en.txt.xz", DOCUMENT)
    path = write("cc100/sw.txt.xz", text)
    assert error("corpus", "build", path.parent, tmp_path / "out", goes_on=True).startswith(
        f"{path}: holds no document: "
    )


@TASKS
def test_an_empty_language_of_labelled_data(task, text, error, labelled_data, write_masked_lm, tmp_path):
    folder, options = labelled_data(task, "")
    encoder = write_masked_lm(tmp_path / "encoder")
    said = error("finetune", encoder, tmp_path / "out", *options)
    assert said == f"{folder / FILES[task]}: empty: expected labelled examples"


def test_a_misspelt_key_of_a_recipe_and_of_a_stage(error, recipe, tmp_path):
    path = recipe(teacher={"epoch": 3})
    assert error("run", path) == f"{path}: unknown key teacher.epoch: the nearest known is epochs"
    said = error("sample", tmp_path / "out", "line=20")
    assert said == "SampleSettings: unknown key line: the nearest known is lines"


def test_inputs_longer_than_the_model_reads(error, labelled_data, write_masked_lm, tmp_path):
    _, options = labelled_data("xnli", PAIRS)
    encoder = write_masked_lm(tmp_path / "encoder")
    said = error("finetune", encoder, tmp_path / "out", *options, "--max-tokens", 65)
    assert said == f"{encoder}: reads at most 64 tokens, not max_tokens=65: set it lower"


def test_a_reporter_that_is_unknown(error, labelled_data, write_masked_lm, tmp_path):
    _, options = labelled_data("xnli", PAIRS)
    encoder = write_masked_lm(tmp_path / "encoder")
    said = error("finetune", encoder, tmp_path / "out", *options, "--report-to", "paper")
    assert said.startswith("training: report_to=paper: not known to transformers: choose from none, ")


def test_blocks_longer_than_a_model_reads(error, write_packed, full_blocks, write_masked_lm, tmp_path):
    packed = write_packed(tmp_path / "packed", full_blocks(1, 2))
    words = write_masked_lm(tmp_path / "words")
    shape = "{num_layers: 1, width: 8, num_heads: 2, max_tokens: 20}"
    said = error("teacher", packed, words, tmp_path / "out", "epochs=1", "batch_size=1", f"shape={shape}")
    assert said == "teacher: reads at most 20 tokens, not block_tokens=24: set it lower"
    said = error("distill", words, packed, tmp_path / "out", "epochs=1", "batch_size=1", f"student={shape}")
    assert said == "distill: the student: reads at most 20 tokens, not block_tokens=24: set it lower"


def test_an_output_below_a_file(error, tmp_path):
    (tmp_path / "file").write_text("")
    assert error("sample", tmp_path / "file/out", "lines=4").startswith(f"{tmp_path}/file: ")


def test_an_interruption_is_one_line_and_status_130(halfling, labelled_data, write_masked_lm, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    _, options = labelled_data("xnli", PAIRS)
    monkeypatch.setattr(labelled, "train_resumably", interrupted)
    encoder = write_masked_lm(tmp_path / "encoder")
    said = halfling("finetune", encoder, tmp_path / "out", *options)
    assert said.status == 130
    assert said.err == "error: interrupted: the same command goes on from what is finished\n"
    assert not (tmp_path / "out").exists()


def test_a_fault_of_the_code_is_not_hidden(halfling, tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("halfling.sample.write._documents", broken)
    with pytest.raises(ZeroDivisionError):
        halfling("sample", tmp_path / "out")


@pytest.mark.slow
def test_a_full_disk(recipe, tmp_path):
    """A disk of its own that the corpus in the making does not fit on; not every system lets us have one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    own_disk = ["unshare", "-rm", "sh", "-c"]
    mount = f"mount -t tmpfs -o size=250k tmpfs {disk}"
    if subprocess.run([*own_disk, mount], capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    settings = {"lines": 120, "train_sentences": 96, "dev_sentences": 48}
    path = recipe(data="sample", text="sample/cc100", sample=settings, tokenizer={"vocab_size": 700, "num_threads": 1})
    run = f'"$0" -c "from halfling.cli.main import main; main()" run {path} --runs {disk}'
    done = subprocess.run(
        [*own_disk, f"{mount} && {run}; status=$?; ls {disk}/my; exit $status", sys.executable],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    )
    assert done.returncode == 1
    *stages, last = done.stderr.splitlines()
    assert [line.split()[2] for line in stages] == ["sample"]
    assert last == (
        f"error: {disk}/my/corpus: the disk is full: make room and run the same command again; finished work is kept"
    )
    assert done.stdout.split() == ["sample"]
