import pytest

from halfling.tasks import presets
from halfling.tasks.extent import Extent, train_extent
from halfling.tasks.task import Task


def test_examples_are_counted_and_tokens_follow_from_bytes(tmp_path):
    # Latin script: 3.6 bytes a token. 18 bytes are 5 tokens and 2 special ones; 72 are 20, cut to 12.
    (tmp_path / "a.csv").write_text("text,label\n" + "a" * 18 + ",x\n" + "b" * 72 + ",y\n")
    task = Task(name="t", train={"en": str(tmp_path / "a.csv")})
    assert train_extent(task, 12) == Extent(2, 7 + 12)
    assert train_extent(task, 12, most=1) == Extent(1, 7)
    both = task.model_copy(update={"train": {"en": str(tmp_path / "a.csv"), "hi": str(tmp_path / "a.csv")}})
    assert train_extent(both, 12) == Extent(4, 19 + 4 + 11)  # Devanagari: 7.6 bytes a token


def test_a_pair_has_four_special_tokens_and_a_word_one_token_at_least(tmp_path):
    (tmp_path / "a.tsv").write_text("text\ttext_pair\tlabel\n" + "a" * 18 + "\t" + "b" * 18 + "\tx\n")
    assert train_extent(Task(name="p", train={"en": str(tmp_path / "a.tsv")}, dev={"en": "b"}), 30) == Extent(1, 14)
    (tmp_path / "a.conll").write_text("a O\nb O\nc O\nd O\n")
    assert train_extent(Task(name="n", train={"en": str(tmp_path / "a.conll")}, dev={"en": "b"}), 30) == Extent(1, 6)


@pytest.mark.parametrize(("name", "examples"), [("xnli", 392_702), ("wikiann", 20_000)])
def test_a_preset_says_how_much_the_hub_holds(name, examples):
    task = Task(**presets.preset(name, "hub"))
    found = train_extent(task, 128)
    assert found.examples == examples
    assert 10 < found.tokens / examples < 50
    assert train_extent(task, 128, most=100).examples == 100


def test_what_nobody_can_read_yet_is_not_guessed(tmp_path):
    assert train_extent(Task(name="t", train={"en": str(tmp_path / "nowhere.csv")}), 30) is None
    assert train_extent(Task(name="t", train={"en": "hub:some/set:en:train"}), 30) is None
