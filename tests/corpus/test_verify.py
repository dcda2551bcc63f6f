import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from halfling import files
from halfling.corpus.build import CorpusSettings
from halfling.corpus.verify import verify
from halfling.files import digest
from halfling.records import Manifest
from halfling.tokens.pack import PackSettings, pack_corpus
from halfling.tokens.verify import verify_packed


def manifest_of(folder, counts, settings):
    """Write the manifest that the runner writes."""
    sizes = {p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    Manifest(
        stage="corpus",
        fingerprint="f",
        settings=settings.model_dump(mode="json"),
        inputs={},
        versions={},
        seed=0,
        seconds=1.0,
        counts=counts,
        files=sizes,
        digest=digest(folder),
    ).write(folder / "manifest.json")


@pytest.fixture(scope="module")
def built(source, build, tmp_path_factory):
    """A corpus with its manifest: read it, do not change it."""
    out = tmp_path_factory.mktemp("built")
    manifest_of(out, build(source, out), CorpusSettings())
    return out


@pytest.fixture(scope="module")
def blocks(corpus, tokenizer_folder, tmp_path_factory):
    """A packed corpus with its manifest: read it, do not change it."""
    out = tmp_path_factory.mktemp("blocks")
    settings = PackSettings(block_tokens=32)
    manifest_of(out, pack_corpus(settings=settings, corpus=corpus, tokenizer=tokenizer_folder, out=out), settings)
    return out


@pytest.fixture
def whole(built, tmp_path):
    """A corpus with its manifest, to be damaged."""
    return shutil.copytree(built, tmp_path / "whole")


@pytest.fixture
def bare(whole):
    """The same without a manifest."""
    (whole / "manifest.json").unlink()
    return whole


@pytest.fixture
def packed(blocks, tmp_path):
    """A packed corpus with its manifest, to be damaged."""
    return shutil.copytree(blocks, tmp_path / "packed")


def rewrite(path, change):
    """Replace a Parquet file's rows by `change(rows)`."""
    table = pq.read_table(path)
    pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema), path)


def one_fault(corpus, *parts, packed=None):
    faults = verify_packed(packed, corpus) if packed else verify(corpus)
    assert len(faults) == 1, faults
    assert "\n" not in faults[0]
    for part in parts:
        assert part in faults[0]


def test_a_whole_corpus_has_no_faults(whole, corpus, packed):
    assert verify(whole) == []
    assert verify_packed(packed, corpus) == []


def test_a_document_twice_in_a_chunk_is_found(bare):
    rewrite(bare / "chunk-2" / "en.parquet", lambda rows: [*rows, rows[0]])
    one_fault(bare, "chunk-2/en.parquet", "twice")


def test_a_document_in_two_chunks_is_found(bare):
    stray = pq.read_table(bare / "chunk-1" / "en.parquet").to_pylist()[0]
    rewrite(bare / "chunk-3" / "en.parquet", lambda rows: [*rows, stray])
    one_fault(bare, "chunk-3/en.parquet", "also in chunk 1")


@pytest.fixture
def few(documents, build, write_source, tmp_path):
    """A corpus of eight English documents in each of five chunks, and of four in Swahili, without a manifest."""
    source = write_source(tmp_path / "few-texts", {"en": documents["en"][:40], "sw": documents["sw"][:20]})
    build(source, tmp_path / "few", workers=1)
    return tmp_path / "few"


# A run on disk for every document, for every seven, and six runs in all.
@pytest.mark.parametrize(("corpus_name", "rows"), [("few", 1), ("few", 7), ("bare", 100)])
def test_copies_are_found_however_many_documents_wait_on_disk(corpus_name, rows, request, monkeypatch):
    folder = request.getfixturevalue(corpus_name)
    monkeypatch.setattr("halfling.corpus.verify._RUN_ROWS", rows)
    assert verify(folder) == []
    stray = pq.read_table(folder / "chunk-1" / "en.parquet").to_pylist()
    rewrite(folder / "chunk-5" / "en.parquet", lambda rows: [*rows, stray[0], stray[-1]])
    faults = [fault for fault in verify(folder) if "also in chunk 1" in fault]
    assert len(faults) == 2
    assert all(any(f"{row['id']}: also in chunk 1" in fault for fault in faults) for row in (stray[0], stray[-1]))


