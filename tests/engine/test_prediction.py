import pytest

from halfling.engine.prediction import spans_of

TEXT = "Anna met U.S. Bank in Rome"
PLACES = [(0, 4), (5, 8), (9, 12), (12, 13), (14, 18), (19, 21), (22, 26)]
TAGS = ["B-PER", "O", "B-ORG", "I-ORG", "I-ORG", "O", "I-LOC"]


def test_a_span_is_a_piece_of_the_text_with_the_mean_of_its_words():
    person, bank, rome = spans_of(TEXT, PLACES, TAGS, [0.9, 1.0, 0.4, 0.6, 0.8, 1.0, 0.7], "IOB2")
    assert (bank.label, bank.text, TEXT[bank.start : bank.end]) == ("ORG", "U.S. Bank", "U.S. Bank")
    assert bank.score == pytest.approx(0.6)
    assert (person.text, rome.label, rome.text) == ("Anna", "LOC", "Rome")


def test_a_list_of_words_has_spans_of_words():
    words = [TEXT[slice(*place)] for place in PLACES]
    (_, bank, _) = spans_of(words, [(n, n + 1) for n in range(len(words))], TAGS, [1.0] * len(words), "IOB2")
    assert (bank.start, bank.end, bank.text) == (2, 5, "U.S . Bank")


def test_neighbours_of_another_kind_and_new_beginnings_are_spans_of_their_own():
    words = ["a", "b", "c", "d"]
    found = spans_of(words, [(n, n + 1) for n in range(4)], ["B-PER", "B-PER", "I-LOC", "I-LOC"], [1.0] * 4, "IOB2")
    assert [(one.label, one.start, one.end) for one in found] == [("PER", 0, 1), ("PER", 1, 2), ("LOC", 2, 4)]


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (["B-PER", "I-PER", "O", "B-LOC", "B-LOC"], "IOB2"),
        (["I-PER", "I-PER", "O", "I-LOC", "B-LOC"], "IOB1"),
        (["B-PER", "E-PER", "O", "S-LOC", "S-LOC"], "IOBES"),
        (["B-PER", "L-PER", "O", "U-LOC", "U-LOC"], "BILOU"),
    ],
)
def test_every_scheme_gives_the_same_spans(tags, scheme):
    words = ["Anna", "Smith", "likes", "Rome", "Paris"]
    found = spans_of(words, [(n, n + 1) for n in range(5)], tags, [1.0] * 5, scheme)
    assert [(one.label, one.text) for one in found] == [("PER", "Anna Smith"), ("LOC", "Rome"), ("LOC", "Paris")]


def test_bare_types_give_a_span_for_every_run():
    words = ["Anna", "Smith", "likes", "Rome"]
    found = spans_of(words, [(n, n + 1) for n in range(4)], ["PER", "PER", "O", "LOC"], [1.0] * 4, "types")
    assert [(one.label, one.start, one.end) for one in found] == [("PER", 0, 2), ("LOC", 3, 4)]


def test_parts_of_speech_are_tags_and_no_spans():
    assert spans_of(["Anna", "sings"], [(0, 1), (1, 2)], ["NOUN", "VERB"], [1.0, 1.0], "tags") == ()
