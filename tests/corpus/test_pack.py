import numpy as np
import pytest

from halfling.corpus.blocks import PackedBlocks, PackedSummary
from halfling.corpus.encode import SpecialIds, encode, load_tokenizer
from halfling.corpus.pack import PackSettings, pack, pack_corpus
from halfling.corpus.store import read_batches
from halfling.errors import HalflingError

SPECIAL = SpecialIds(start=0, pad=1, end=2, unknown=3, mask=99)


def packed(lengths, block_tokens):
    """Pack documents of 11, 12, 13 ... 21, 22 ... and so on: the tens say which document."""
    documents = [np.arange(1, n + 1, dtype=np.int32) + 10 * i for i, n in enumerate(lengths, start=1)]
    return [(block.input_ids.tolist(), block.starts.tolist()) for block in pack(documents, block_tokens, SPECIAL)]


def test_documents_follow_each_other_and_the_last_block_is_padded():
    assert packed([2, 1], 10) == [([0, 11, 12, 2, 0, 21, 2, 1, 1, 1], [0, 4])]


def test_a_document_longer_than_a_block_becomes_several_sequences():
    assert packed([9], 8) == [
        ([0, 11, 12, 13, 14, 15, 16, 2], [0]),
        ([0, 17, 18, 19, 2, 1, 1, 1], [0]),
    ]


def test_a_document_that_does_not_fit_goes_on_in_the_next_block():
    assert packed([2, 4], 8) == [
        ([0, 11, 12, 2, 0, 21, 22, 2], [0, 4]),
        ([0, 23, 24, 2, 1, 1, 1, 1], [0]),
    ]


@pytest.mark.parametrize(("length", "end"), [(5, [2, 2]), (4, [2, 2, 2])])
def test_places_too_few_for_a_sequence_are_filled_with_ends(length, end):
    blocks = packed([length, 1], 8)
    assert blocks[0][0][-len(end) :] == end
    assert blocks[0][1] == [0]
    assert blocks[1][0][:3] == [0, 21, 2]


def test_an_empty_document_leaves_no_trace_and_none_leave_no_block():
    assert packed([0, 1], 8) == [([0, 21, 2, 1, 1, 1, 1, 1], [0])]
    assert packed([], 8) == []


def test_no_token_is_lost_or_moved():
    lengths = np.random.default_rng(0).integers(0, 40, 300)
    documents = [np.random.default_rng(i).integers(4, 90, n).astype(np.int32) for i, n in enumerate(lengths)]
    blocks = list(pack(documents, 16, SPECIAL))
    ids = np.concatenate([block.input_ids for block in blocks])
    assert np.array_equal(ids[ids > 3], np.concatenate(documents))
    assert all(1 not in block.input_ids for block in blocks[:-1])
    assert all(np.array_equal(np.flatnonzero(block.input_ids == 0), block.starts) for block in blocks)


@pytest.mark.parametrize("literal", ["<s>", "</s>", "<mask>", "<pad>", "＜s＞", "a<s>b", "<mask><mask>"])
def test_special_tokens_written_in_a_text_stay_text(tokenizer_folder, literal):
    tokenizer, special = load_tokenizer(tokenizer_folder)
    (ids,), _ = encode([f"the river {literal} the mill"], tokenizer, special)
    reserved = [special.start, special.pad, special.end, special.mask]
    assert not np.isin(ids, reserved).any()
    assert tokenizer.id_to_token(int(ids[1])) == "▁river"
    assert tokenizer.id_to_token(int(ids[-1])) == "▁mill"


def test_special_tokens_written_in_a_text_are_counted(tokenizer_folder):
    tokenizer, special = load_tokenizer(tokenizer_folder)
    assert encode(["the <s> river </s> <mask>", "the mill"], tokenizer, special)[1] == 3


