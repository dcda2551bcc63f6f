import pytest

from halfling.engine.prediction import spans_of

TEXT = "Anna met U.S. Bank in Rome"
PLACES = [(0, 4), (5, 8), (9, 12), (12, 13), (14, 18), (19, 21), (22, 26)]
TAGS = ["B-PER", "O", "B-ORG", "I-ORG", "I-ORG", "O", "I-LOC"]


def test_a_span_is_a_piece_of_the_text_with_the_mean_of_its_words():
    person, bank, rome = spans_of(TEXT, PLACES, TAGS, [0.9, 1.0, 0.4, 0.6, 0.8, 1.0, 0.7])
    assert (bank.label, bank.text, TEXT[bank.start : bank.end]) == ("ORG", "U.S. Bank", "U.S. Bank")
    assert bank.score == pytest.approx(0.6)
    assert (person.text, rome.label, rome.text) == ("Anna", "LOC", "Rome")


def test_a_list_of_words_has_spans_of_words():
    words = [TEXT[slice(*place)] for place in PLACES]
    (_, bank, _) = spans_of(words, [(n, n + 1) for n in range(len(words))], TAGS, [1.0] * len(words))
    assert (bank.start, bank.end, bank.text) == (2, 5, "U.S . Bank")


def test_neighbours_of_another_kind_and_new_beginnings_are_spans_of_their_own():
    words = ["a", "b", "c", "d"]
    found = spans_of(words, [(n, n + 1) for n in range(4)], ["B-PER", "B-PER", "I-LOC", "I-LOC"], [1.0] * 4)
    assert [(one.label, one.start, one.end) for one in found] == [("PER", 0, 1), ("PER", 1, 2), ("LOC", 2, 4)]


def test_parts_of_speech_are_tags_and_no_spans():
    assert spans_of(["Anna", "sings"], [(0, 1), (1, 2)], ["NOUN", "VERB"], [1.0, 1.0]) == ()
