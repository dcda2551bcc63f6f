"""`docs/tasks.md` does what it says: every command, in its order, on the files that the repository brings."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

# Whole runs: beside other work each takes minutes.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/tasks.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
READY = next(number for number, block in enumerate(BLOCKS) if "runs/ready" in block)
LAYERS = 4
"""Of the page's encoder as it is trained here: of all twelve `test_readme.py` trains what the README asks for."""


@pytest.fixture(scope="module")
def followed(halfling, tmp_path_factory):
    """A folder in which all commands ran, and what each said."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "tests").mkdir()
    (folder / "tests/data").symlink_to(ROOT / "tests/data")
    said = {}
    for number, block in enumerate(BLOCKS):
        if number == READY:
            write_ready(folder / "runs/intents", folder / "runs/ready")
        for command in block.splitlines():
            # The page trains until the labels are learned; here a command is to work.
            words = shlex.split(re.sub(r"--epochs \d+", "--epochs 1", command))
            ended = halfling(*words[1:], cwd=folder)
            assert ended.status == 0, f"{command}: {ended.err}"
            said[command] = ended.out
            if words[1] == "trim":
                keep_first_layers(folder / "runs/encoder", LAYERS)
    return folder, said


def keep_first_layers(model: Path, number: int) -> None:
    """Cut all but the first layers out of an encoder."""
    from safetensors.torch import load_file, save_file

    config = json.loads((model / "config.json").read_text())
    assert config["num_hidden_layers"] > number
    (model / "config.json").write_text(json.dumps(config | {"num_hidden_layers": number}))
    weights = load_file(model / "model.safetensors")
    first = {
        name: weight
        for name, weight in weights.items()
        if not (layer := re.search(r"encoder\.layer\.(\d+)\.", name)) or int(layer[1]) < number
    }
    assert len(first) < len(weights)
    save_file(first, model / "model.safetensors", metadata={"format": "pt"})
    (model / "manifest.json").unlink()


def write_ready(model: Path, out: Path) -> None:
    """Write a fine-tuned model as somebody else would have saved it: labels in another order, and no task beside it."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, out)
    for name in ("task.json", "task-sources.json", "manifest.json"):
        (out / name).unlink()
    config = json.loads((out / "config.json").read_text())
    labels = [config["id2label"][str(number)] for number in range(5)]
    order = [3, 1, 4, 0, 2]
    config["id2label"] = {str(new): labels[old] for new, old in enumerate(order)}
    config["label2id"] = {labels[old]: new for new, old in enumerate(order)}
    (out / "config.json").write_text(json.dumps(config))
    weights = load_file(out / "model.safetensors")
    for part in ("weight", "bias"):
        weights[f"classifier.out_proj.{part}"] = weights[f"classifier.out_proj.{part}"][order].contiguous()
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def test_every_command_works_and_five_lead_to_answers(followed):
    _, said = followed
    answers = [out for command, out in said.items() if command.startswith("halfling predict")]
    assert len(answers) == 3
    for out in answers:
        assert all(re.search(r"\tlayer \d+\t", line) for line in out.splitlines()), out
    for name in ("intents", "products"):
        own = [command.split()[1] for command in said if f"runs/{name}" in command]
        assert own == ["finetune", "exits", "calibrate", "export", "predict", "evaluate", "report"]


@pytest.mark.parametrize(("name", "metric"), [("intents", "accuracy"), ("products", "span F1")])
def test_the_reports_show_int8_with_exits_beside_pytorch_in_every_language(name, metric, followed):
    folder, _ = followed
    rows = [json.loads(row) for row in (folder / f"runs/{name}-report/results.jsonl").read_text().splitlines()]
    assert {(row["runtime"], row["precision"], row["language"]) for row in rows} == {
        (*form, code) for form in (("engine", "int8"), ("pytorch", "float32")) for code in ("en", "sw", "ur")
    }
    assert {(row["metric"], row["language"], row["trained_on"]) for row in rows} == {
        (metric, code, code == "en") for code in ("en", "sw", "ur")
    }
    assert (folder / f"runs/{name}-report/index.html").is_file()


def test_a_model_whose_labels_stand_in_another_order_scores_the_same(followed, halfling):
    folder, _ = followed
    ended = halfling("exits", "runs/intents", "runs/again", "--method", "two_stage", "--epochs", "1", cwd=folder)
    assert ended.status == 0, ended.err
    for name in ("again", "ready-exits"):
        ended = halfling("export", f"runs/{name}", f"runs/{name}-plain", cwd=folder)
        assert ended.status == 0, ended.err
    models = [
        f"{name}/{form}=runs/{name}{end}"
        for name in ("again", "ready-exits")
        for form, end in (("engine", "-plain"), ("pytorch", ""))
    ]
    data = ("--languages", "en,sw")
    ended = halfling(
        "quality", "runs/scores", *(word for one in models for word in ("--model", one)), *data, cwd=folder
    )
    assert ended.status == 0, ended.err
    rows = [json.loads(row) for row in (folder / "runs/scores/quality.jsonl").read_text().splitlines()]
    scores = {
        name: {(r["runtime"], r["language"]): r["score"] for r in rows if r["model"] == name}
        for name in ("again", "ready-exits")
    }
    assert scores["again"] == scores["ready-exits"]
    assert len(scores["again"]) == 2 * 2