def test_a_chunk_of_a_huge_number_is_a_few_lines(bare):
    (bare / "chunk-999999999999").mkdir()
    faults = verify(bare)
    assert any(fault.endswith("chunk-6 to chunk-999999999998: missing") for fault in faults)
    assert len(faults) == 5  # and four languages that this chunk is short of


def test_a_folder_that_is_no_chunk_is_let_alone(bare):
    for name in ("chunk-01", "chunk-٣", "chunk-0", "chunk-1.partial"):
        (bare / name).mkdir()
    assert verify(bare) == []


def test_a_copy_under_another_id_is_found(bare):
    rewrite(bare / "chunk-2" / "en.parquet", lambda rows: [*rows, {**rows[0], "id": "en-0000000000000000"}])
    faults = verify(bare)
    assert len(faults) == 2
    assert "does not fit its text" in faults[0]
    assert "twice" in faults[1]


def test_a_changed_text_is_found(bare):
    rewrite(bare / "chunk-2" / "sw.parquet", lambda rows: [{**rows[0], "text": rows[0]["text"] + "x"}, *rows[1:]])
    one_fault(bare, "chunk-2/sw.parquet", "does not fit its text")


def test_a_missing_language_and_a_missing_chunk_are_found(bare):
    (bare / "chunk-5" / "ru.parquet").unlink()
    one_fault(bare, "chunk-5/ru.parquet: missing: chunk 5 is short of a language")
    shutil.rmtree(bare / "chunk-4")
    assert any("chunk-4: missing" in fault for fault in verify(bare))


def test_the_last_chunk_gone_is_found_by_the_manifest(whole):
    shutil.rmtree(whole / "chunk-5")
    assert any(fault.endswith("chunk-5: missing") for fault in verify(whole))


def test_a_language_gone_from_every_chunk_is_found_by_the_manifest(whole):
    for path in whole.glob("*/sw.parquet"):
        path.unlink()
    assert any("chunk-1/sw.parquet: missing" in fault for fault in verify(whole))


def test_a_flipped_byte_is_found_with_and_without_a_manifest(whole):
    path = whole / "chunk-1" / "hi.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert any("chunk-1/hi.parquet: its content is not" in fault for fault in verify(whole))
    (whole / "manifest.json").unlink()
    one_fault(whole, "chunk-1/hi.parquet", "cannot be read")


def test_a_flipped_byte_in_a_huge_file_is_found(corpus, packed, monkeypatch):
    monkeypatch.setattr(files, "_SAMPLED_ABOVE", 20)
    monkeypatch.setattr(files, "_SAMPLE", 4)
    path = packed / "chunk-3" / "en.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert any("chunk-3/en.arrow: its content is not" in fault for fault in verify_packed(packed, corpus))


@pytest.mark.parametrize("name", ["README.md", "corpus.json"])
def test_a_changed_figure_beside_the_blocks_is_found(corpus, packed, name):
    path = packed / name
    path.write_text(path.read_text(encoding="utf-8").replace("2", "3", 1), encoding="utf-8")
    assert any(f"{name}: its content is not" in fault for fault in verify_packed(packed, corpus))


def test_a_truncated_file_is_found(bare):
    path = bare / "chunk-1" / "hi.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    one_fault(bare, "chunk-1/hi.parquet", "cannot be read")