@pytest.fixture(scope="module")
def result(corpus, tokenizer_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed")
    counts = pack_corpus(settings=PackSettings(block_tokens=32), corpus=corpus, tokenizer=tokenizer_folder, out=out)
    return out, counts


def test_blocks_hold_a_chunks_documents_in_order_language_by_language(result, corpus, tokenizer_folder):
    tokenizer, _ = load_tokenizer(tokenizer_folder)
    blocks = PackedBlocks(result[0] / "chunk-2")
    assert sorted(set(blocks.languages)) == ["en", "hi", "ru", "sw"] == list(dict.fromkeys(blocks.languages))
    for code in ("hi", "sw"):
        expected = [
            id_
            for batch in read_batches(corpus / "chunk-2" / f"{code}.parquet")
            for document in batch
            for id_ in tokenizer.encode(document.text, add_special_tokens=False).ids
        ]
        mine = [blocks[i].input_ids for i, language in enumerate(blocks.languages) if language == code]
        ids = np.concatenate(mine)
        assert ids[ids > 2].tolist() == expected


def test_the_reader_gives_blocks_by_number(result):
    blocks = PackedBlocks(result[0] / "chunk-1")
    assert blocks.block_tokens == 32
    first, last = blocks[0], blocks[-1]
    assert first.input_ids.dtype == first.starts.dtype == np.int32
    assert first.input_ids.shape == (32,)
    assert np.array_equal(np.flatnonzero(first.input_ids == 0), first.starts)
    assert np.array_equal(last.input_ids, blocks[len(blocks) - 1].input_ids)
    first.input_ids[:] = 7  # a copy: masking it must not reach the next epoch
    assert blocks[0].input_ids[0] == 0
    with pytest.raises(IndexError):
        blocks[len(blocks)]


def test_the_summary_and_the_counts_say_what_is_there(result):
    out, counts = result
    summary = PackedSummary.read(out / "corpus.json")
    assert summary.block_tokens == 32
    for number in range(1, 6):
        assert summary.blocks[f"chunk-{number}"] == len(PackedBlocks(out / f"chunk-{number}"))
    ids = np.concatenate([PackedBlocks(out / f"chunk-{n}").input_ids for n in range(1, 6)])
    assert sum(summary.tokens.values()) == (ids > 2).sum()
    assert sum(counts["unknown"].values()) == (ids == 3).sum()
    assert counts["literal_specials"] == {}
    assert sorted(path.name for path in out.iterdir()) == [
        *(f"chunk-{n}" for n in range(1, 6)),
        "corpus.json",
    ]


def test_a_killed_packing_resumes_to_the_same_bytes_and_counts(
    result, corpus, tokenizer_folder, tmp_path, contents, monkeypatch
):
    def killed_in_chunk_3(path):
        if path.parent.name == "chunk-3" and path.stem == "ru":
            raise KeyboardInterrupt
        return read_batches(path)

    def run():
        settings = PackSettings(block_tokens=32)
        return pack_corpus(settings=settings, corpus=corpus, tokenizer=tokenizer_folder, out=tmp_path)

    monkeypatch.setattr("halfling.corpus.pack.read_batches", killed_in_chunk_3)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert sorted(p.parent.name for p in tmp_path.rglob("*.*") if p.is_file()) == ["chunk-1", "chunk-2"]
    seen = []
    monkeypatch.setattr(
        "halfling.corpus.pack.read_batches", lambda path: seen.append(path.parent.name) or read_batches(path)
    )
    assert run() == result[1]
    assert sorted(set(seen)) == ["chunk-3", "chunk-4", "chunk-5"]
    assert contents(tmp_path) == contents(result[0])


def test_a_folder_without_corpus_or_tokenizer_is_named(corpus, tokenizer_folder, tmp_path):
    settings = PackSettings()
    with pytest.raises(HalflingError, match=r"nothing: holds no chunk-1"):
        pack_corpus(settings=settings, corpus=tmp_path / "nothing", tokenizer=tokenizer_folder, out=tmp_path)
    with pytest.raises(HalflingError, match=r"nothing/tokenizer.json: cannot be read"):
        pack_corpus(settings=settings, corpus=corpus, tokenizer=tmp_path / "nothing", out=tmp_path)
    with pytest.raises(HalflingError, match=r"blocks.parquet: cannot be read"):
        PackedBlocks(tmp_path / "chunk-1")
