"""Sets by language from text without labels: the whole stage, and how text is read."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from halfling.calibrate import stage, text
from halfling.calibrate.settings import CalibrateSettings
from halfling.calibrate.stage import calibrate
from halfling.calibrate.text import read_text
from halfling.errors import HalflingError
from halfling.exits.calibration import Calibration
from halfling.exits.policy import ExitPolicy, most_cautious
from halfling.models.classifier import load_classifier
from halfling.models.load import load_tokenizer
from halfling.tasks.encode import encode
from halfling.tasks.examples import TaggedExample, TextExample, read_examples
from halfling.tasks.of_model import task_of
from halfling.tasks.predict import answers, predict
from halfling.tasks.tags import spans

WORDS = ["Anna", "lives", "in", "Rome", "yes", "no", "maybe"]
PLAIN = {"max_tokens": 24, "batch_size": 50, "timing": "none", "resamples": 100, "engine": "onnx"}


def lines(number: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(1, 9))) for _ in range(number)]


@pytest.fixture
def model(tmp_path, tiny_tasks, write_classifier):
    """A function that writes a random early-exit model of three layers with exits after each."""
    return lambda task: write_classifier(tmp_path / f"model-{task}", tiny_tasks[task], [1, 2, 3], seed=1)


def calibrated(model: Path, out: Path, unlabelled, **changes):
    out.mkdir(exist_ok=True)
    settings = CalibrateSettings(**(PLAIN | changes))
    counts = calibrate(settings=settings, model=model, out=out, unlabelled=unlabelled)
    return Calibration.read(out / "exit_policy.json"), counts


@pytest.mark.parametrize(
    ("task", "changes"),
    [("moods", {}), ("pairs", {}), ("names", {"granularity": "token"}), ("moods", {"flops_share": 0.8})],
)
def test_a_language_with_text_alone_gets_a_set_and_its_numbers_are_those_of_the_model(task, changes, model, tmp_path):
    folder, file = model(task), tmp_path / "sw.txt"
    pairs = [f"{one}\t{two}" for one, two in zip(lines(200), lines(200, 1), strict=True)]
    file.write_text("\n".join(pairs if task == "pairs" else lines(200)))
    wish = changes if "flops_share" in changes else {"max_disagreement": 80, **changes}
    found, counts = calibrated(folder, tmp_path / "out", {"sw": file}, **wish)
    assert [*found.languages] == ["en", "sw"]
    labelled, swahili = found.languages.values()
    assert (labelled.from_labels, swahili.from_labels) == (True, False)
    assert found.chosen == labelled.point
    assert found.policy == most_cautious([labelled.policy, swahili.policy])
    assert swahili.policy.is_early
    assert counts["flops_share, sw"] == round(swahili.point.flops_share, 4) < 1
    assert swahili.point.drop <= swahili.point.drop_bound
    # The disagreement is counted anew on the half that bounds it, by running the model.
    whole, network = task_of(folder), load_classifier(folder)
    tokenizer = load_tokenizer(folder)
    texts = read_text(file, "sw", whole.kind, read_examples(whole, "dev", "en"), tokenizer, 2000, 0)
    held = np.random.default_rng([0, 1]).permutation(len(texts)) % 2 == 1
    cut = [one for one, is_held in zip(encode(texts, tokenizer, 24), held, strict=True) if is_held]
    words = [len(one.words) for one, is_held in zip(texts, held, strict=True) if is_held] if task == "names" else None
    early, full = (
        answers(predict(network, cut, 9, policy=policy).logits, cut, whole.labels, words)
        for policy in (swahili.policy, ExitPolicy(layers=(3,), thresholds=()))
    )
    if task != "names":
        assert swahili.num_texts == len(full) == held.sum() >= 85
        assert swahili.point.drop == pytest.approx(100 * np.mean([a != b for a, b in zip(early, full, strict=True)]))
    else:
        spans_of = [[{*spans(tags)} for tags in given] for given in (early, full)]
        counted = [(a, b) for a, b in zip(*spans_of, strict=True) if a or b]
        losses = [1 - 2 * len(a & b) / (len(a) + len(b)) for a, b in counted]
        assert swahili.num_texts == len(counted) <= 100
        assert swahili.point.drop == pytest.approx(100 * np.mean(losses))


def test_it_is_said_where_pairs_are_made_up_and_what_that_means(model, tmp_path):
    pairs = [f"{one}\t{two}" for one, two in zip(lines(200), lines(200, 1), strict=True)]
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "sw.txt").write_text("\n".join(f"{line}." for line in lines(800)))
    (file := tmp_path / "ur.txt").write_text("\n".join(pairs))
    folder, given = model("pairs"), {"sw": tmp_path / "text", "ur": file}
    _, counts = calibrated(folder, tmp_path / "out", given, max_disagreement=80)
    assert counts["says"][:1] == [
        "sw: pairs are neighbouring sentences of a corpus: the bound holds of these alone: give pairs of the task "
        "where you have them, two texts a line with a tab between"
    ]
    _, counts = calibrated(folder, tmp_path / "pairs", {"ur": file}, max_disagreement=80)
    assert "neighbouring" not in str(counts.get("says"))


def test_labels_are_used_where_there_are_some_and_that_is_said(model, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("\n".join(lines(100)))
    folder = model("moods")
    settings = {"max_disagreement": 40, "languages": ("en", "sw")}
    found, counts = calibrated(folder, tmp_path / "out", {"sw": file, "ur": file}, **settings)
    assert {code: one.from_labels for code, one in found.languages.items()} == {"en": True, "sw": True, "ur": False}
    assert counts["labels_instead_of_text"] == "sw"
    assert "flops_share, sw" not in counts


def test_without_text_the_file_is_that_of_one_set(model, tmp_path):
    found, _ = calibrated(model("moods"), tmp_path / "out", None)
    assert found.languages == {}
    assert found.chosen is not None
    assert found.max_disagreement is None


def test_a_policy_file_of_before_languages_is_read(tmp_path):
    point = {"layers": [3], "thresholds": [], "quality": 0.8, "flops_share": 1.0, "mean_exit_layer": 3.0}
    policy = {"layers": [2, 3], "thresholds": [0.5], "criterion": "entropy", "token_pooling": "mean", "model": "ab"}
    (tmp_path / "exit_policy.json").write_text(
        json.dumps({"task": "t", "language": "en", "metric": "accuracy", "policy": policy, "curve": [point]})
    )
    found = Calibration.read(tmp_path / "exit_policy.json")
    assert (found.policy.thresholds, found.languages, found.policies) == ((0.5,), {}, {})


def test_the_most_cautious_policy_lets_nobody_leave_whom_another_would_keep():
    one, two = (
        ExitPolicy(layers=(1, 2, 3, 6), thresholds=(0.1, 0.5, 0.3)),
        ExitPolicy(layers=(2, 3, 6), thresholds=(0.2, 0.4)),
    )
    assert most_cautious([one, two]) == ExitPolicy(layers=(2, 3, 6), thresholds=(0.2, 0.3))
    nobody = ExitPolicy(layers=(6,), thresholds=())
    assert most_cautious([one, nobody]) == nobody
    patient = [
        ExitPolicy(layers=(1, 2, 3), thresholds=(0.5 / n,) * 2, criterion="patience", patience=n) for n in (1, 2)
    ]
    assert most_cautious(patient) == patient[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"sw\.txt: holds no text: write a text a line"),
        ("Anna in Rome\n", r"sw\.txt, sw: 0 texts in each half are too few"),
        ("Anna in Rome\nno\n", r"sw\.txt, sw: 1 texts in each half are too few .* at least 299 are needed: give more"),
    ],
)
def test_text_that_is_empty_or_too_short_is_one_line_and_nothing_is_written(content, message, model, tmp_path):
    (tmp_path / "sw.txt").write_text(content)
    with pytest.raises(HalflingError, match=message):
        calibrated(model("moods"), tmp_path / "out", {"sw": tmp_path / "sw.txt"})
    assert not list((tmp_path / "out").iterdir())


def test_a_line_without_a_second_text_is_refused_for_pairs(model, tmp_path):
    (tmp_path / "sw.txt").write_text("one\ttwo\nalone\n")
    with pytest.raises(HalflingError, match=r"sw\.txt, text 2: no pair: write both texts in a line, with a tab"):
        calibrated(model("pairs"), tmp_path / "out", {"sw": tmp_path / "sw.txt"})


@pytest.mark.parametrize("name", ["sw.csv", "sw.CSV", "sw.conll", "sw.csv.xz"])
def test_a_table_is_no_text_a_line(name, model, tmp_path):
    (tmp_path / name).write_text("id,text\n1,habari\n")
    with pytest.raises(HalflingError, match=r"texts are read from \.txt and \.txt\.xz: write a text a line"):
        calibrated(model("moods"), tmp_path / "out", {"sw": tmp_path / name})


def test_a_file_is_read_line_by_line_and_a_line_that_is_there_twice_counts_once(model, tmp_path):
    long = [f"number {number} " + "x" * 200 for number in range(100_000)]  # longer than any document may be
    (tmp_path / "sw.txt").write_text(
        "\ufeff" + "\n".join(["habari", "  habari ", "", "nzuri\r", *long]), encoding="utf-8"
    )
    found = read_text(tmp_path / "sw.txt", "sw", "text_classification", [], None, 10**6, 0)
    assert sorted(one.text for one in found) == sorted(["habari", "nzuri", *long])


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (["swahili texts"], "--unlabelled swahili texts: no code of a language"),
        (["auto"], "--unlabelled auto: no code of a language"),
        (["EN"], "--unlabelled EN: is en, written otherwise: write it as en"),
        (["sw_KE", "sw-ke"], "--unlabelled sw-ke: is sw_KE, written otherwise"),
    ],
)
def test_what_is_no_language_or_one_twice_is_refused(codes, message, model, tmp_path):
    (tmp_path / "any.txt").write_text("\n".join(lines(50)))
    with pytest.raises(HalflingError, match=message):
        calibrated(model("moods"), tmp_path / "out", dict.fromkeys(codes, tmp_path / "any.txt"))


def test_where_nobody_exits_in_a_language_the_default_is_said_to_let_nobody_exit(model, tmp_path):
    (tmp_path / "sw.txt").write_text("\n".join(lines(400)))
    found, counts = calibrated(model("moods"), tmp_path / "out", {"sw": tmp_path / "sw.txt"}, max_disagreement=2)
    assert not found.policies["sw"].is_early
    assert (counts["layers, default"], counts["thresholds, default"]) == ((3,), ())
    assert any(
        line.startswith("sw: hardly anybody exits, so hardly anybody does by the default") for line in counts["says"]
    )
    assert found.promised("sw") is None


def test_sets_that_share_no_exit_leave_none_to_the_default_and_that_is_said(model, tmp_path, monkeypatch):
    (tmp_path / "sw.txt").write_text("\n".join(lines(400)))
    chosen = [ExitPolicy(layers=layers, thresholds=(1.0,)) for layers in ((1, 3), (2, 3))]
    monkeypatch.setattr(stage, "most_cautious", lambda _: most_cautious(chosen))
    found, counts = calibrated(model("moods"), tmp_path / "out", {"sw": tmp_path / "sw.txt"}, max_disagreement=90)
    assert not found.policy.is_early
    assert any(line.startswith("the sets of en, sw share no exit, so by the default") for line in counts["says"])


def test_one_text_written_in_several_ways_counts_once(model, tmp_path):
    ways = ["Anna  lives in\tRome", "Anna lives in Rome", "Anna\u00a0lives in  Rome", "yes"]
    (tmp_path / "sw.txt").write_text("\n".join(ways), encoding="utf-8")
    with pytest.raises(HalflingError, match="sw: 1 texts in each half are too few"):
        calibrated(model("moods"), tmp_path / "out", {"sw": tmp_path / "sw.txt"}, max_disagreement=20)


def test_who_draws_too_few_of_many_texts_is_told_to_draw_more(model, tmp_path):
    (tmp_path / "sw.txt").write_text("\n".join(f"{line} {'ab' * n}" for n, line in enumerate(lines(9))))
    wish = {"max_disagreement": 20, "text_sentences": 8}
    said = "at least 14 are needed: set text_sentences above 8, or set max_disagreement=52.8"
    with pytest.raises(HalflingError, match=said):
        calibrated(model("moods"), tmp_path / "out", {"sw": tmp_path / "sw.txt"}, **wish)
    for wish in ({}, {"text_sentences": 9}):
        with pytest.raises(HalflingError, match="needed: give more text, or set"):
            calibrated(model("moods"), tmp_path / "out", {"sw": tmp_path / "sw.txt"}, max_disagreement=20, **wish)


def test_the_end_of_a_long_file_is_drawn_as_often_as_its_beginning(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_MOST_KEPT", 100)
    (tmp_path / "sw.txt").write_text("".join(f"line {n}\n" * (1 + n % 3) for n in range(1000)))

    def drawn(seed: int) -> set[int]:
        found = read_text(tmp_path / "sw.txt", "sw", "text_classification", [], None, 10**6, seed)
        assert len(found) == 100
        return {int(one.text.split()[1]) for one in found}

    assert drawn(0) == drawn(0) != drawn(1)
    assert len(drawn(0)) == 100
    places = np.array(sorted(drawn(0)))
    assert 30 < (places < 500).sum() < 70
    assert 20 < (places % 3 == 2).sum() < 47  # a line that comes three times is no likelier


def test_a_drop_of_any_size_promises_no_more_than_can_be_promised_of_text():
    assert CalibrateSettings(**PLAIN, max_drop=100.0).text_wish.limit == 99


def test_texts_that_are_cut_are_said(model, tmp_path):
    (tmp_path / "sw.txt").write_text("\n".join(" ".join([line] * 9) for line in lines(300)))
    _, counts = calibrated(model("moods"), tmp_path / "out", {"sw": tmp_path / "sw.txt"}, max_disagreement=80)
    assert any("are longer than max_tokens=24 and were cut" in line for line in counts["says"])


def test_dev_texts_that_are_cut_are_said(model, tmp_path):
    _, counts = calibrated(model("pairs"), tmp_path / "out", None, max_drop=90, max_tokens=8)
    assert any(re.match(r"en: \d+ of \d+ texts are longer than max_tokens=8", line) for line in counts["says"])


def test_labels_too_few_for_their_bound_are_said(model, tmp_path):
    _, counts = calibrated(model("moods"), tmp_path / "out", None, max_drop=90)
    assert "says" not in counts
    _, counts = calibrated(model("moods"), tmp_path / "few", None, max_drop=90, max_examples=2)
    assert counts["says"] == [
        "1 dev texts bound the drop: of fewer than 2 a bound of 90 points is too low: give more, or take the drop for "
        "a guess"
    ]
    found, counts = calibrated(model("moods"), tmp_path / "share", None, flops_share=0.9, max_examples=2)
    assert counts["says"] == ["1 dev texts bound the drop: too few: give more, or take the drop for a guess"]
    found, _ = calibrated(model("moods"), tmp_path / "one", None, flops_share=0.9, max_examples=1)
    assert found.chosen.drop_bound == 100, "nothing was held back to bound it"


@pytest.mark.parametrize(("task", "more"), [("moods", ""), ("pairs", " (of pairs with method=joint)")])
def test_that_nobody_exits_is_said_with_what_to_do(task, more, model, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "choose", lambda _, points, *__: next(iter(points)))
    found, counts = calibrated(model(task), tmp_path / "out", None, max_drop=0.0)
    assert not found.policy.is_early
    assert counts["says"][0] == (
        f"nobody exits: no thresholds keep max_drop=0: allow more, or train the exits for longer{more}"
    )


def test_a_limit_of_disagreement_without_text_is_refused(model, tmp_path):
    with pytest.raises(HalflingError, match="max_disagreement is of text without labels: give some"):
        calibrated(model("moods"), tmp_path / "out", None, max_disagreement=3)


def test_a_limit_of_disagreement_beside_one_of_arithmetic_is_refused():
    with pytest.raises(ValueError, match="max_disagreement and flops_share: ask for one of them"):
        CalibrateSettings(max_disagreement=3, flops_share=0.7)


LIKE = [TextExample("two words", "and three words", "x")] * 9


def test_paragraphs_of_a_folder_become_sentences_as_long_as_the_tasks(tmp_path):
    (tmp_path / "sw.txt").write_text("One two. Three four five! Six\nSeven, eight? A b c d e f g.\n\nOne two. Nine ten")
    found = read_text(tmp_path, "sw", "text_classification", LIKE, None, 99, 0)
    assert {one.text for one in found} == {"One two.", "Three four five!", "Seven, eight?", "Nine ten"}
    tagged = read_text(tmp_path, "sw", "tagging", [TaggedExample(("a", "b"), ("O", "O"))], None, 99, 0)
    assert TaggedExample(("Seven", ",", "eight", "?"), ("O",) * 4) in tagged


def test_pairs_of_a_folder_are_neighbours_and_share_no_sentence(tmp_path):
    (tmp_path / "sw.txt").write_text("A a. B b. C c. D d. E e e e e. F f.\n\nG g. H h.")
    found = read_text(tmp_path, "sw", "pair_classification", LIKE, None, 99, 0)
    assert {(one.text, one.text_pair) for one in found} == {("A a.", "B b."), ("C c.", "D d."), ("G g.", "H h.")}


def test_a_corpus_and_a_packed_one_are_read(corpus, tmp_path, tokenizer_folder):
    from halfling.tokens.pack import PackSettings, pack_corpus

    (out := tmp_path / "packed").mkdir()
    pack_corpus(settings=PackSettings(block_tokens=64), corpus=corpus, tokenizer=tokenizer_folder, out=out)
    like = [TextExample("a b c d e f g h", None, "x"), TextExample(" ".join("a" * 40), None, "x")]
    tokenizer = load_tokenizer(tokenizer_folder)
    for folder in (corpus, out):
        found = read_text(folder, "sw", "text_classification", like, tokenizer, 20, 0)
        assert len(found) == 20
        assert all("mto" in one.text or any(word in one.text for word in ("watoto", "na", "kinu")) for one in found)
        with pytest.raises(HalflingError, match=f"{folder}: holds no text in ur: name a corpus"):
            read_text(folder, "ur", "text_classification", like, tokenizer, 20, 0)


def test_the_command_takes_text_by_language(model, tmp_path, halfling, error):
    file = tmp_path / "sw.txt"
    file.write_text("\n".join(lines(100)))
    folder = model("moods")
    said = halfling(
        "calibrate",
        folder,
        tmp_path / "out",
        "--unlabelled",
        f"sw={file}",
        "--max-disagreement",
        40,
        "--timing",
        "none",
        "--max-tokens",
        24,
    )
    assert said.status == 0, said.err
    assert "disagreement_bound, sw" in said.out
    assert "sw" in Calibration.read(tmp_path / "out" / "exit_policy.json").languages
    assert halfling("calibrate", folder, tmp_path / "no", "--unlabelled", file).status == 2
