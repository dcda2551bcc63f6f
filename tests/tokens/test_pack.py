import numpy as np
import pyarrow as pa
import pytest

from halfling.corpus.store import ChunkWriter, read_batches, read_texts
from halfling.errors import HalflingError
from halfling.tokens.blocks import PackedBlocks, PackedSummary
from halfling.tokens.encode import load_tokenizer
from halfling.tokens.pack import PackSettings, pack_corpus
from halfling.tokens.packer import Packer


def pack(documents, block_tokens, batches=1):
    """Return every block's ids and starts, and the tokens left over."""
    packer = Packer("en", block_tokens)
    runs = []
    for part in np.array_split(np.arange(len(documents)), batches):
        ids = np.concatenate([np.zeros(0, np.int32), *(documents[i] for i in part)])
        runs.append(packer.add(ids, np.array([len(documents[i]) for i in part], np.int64)))
    last, left_over = packer.end()
    blocks = [
        (ids.tolist(), run.starts[run.offsets[row] : run.offsets[row + 1]].tolist())
        for run in [*runs, last]
        for row, ids in enumerate(run.input_ids)
    ]
    assert len(blocks) == packer.num_blocks
    return blocks, left_over


def packed(lengths, block_tokens):
    """Pack documents of 11, 12, 13 ... 21, 22 ... and so on: the tens say which document."""
    documents = [np.arange(1, n + 1, dtype=np.int32) + 10 * i for i, n in enumerate(lengths, start=1)]
    return pack(documents, block_tokens)


def test_documents_follow_each_other_and_a_language_of_one_block_is_padded():
    assert packed([2, 1], 10) == ([([0, 11, 12, 2, 0, 21, 2, 1, 1, 1], [0, 4])], 0)


def test_a_document_longer_than_a_block_becomes_several_sequences_and_the_end_is_left_over():
    assert packed([9], 8) == ([([0, 11, 12, 13, 14, 15, 16, 2], [0])], 3)


def test_a_document_that_does_not_fit_goes_on_in_the_next_block():
    assert packed([2, 8], 8) == (
        [([0, 11, 12, 2, 0, 21, 22, 2], [0, 4]), ([0, 23, 24, 25, 26, 27, 28, 2], [0])],
        0,
    )


@pytest.mark.parametrize(("length", "end"), [(5, [2, 2]), (4, [2, 2, 2])])
def test_places_too_few_for_a_sequence_are_filled_with_ends(length, end):
    (first, second), _ = packed([length, 6], 8)
    assert first[0][-len(end) :] == end
    assert first[1] == [0]
    assert second[0][:3] == [0, 21, 22]


def test_an_empty_document_leaves_no_trace_and_none_leave_no_block():
    assert packed([0, 1], 8) == ([([0, 21, 2, 1, 1, 1, 1, 1], [0])], 0)
    assert packed([], 8) == ([], 0)


@pytest.fixture
def many():
    lengths = np.random.default_rng(0).integers(0, 40, 300)
    return [np.random.default_rng(i).integers(4, 90, n).astype(np.int32) for i, n in enumerate(lengths)]


def test_no_token_is_lost_or_moved(many):
    blocks, left_over = pack(many, 16)
    ids = np.array([ids for ids, _ in blocks])
    assert np.array_equal(ids[ids > 3], np.concatenate(many)[:-left_over])
    assert 0 < left_over < 16
    assert 1 not in ids
    assert all(np.flatnonzero(row == 0).tolist() == starts for row, (_, starts) in zip(ids, blocks, strict=True))


@pytest.mark.parametrize("batches", [2, 7, 299])
def test_how_documents_come_changes_no_block(many, batches):
    assert pack(many, 16, batches) == pack(many, 16)


@pytest.fixture(scope="module")
def result(corpus, tokenizer_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed")
    counts = pack_corpus(settings=PackSettings(block_tokens=32), corpus=corpus, tokenizer=tokenizer_folder, out=out)
    return out, counts


def test_blocks_hold_a_chunks_documents_in_order_language_by_language(result, corpus, tokenizer_folder):
    tokenizer = load_tokenizer(tokenizer_folder)
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
        assert ids[ids > 2].tolist() == expected[: (ids > 2).sum()]
        assert len(expected) - (ids > 2).sum() < 32


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
        assert sum(summary.blocks[f"chunk-{number}"].values()) == len(PackedBlocks(out / f"chunk-{number}"))
    ids = np.concatenate([run.input_ids for n in range(1, 6) for run in PackedBlocks(out / f"chunk-{n}").runs])
    assert sum(summary.tokens.values()) == (ids > 2).sum()
    assert sum(counts["unknown"].values()) == (ids == 3).sum()
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        *(f"chunk-{n}" for n in range(1, 6)),
        "corpus.json",
    ]


