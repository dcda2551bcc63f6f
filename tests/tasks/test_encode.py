from halfling.tasks.encode import encode_wikiann, encode_xnli, pad_rows
from halfling.tasks.wikiann import NerExample
from halfling.tasks.xnli import NliExample


def test_the_first_sub_word_alone_carries_the_label(tiny_tokenizer):
    encoded = encode_wikiann([NerExample(("Anna", "bab", "Rome"), (1, 3, 5))], tiny_tokenizer, 40)
    pieces = tiny_tokenizer.convert_ids_to_tokens(encoded.rows[0]["input_ids"])
    assert pieces == ["<s>", "▁Anna", "▁", "b", "a", "b", "▁Rome", "</s>"]
    assert encoded.rows[0]["labels"] == [-100, 1, 3, -100, -100, -100, 5, -100]
    assert encoded.word_positions == [[1, 2, 6]]


def test_a_word_that_becomes_nothing_shifts_no_label(tiny_tokenizer):
    sentence = NerExample(("", "Anna", " ", "Rome"), (3, 1, 4, 5))
    encoded = encode_wikiann([sentence], tiny_tokenizer, 40)
    assert tiny_tokenizer.convert_ids_to_tokens(encoded.rows[0]["input_ids"])[1:-1] == ["▁Anna", "▁Rome"]
    assert encoded.rows[0]["labels"] == [-100, 1, 5, -100]
    assert encoded.word_positions == [[-1, 1, -1, 2]]
    assert encoded.gold == [[3, 1, 4, 5]]


def test_words_beyond_max_tokens_stay_in_gold_only(tiny_tokenizer):
    sentences = [
        NerExample(("Anna", "lives", "in", "Rome"), (1, 0, 0, 5)),
        NerExample(("Anna", "Rome"), (1, 5)),
    ]
    encoded = encode_wikiann(sentences, tiny_tokenizer, 4)
    assert [len(row["input_ids"]) for row in encoded.rows] == [4, 4]
    assert encoded.word_positions == [[1, 2, -1, -1], [1, 2]]
    assert encoded.gold == [[1, 0, 0, 5], [1, 5]]
    assert encoded.num_truncated == 1


def test_a_pair_is_read_as_xlm_r_reads_it(tiny_tokenizer):
    encoded = encode_xnli([NliExample("Anna lives", "no", 2)], tiny_tokenizer, 40)
    pieces = tiny_tokenizer.convert_ids_to_tokens(encoded.rows[0]["input_ids"])
    assert pieces == ["<s>", "▁Anna", "▁lives", "</s>", "</s>", "▁no", "</s>"]
    assert encoded.rows[0]["labels"] == 2
    assert encoded.gold == [2]
    assert encoded.word_positions is None


def test_the_longer_of_a_pair_is_cut(tiny_tokenizer):
    encoded = encode_xnli([NliExample("Anna lives in Rome", "no", 2)], tiny_tokenizer, 8)
    pieces = tiny_tokenizer.convert_ids_to_tokens(encoded.rows[0]["input_ids"])
    assert pieces == ["<s>", "▁Anna", "▁lives", "▁in", "</s>", "</s>", "▁no", "</s>"]
    assert encoded.num_truncated == 1


def test_more_examples_than_are_encoded_at_once_keep_their_order(tiny_tokenizer, monkeypatch):
    sentences = [NerExample(("Anna",) * n, (1,) * n) for n in (3, 1, 4, 1, 5)]
    whole = encode_wikiann(sentences, tiny_tokenizer, 40)
    pairs = [NliExample("no " * n, "yes", n % 3) for n in (3, 1, 4, 1, 5)]
    whole_pairs = encode_xnli(pairs, tiny_tokenizer, 40)
    monkeypatch.setattr("halfling.tasks.encode._AT_ONCE", 2)
    assert encode_wikiann(sentences, tiny_tokenizer, 40) == whole
    assert encode_xnli(pairs, tiny_tokenizer, 40) == whole_pairs
    assert [len(row["input_ids"]) for row in whole.rows] == [5, 3, 6, 3, 7]


def test_rows_are_padded_to_the_longest():
    rows = [
        {"input_ids": [0, 7, 2], "labels": [-100, 3, -100]},
        {"input_ids": [0, 2], "labels": [-100, -100]},
    ]
    batch = pad_rows(rows, pad_id=1)
    assert batch["input_ids"].tolist() == [[0, 7, 2], [0, 2, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch["labels"].tolist() == [[-100, 3, -100], [-100, -100, -100]]


def test_one_label_an_example_is_stacked():
    batch = pad_rows([{"input_ids": [0, 2], "labels": 2}, {"input_ids": [0, 7, 2], "labels": 0}], pad_id=1)
    assert batch["labels"].tolist() == [2, 0]
