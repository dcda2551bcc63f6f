"""`halfling watch`: agreement with full depth by language, and what is said when something is wrong."""

import json
import lzma

import numpy as np
import pytest

from halfling.engine import AdaptiveEngine
from halfling.exits.bound import upper_bound
from halfling.exits.calibration import Calibration, OfLanguage, TradeOff
from halfling.exits.policy import ExitPolicy
from halfling.export.write import ExportSettings, export

WORDS = ["Anna", "lives", "in", "Rome", "yes", "no", "maybe"]


def of_text(threshold, bound):
    layers = {"layers": (1, 3), "thresholds": (threshold,)}
    point = TradeOff(**layers, quality=1, drop_bound=bound, flops_share=0.5, mean_exit_layer=2)
    return OfLanguage(policy=ExitPolicy(**layers), from_labels=False, point=point, num_texts=9, confidence=0.95)


@pytest.fixture
def exported(write_classifier, tiny_tasks, tmp_path):
    """A random classifier that answers Swahili and Turkish after its first layer, Urdu and all else at its last."""
    sets = {"sw": of_text(1.0, 3.0), "tr": of_text(1.0, 100.0), "ur": of_text(0.0, 5.0)}
    default = ExitPolicy(layers=(3,), thresholds=())
    (policy := tmp_path / "policy").mkdir()
    Calibration(task="any", policy=default, languages=sets, max_disagreement=99.0, curve=()).write(
        policy / "exit_policy.json"
    )
    (out := tmp_path / "served").mkdir()
    model = write_classifier(tmp_path / "model", tiny_tasks["intents"], [1, 2], seed=1)
    export(settings=ExportSettings(max_int8_drop=None), model=model, out=out, policy=policy)
    return out


@pytest.fixture
def file(tmp_path):
    random = np.random.default_rng(0)
    (path := tmp_path / "texts.txt").write_text(
        "\n".join(" ".join(random.choice(WORDS, random.integers(1, 9))) for _ in range(200)) + "\n\n"
    )
    return path


def test_each_language_is_held_against_its_promise(halfling, exported, file):
    words = [word for code in ("sw", "tr", "ur", "xx") for word in ("--unlabelled", f"{code}={file}")]
    said = halfling("watch", exported, *words, "--json")
    rows = json.loads(said.out)
    engine = AdaptiveEngine.from_pretrained(exported, threads=1)
    texts = file.read_text().split("\n")[:200]
    full = engine.predict(texts, "ur")  # whose set lets nobody leave early
    for row, code in zip(rows, ("sw", "tr", "ur", "xx"), strict=True):
        losses = np.array(
            [one.label != late.label for one, late in zip(engine.predict(texts, code), full, strict=True)]
        )
        assert (row["texts"], row["disagreement"]) == (200, round(100 * losses.mean(), 2))
        assert row["bound"] == round(100 * upper_bound(losses.astype(float)), 2)
    assert [(row["policy"], row["promised"], row["promise"]) for row in rows] == [
        ("sw", 3.0, "broken"),
        ("tr", 100.0, "kept"),
        ("ur", None, None),  # where nobody exits there is nothing to promise
        (None, None, None),  # nobody promised anything of the default
    ]
    assert said.status == 3
    fine = halfling("watch", exported, "--unlabelled", f"ur={file}", "--texts", "20")
    assert (fine.status, fine.err) == (0, "")
    assert [line.split() for line in fine.out.splitlines()] == [
        ["language", "policy", "texts", "layer", "disagreement", "bound", "promised", "promise"],
        ["ur", "ur", "20", "3.00", "0.00", "13.91", "-", "-"],
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sw={folder}"], "{folder}: is a folder: name a file with a text a line"),
        (["sw={folder}/none"], "{folder}/none: cannot be read (No such file or directory)"),
        (["sw={folder}/empty"], "{folder}/empty: no text that the model answers: name other text"),
        (["sw={folder}/empty.csv"], "{folder}/empty.csv: is empty: a table has a header, and a text a row"),
        (["sw={folder}/head.csv"], "{folder}/head.csv: no text that the model answers: name other text"),
        (
            ["klingon={folder}/empty"],
            "--unlabelled klingon: no code of a language, as sw or zh-Hant: {sets}",
        ),
        (["s w={folder}/empty"], "--unlabelled s w: no code of a language, as sw or zh-Hant: {sets}"),
    ],
)
def test_what_cannot_be_watched_is_one_line(words, message, error, exported, tmp_path):
    (tmp_path / "empty").write_text("\n \n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "head.csv").write_text("text,id\n")
    given = [part for word in words for part in ("--unlabelled", word.format(folder=tmp_path))]
    sets = "the model has thresholds for sw, tr, ur"
    assert error("watch", exported, *given) == message.format(folder=tmp_path, sets=sets)


def test_columns_of_no_table_are_refused_here_and_by_predict(error, halfling, exported, file, tmp_path):
    said = "--column text: columns are of a .csv or .tsv, and there is none: leave it out"
    assert error("watch", exported, "--unlabelled", f"sw={file}", "--column", "text") == said
    assert error("predict", exported, "--file", file, "--column", "text") == said
    assert error("predict", exported, "yes", "--column", "text") == said
    (table := tmp_path / "more.csv").write_text("id,mine\n" + "1,yes\n" * 90)
    words = ("--unlabelled", f"ur={file}", "--unlabelled", f"sw={table}", "--column", "mine", "--json")
    assert [row["texts"] for row in json.loads(halfling("watch", exported, *words).out)] == [200, 90]


def test_compressed_texts_are_read_as_the_calibration_reads_them(halfling, exported, file, tmp_path):
    packed = tmp_path / "TEXTS.TXT.XZ"
    packed.write_bytes(lzma.compress(file.read_bytes()))
    words = ("--unlabelled", f"ur={packed}", "--json")
    assert [row["texts"] for row in json.loads(halfling("watch", exported, *words).out)] == [200]
    packed.write_bytes(packed.read_bytes()[:-9])
    said = halfling("watch", exported, *words)
    assert (said.status, said.err) == (1, f"error: {packed}: truncated: fetch the file again\n")


def test_what_is_no_language_is_refused_by_predict_too(error, exported):
    said = "--language klingon: no code of a language, as sw or zh-Hant: the model has thresholds for sw, tr, ur"
    assert error("predict", exported, "yes", "--language", "klingon") == said


def test_a_language_without_thresholds_of_its_own_is_noted_as_predict_does(halfling, exported, file):
    note = "note: no thresholds of its own for 'zh-Hant' (there are sw, tr, ur): the default's hold\n"
    assert halfling("watch", exported, "--unlabelled", f"zh-Hant={file}", "--unlabelled", f"ur={file}").err == note
    assert halfling("predict", exported, "yes", "--language", "zh-Hant").err == note


@pytest.mark.parametrize("words", [["sw"], ["=a"], ["sw="], ["sw=a", "sw=b"]])
def test_what_is_no_language_and_file_is_refused(words, halfling, tmp_path):
    said = halfling("watch", tmp_path, *(part for word in words for part in ("--unlabelled", word)))
    assert said.status == 2