def test_chunks_out_of_balance_are_found(bare):
    rewrite(bare / "chunk-1" / "en.parquet", lambda rows: rows[: len(rows) // 2])
    one_fault(bare, "en: chunks hold", "more than one document")


def test_a_lost_document_is_found_by_the_manifest(whole):
    rewrite(whole / "chunk-1" / "en.parquet", lambda rows: rows[1:])
    faults = verify(whole)
    assert any("bytes, but the manifest says" in fault for fault in faults)
    assert any("en: documents by chunk" in fault for fault in faults)


def test_no_corpus_is_a_fault(tmp_path):
    one_fault(tmp_path, "holds no chunk-1")
    (tmp_path / "chunk-1").mkdir()
    one_fault(tmp_path, "not the text of a corpus")


def test_blocks_are_not_taken_for_the_text(packed):
    one_fault(packed, "not the text of a corpus")


def test_a_language_too_many_is_found_by_the_manifest(whole, tmp_path, build, write_source):
    more = write_source(tmp_path / "more", {"tr": [f"eski değirmenin yanından geçen nehir {n}" for n in range(9)]})
    build(more, tmp_path / "other")
    for path in (tmp_path / "other").glob("*/tr.parquet"):
        shutil.copy(path, whole / path.parent.name)
    one_fault(whole, "tr: a language that the manifest does not know")


def test_a_document_without_text_is_found(bare):
    rewrite(bare / "chunk-2" / "sw.parquet", lambda rows: [{**rows[0], "text": None}, *rows[1:]])
    one_fault(bare, "chunk-2/sw.parquet", "without id, lang or text")


def test_damage_to_the_blocks_is_found(corpus, packed):
    path = packed / "chunk-3" / "en.arrow"
    path.write_bytes(path.read_bytes()[:-10])
    faults = verify_packed(packed, corpus) if packed else verify(corpus)
    assert any("bytes, but the manifest says" in fault for fault in faults)
    assert any("chunk-3/en.arrow: cannot be read" in fault for fault in faults)


def test_a_flipped_byte_in_the_blocks_is_found(corpus, packed):
    path = packed / "chunk-3" / "en.arrow"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert any("chunk-3/en.arrow: its content is not" in fault for fault in verify_packed(packed, corpus))


def change_block(path, change):
    """Replace the first block of a file by `change(ids, starts)`."""
    with pa.ipc.open_file(path) as file:
        table = file.read_all()
    rows = table.to_pylist()
    ids, starts = change(rows[0]["input_ids"], rows[0]["starts"])
    rows[0] = {**rows[0], "input_ids": ids, "starts": starts}
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(pa.Table.from_pylist(rows, schema=table.schema))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda ids, starts: (ids, [*starts, 20]), "do not begin where `starts` says"),
        (lambda ids, starts: ([*ids[:-2], 60_000, 2], starts), "ids outside"),
        (lambda ids, starts: ([*ids[:-1], 9], starts), "without `</s>`"),
        (lambda ids, starts: ([*ids[:-1], 1], starts), "padding, though"),
    ],
)
def test_wrong_blocks_are_found(corpus, packed, change, fault):
    change_block(packed / "chunk-3" / "en.arrow", change)
    (packed / "manifest.json").unlink()
    assert any("chunk-3/en.arrow" in each and fault in each for each in verify_packed(packed, corpus))


def test_a_block_too_few_is_found(corpus, packed):
    path = packed / "chunk-3" / "en.arrow"
    with pa.ipc.open_file(path) as file:
        table = file.read_all()
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table[1:])
    (packed / "manifest.json").unlink()
    one_fault(corpus, "chunk-3/en.arrow", f"{len(table) - 1} blocks, but corpus.json says {len(table)}", packed=packed)


def test_a_language_that_was_not_packed_is_found(corpus, packed):
    (packed / "chunk-2" / "sw.arrow").unlink()
    (packed / "manifest.json").unlink()
    one_fault(corpus, "chunk-2/sw.arrow: missing: chunk 2 is short of a language", packed=packed)
