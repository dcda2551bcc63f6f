import re

import pytest

from halfling.errors import HalflingError
from halfling.tasks.examples import TaggedExample, read_examples
from halfling.tasks.task import Task

TWO = [TaggedExample(("Anna", "Bo", "."), ("B-PER", "I-PER", "O")), TaggedExample(("Rome",), ("B-LOC",))]


@pytest.fixture
def read(tmp_path):
    """A function that reads a text as the CoNLL file of a task."""

    def read_text(text, **fields):
        (tmp_path / "dev.conll").write_bytes(text.encode())
        return read_examples(Task(kind="tagging", dev={"sw": str(tmp_path / "dev.conll")}, **fields), "dev", "sw")

    return read_text


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n\n\n", "\n \t\n"])
def test_sentences_end_at_blank_lines_or_at_the_end(read, end):
    assert read("Anna\tB-PER\nBo\tI-PER\n.\tO\n\nRome\tB-LOC" + end) == TWO


@pytest.mark.parametrize(
    "text",
    [
        "Anna B-PER\nBo   I-PER\n. O\n\nRome \t B-LOC\n",
        "Anna\tNNP\tB-PER\nBo\tNNP\tI-PER\n.\t.\tO\n\nRome\tNNP\tB-LOC\n",
        "-DOCSTART- -X- O O\n\nAnna N B-NP I-PER\nBo N I-NP I-PER\n. . O O\n\n-DOCSTART- -X- O O\n\nRome N B-NP I-LOC",
        "# id = 1\n# Anna Bo.\nAnna S B-PER\nBo S E-PER\n. S O\n\n# id = 2\nRome S S-LOC\n",
        "Anna\tB-PER\nBo\tL-PER\n.\tO\n\nRome\tU-LOC\n",
        "Anna PER\nBo PER\n. O\n\nRome LOC\n",
        "\ufeffAnna B-PER\r\nBo I-PER\r\n. O\r\n\r\nRome B-LOC\r\n",
    ],
)
def test_columns_schemes_comments_and_line_ends_of_all_kinds_say_the_same(read, text):
    assert read(text) == TWO


def test_a_hash_is_a_word_too(read):
    assert read("# O\nAnna B-PER\n# O\n") == [TaggedExample(("#", "Anna", "#"), ("O", "B-PER", "O"))]


def test_columns_are_told_by_number(read):
    text = "1\tB-PER\tAnna\tNNP\n2\tO\tlives\tVBZ\n"
    assert read(text, words="3", label="2") == [TaggedExample(("Anna", "lives"), ("B-PER", "O"))]
    assert read(text, words="3") == [TaggedExample(("Anna", "lives"), ("NNP", "VBZ"))]


def test_a_token_may_be_any_space_but_a_tab_or_newline(read):
    odd = ("\u200b", "\xa0", "\u2028", "\x0b", "a\rb")
    for between in ("\t", " "):
        assert read("".join(f"{word}{between}O\n" for word in odd)) == [TaggedExample(odd, ("O",) * 5)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "Anna B-PER\n\nBo\n",
            "line 3: malformed: expected 2 columns between spaces, found 'Bo'",
        ),
        ("Anna\tO\na\tb\tO\n", "line 2: malformed: expected 2 columns between tabs"),
        ("Anna\nlives\n", "line 1: malformed: expected 2 columns between spaces"),
        ("\tO\n", "line 1: malformed: an empty column"),
        ("Anna\t\n", "line 1: malformed: an empty column"),
        ("\n\n", "empty"),
        ("-DOCSTART- O\n\n# nothing\n", "empty"),
        ("", "empty"),
        ("Anna PER\n\nBo B-PER\n", "tag 'PER' has no prefix, 'B-PER' has one"),
    ],
)
def test_a_bad_file_is_named_with_its_line(read, tmp_path, text, message):
    with pytest.raises(
        HalflingError, match=f"^{re.escape(str(tmp_path / 'dev.conll'))}.*{re.escape(message)}"
    ) as caught:
        read(text)
    assert "\n" not in str(caught.value)


def test_a_column_that_is_not_there_is_one_line(read):
    with pytest.raises(HalflingError, match="line 1: malformed: expected 3 columns between spaces"):
        read("Anna O\n", label="3")


def test_a_tag_that_does_not_fit_names_both_sets(read):
    with pytest.raises(
        HalflingError,
        match=r"dev.conll, sentence 2: label 'B-MISC' is none of the task's \(O, B-PER, I-PER\); "
        r"the data have B-MISC, B-PER, O$",
    ):
        read("Anna B-PER\n\nBo B-MISC\n. O\n", labels=("O", "B-PER", "I-PER"))