def test_a_killed_packing_resumes_to_the_same_bytes_and_counts(
    result, corpus, tokenizer_folder, tmp_path, contents, monkeypatch
):
    def killed_in_chunk_3(path):
        if path.parent.name == "chunk-3" and path.stem == "ru":
            raise KeyboardInterrupt
        return read_texts(path)

    def run():
        settings = PackSettings(block_tokens=32, workers=1)
        return pack_corpus(settings=settings, corpus=corpus, tokenizer=tokenizer_folder, out=tmp_path)

    monkeypatch.setattr("halfling.tokens.pack.read_texts", killed_in_chunk_3)
    with pytest.raises(KeyboardInterrupt):
        run()
    done = {path.relative_to(tmp_path).with_suffix(".parquet") for path in tmp_path.glob("*/*.arrow")}
    assert not (tmp_path / "corpus.json").exists()
    seen = set()
    monkeypatch.setattr(
        "halfling.tokens.pack.read_texts", lambda path: seen.add(path.relative_to(corpus)) or read_texts(path)
    )
    assert run() == result[1]
    assert done
    assert seen == {path.relative_to(corpus) for path in corpus.glob("*/*.parquet")} - done
    assert contents(tmp_path) == contents(result[0])


@pytest.mark.parametrize("together", [0, 2**30])
def test_the_bytes_do_not_depend_on_workers(
    result, corpus, tokenizer_folder, tmp_path, contents, monkeypatch, together
):
    monkeypatch.setattr("halfling.tokens.pack._ALL_CHUNKS_TOGETHER", together)
    settings = PackSettings(block_tokens=32, workers=4)
    pack_corpus(settings=settings, corpus=corpus, tokenizer=tokenizer_folder, out=tmp_path)
    assert contents(tmp_path) == contents(result[0])
    assert "workers" not in settings.model_dump()  # and so not in the fingerprint


@pytest.mark.parametrize(("vocab_size", "kind"), [(65_536, np.uint16), (65_537, np.int32)])
def test_ids_take_two_bytes_where_the_vocabulary_allows(tmp_path, write_packed, vocab_size, kind):
    last = vocab_size - 1
    packed = write_packed(tmp_path / "packed", [[[0, last, 9, 2]]], vocab_size=vocab_size)
    blocks = PackedBlocks(packed / "chunk-1")
    assert [run.input_ids.dtype for run in blocks.runs] == [kind]
    assert blocks[0].input_ids.tolist() == [0, last, 9, 2]
    assert blocks[0].input_ids.dtype == np.int32


def test_reading_maps_the_file_and_copies_nothing(result):
    before = pa.total_allocated_bytes()
    blocks = PackedBlocks(result[0] / "chunk-1")
    kept = blocks.runs
    assert pa.total_allocated_bytes() - before < 1000
    with pytest.raises(ValueError, match="read-only"):
        kept[0].input_ids[0, 0] = 1


def test_a_folder_without_corpus_or_tokenizer_is_named(corpus, tokenizer_folder, tmp_path):
    settings = PackSettings()
    with pytest.raises(HalflingError, match=r"nothing: holds no chunk-1"):
        pack_corpus(settings=settings, corpus=tmp_path / "nothing", tokenizer=tokenizer_folder, out=tmp_path)
    (tmp_path / "empty" / "chunk-1").mkdir(parents=True)
    with pytest.raises(HalflingError, match=r"empty: holds no \{code\}.parquet"):
        pack_corpus(settings=settings, corpus=tmp_path / "empty", tokenizer=tokenizer_folder, out=tmp_path)
    with pytest.raises(HalflingError, match=r"nothing/tokenizer.json: cannot be read"):
        pack_corpus(settings=settings, corpus=corpus, tokenizer=tmp_path / "nothing", out=tmp_path)
    with pytest.raises(HalflingError, match=r"chunk-1: holds no blocks"):
        PackedBlocks(tmp_path / "chunk-1")


def test_no_batch_of_long_documents_is_larger_than_a_row_group(tmp_path):
    texts = [f"{number}" * 2**20 for number in range(8)]
    with ChunkWriter(tmp_path / "en.parquet", "en", 1) as writer:
        content = pa.array([text.encode() for text in texts], pa.binary())
        writer.add(np.arange(8, dtype=np.uint64), content, np.full(8, 2**20))
    assert [len(batch) for batch in read_texts(tmp_path / "en.parquet", batch_bytes=1)] == [4, 4]
    assert [len(batch) for batch in read_batches(tmp_path / "en.parquet")] == [4, 4]
