import numpy as np

from halfling.tasks.encode import encode, training_row
from halfling.tasks.examples import TaggedExample, TextExample

NAMES = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC")


def same(one, other):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(one, other, strict=True)
        for name in ("ids", "picked", "words", "truncated")
    )


def test_the_first_sub_word_alone_carries_the_label(tiny_tokenizer):
    example = TaggedExample(("Anna", "bab", "Rome"), ("B-PER", "B-ORG", "B-LOC"))
    (encoded,) = encode([example], tiny_tokenizer, 40)
    pieces = tiny_tokenizer.convert_ids_to_tokens(encoded.ids)
    assert pieces == ["<s>", "▁Anna", "▁", "b", "a", "b", "▁Rome", "</s>"]
    assert encoded.picked.tolist() == [1, 2, 6]
    assert encoded.words.tolist() == [0, 1, 2]
    row = training_row(example, encoded, NAMES)
    assert row == {"input_ids": encoded.ids.tolist(), "labels": [-100, 1, 3, -100, -100, -100, 5, -100]}


def test_a_word_that_becomes_nothing_shifts_no_label(tiny_tokenizer):
    sentence = TaggedExample(("", "Anna", " ", "Rome"), ("B-ORG", "B-PER", "I-ORG", "B-LOC"))
    (encoded,) = encode([sentence], tiny_tokenizer, 40)
    assert tiny_tokenizer.convert_ids_to_tokens(encoded.ids)[1:-1] == ["▁Anna", "▁Rome"]
    assert training_row(sentence, encoded, NAMES)["labels"] == [-100, 1, 5, -100]
    assert (encoded.picked.tolist(), encoded.words.tolist()) == ([1, 2], [1, 3])


def test_words_beyond_max_tokens_have_no_place(tiny_tokenizer):
    sentences = [
        TaggedExample(("Anna", "lives", "in", "Rome"), ("B-PER", "O", "O", "B-LOC")),
        TaggedExample(("Anna", "Rome"), ("B-PER", "B-LOC")),
    ]
    encoded = encode(sentences, tiny_tokenizer, 4)
    assert [len(one.ids) for one in encoded] == [4, 4]
    assert [one.words.tolist() for one in encoded] == [[0, 1], [0, 1]]
    assert [one.truncated for one in encoded] == [True, False]


def test_a_pair_is_read_as_xlm_r_reads_it(tiny_tokenizer):
    example = TextExample("Anna lives", "no", "bye")
    (encoded,) = encode([example], tiny_tokenizer, 40)
    pieces = tiny_tokenizer.convert_ids_to_tokens(encoded.ids)
    assert pieces == ["<s>", "▁Anna", "▁lives", "</s>", "</s>", "▁no", "</s>"]
    assert (encoded.picked.tolist(), encoded.words) == ([0], None)
    assert training_row(example, encoded, ("hi", "bye"))["labels"] == 1


def test_a_text_is_read_alone(tiny_tokenizer):
    (encoded,) = encode([TextExample("Anna lives", None, "bye")], tiny_tokenizer, 40)
    assert tiny_tokenizer.convert_ids_to_tokens(encoded.ids) == ["<s>", "▁Anna", "▁lives", "</s>"]


def test_the_longer_of_a_pair_is_cut(tiny_tokenizer):
    (encoded,) = encode([TextExample("Anna lives in Rome", "no", "bye")], tiny_tokenizer, 8)
    pieces = tiny_tokenizer.convert_ids_to_tokens(encoded.ids)
    assert pieces == ["<s>", "▁Anna", "▁lives", "▁in", "</s>", "</s>", "▁no", "</s>"]
    assert encoded.truncated


def test_more_examples_than_are_encoded_at_once_keep_their_order(tiny_tokenizer, monkeypatch):
    sentences = [TaggedExample(("Anna",) * n, ("B-PER",) * n) for n in (3, 1, 4, 1, 5)]
    pairs = [TextExample("no " * n, "yes", "bye") for n in (3, 1, 4, 1, 5)]
    whole, whole_pairs = encode(sentences, tiny_tokenizer, 40), encode(pairs, tiny_tokenizer, 40)
    monkeypatch.setattr("halfling.tasks.encode._AT_ONCE", 2)
    assert same(encode(sentences, tiny_tokenizer, 40), whole)
    assert same(encode(pairs, tiny_tokenizer, 40), whole_pairs)
    assert [len(one.ids) for one in whole] == [5, 3, 6, 3, 7]


def test_a_model_is_taught_by_its_own_numbers_and_in_its_own_scheme(tiny_tokenizer):
    example = TaggedExample(("Anna", "Rome", "yes"), ("B-PER", "I-PER", "O"))
    (encoded,) = encode([example], tiny_tokenizer, 40)

    def taught(*labels):
        return [labels[number] for number in training_row(example, encoded, labels)["labels"] if number != -100]

    assert taught("I-PER", "B-PER", "O") == ["B-PER", "I-PER", "O"]
    assert taught("O", "I-PER") == ["I-PER", "I-PER", "O"]
    assert taught("S-PER", "E-PER", "O", "I-PER", "B-PER") == ["B-PER", "E-PER", "O"]
    assert taught("PER", "O") == ["PER", "PER", "O"]
