import random

import pytest

from halfling.tasks.tags import as_iob2, fitted, is_prefixed, scheme_of, spans, types_of

SAME = {
    "IOB1": "I-PER I-PER B-PER O I-LOC I-PER O",
    "IOB2": "B-PER I-PER B-PER O B-LOC B-PER O",
    "IOBES": "B-PER E-PER S-PER O S-LOC S-PER O",
    "BILOU": "B-PER L-PER U-PER O U-LOC U-PER O",
}


@pytest.mark.parametrize("scheme", SAME)
def test_a_scheme_is_recognised_and_says_the_same_in_iob2(scheme):
    tags = SAME[scheme].split()
    assert scheme_of([tags]) == scheme
    assert as_iob2(tags) == SAME["IOB2"].split()


def test_bare_types_are_spans_where_there_is_an_o_and_tags_of_words_where_there_is_none():
    assert scheme_of([["PER", "PER", "O"], ["LOC"]]) == "types"
    assert as_iob2(["PER", "PER", "O", "LOC", "PER"], prefixed=False) == ["B-PER", "I-PER", "O", "B-LOC", "B-PER"]
    assert scheme_of([["NOUN", "VERB"]]) == "tags"


def test_a_stray_inner_tag_does_not_make_iob2_another_scheme():
    assert scheme_of([["B-PER", "I-PER"], ["B-LOC"], ["O", "I-LOC"]]) == "IOB2"


def test_tags_in_two_schemes_are_refused():
    with pytest.raises(ValueError, match="'PER' has no prefix, 'B-LOC' has one: write all in one scheme"):
        scheme_of([["PER", "O"], ["B-LOC"]])


def test_spans_name_type_and_both_ends():
    tags = ["B-PER", "I-PER", "B-PER", "O", "I-LOC", "I-ORG", "I-ORG"]
    assert list(spans(tags)) == [("PER", 0, 1), ("PER", 2, 2), ("LOC", 4, 4), ("ORG", 5, 6)]


LABELS = {
    "IOB1": ("O", "I-LOC", "I-PER", "B-LOC", "B-PER"),
    "IOB2": ("B-LOC", "O", "I-LOC", "I-PER", "B-PER"),
    "IOBES": ("O", *(f"{prefix}-{kind}" for kind in ("PER", "LOC") for prefix in "BIES")),
    "BILOU": ("O", *(f"{prefix}-{kind}" for kind in ("PER", "LOC") for prefix in "BILU")),
}


@pytest.mark.parametrize("scheme", LABELS)
def test_random_spans_survive_the_way_into_a_models_labels_and_back(scheme):
    dice = random.Random(0)
    for _ in range(300):
        drawn = [dice.choice(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]) for _ in range(dice.randint(1, 12))]
        iob2 = as_iob2(drawn)
        written = fitted(iob2, LABELS[scheme])
        assert None not in written
        assert as_iob2(written) == iob2
        assert list(spans(written)) == list(spans(iob2)) == list(spans(drawn))


def test_a_model_is_taught_in_its_own_scheme():
    tags = SAME["IOB2"].split()
    for scheme in ("IOB2", "IOBES", "BILOU"):
        assert fitted(tags, LABELS[scheme]) == SAME[scheme].split()
    # As published for CoNLL 2003: a B- only for the types of which two ever stood side by side.
    assert fitted(["B-PER", "I-PER", "O", "B-LOC", "B-LOC"], ("B-LOC", "I-LOC", "I-PER", "O")) == (
        ["I-PER", "I-PER", "O", "I-LOC", "B-LOC"]
    )
    assert fitted(tags, ("O", "LOC", "PER")) == ["PER", "PER", "PER", "O", "LOC", "PER", "O"]


def test_a_tag_that_a_model_has_no_word_for_is_none():
    assert fitted(["B-ORG", "I-ORG", "O", "B-PER"], LABELS["IOB2"]) == [None, None, "O", "B-PER"]
    assert fitted(["B-ORG", "O"], ("O", "PER")) == [None, "O"]
    assert fitted(["NOUN", "VERB"], ("NOUN", "ADJ")) == ["NOUN", None]


def test_a_label_of_a_model_that_is_none_of_a_span_is_passed_over():
    labels = ("O", "B-PER", "I-PER", "X")
    assert is_prefixed(labels)
    assert types_of(labels) == {"PER"}
    assert list(spans(["B-PER", "X", "I-PER"])) == [("PER", 0, 0), ("PER", 2, 2)]
