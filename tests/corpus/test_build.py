import pytest

from halfling.corpus.store import chunk_folder, chunk_languages, read_batches
from halfling.errors import HalflingError
from halfling.languages import CC100


def texts(corpus, number, code):
    path = chunk_folder(corpus, number) / f"{code}.parquet"
    return [document.text for batch in read_batches(path) for document in batch]


def test_every_document_is_in_exactly_one_chunk_and_every_chunk_has_every_language(corpus, documents):
    for code, expected in documents.items():
        dealt = [texts(corpus, number, code) for number in range(1, 6)]
        assert all(dealt)
        assert sorted(text for chunk in dealt for text in chunk) == sorted(expected)
    assert {tuple(chunk_languages(chunk_folder(corpus, n))) for n in range(1, 6)} == {("en", "hi", "ru", "sw")}


def test_the_result_holds_nothing_but_chunks_and_their_card(corpus):
    assert sorted(path.name for path in corpus.iterdir()) == ["README.md", *(f"chunk-{n}" for n in range(1, 6))]


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(source, corpus, tmp_path, build, contents):
    build(source, tmp_path / "again")
    build(source, tmp_path / "other", seed=1)
    assert contents(tmp_path / "again") == contents(corpus)
    assert contents(tmp_path / "other") != contents(corpus)


def test_a_reordered_file_gives_the_same_bytes(documents, corpus, tmp_path, build, write_source, contents):
    turned = write_source(tmp_path / "turned", {code: texts[::-1] for code, texts in documents.items()})
    build(turned, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(corpus)


def test_counts_add_up_to_what_is_written(source, documents, tmp_path, build):
    counts = build(source, tmp_path / "out", languages=["en", "sw"])
    assert list(counts["languages"]) == ["en", "sw"]
    for code, counted in counts["languages"].items():
        dealt = [texts(tmp_path / "out", number, code) for number in range(1, 6)]
        assert counted["documents"] == [len(chunk) for chunk in dealt]
        assert counted["bytes"] == [sum(len(text.encode()) for text in chunk) for chunk in dealt]
        assert counted["source_bytes"] == sum(len(text.encode()) for text in documents[code])
    assert counts["documents"] == 340
    assert len(counts["sha256"]) == 10 + 1  # and the card


def test_a_budget_is_kept_and_shared_in_proportion(source, tmp_path, build):
    counts = build(source, tmp_path / "out", total_bytes="20kB", languages=["en", "ru"])
    languages = counts["languages"]
    assert sum(language["quota_bytes"] for language in languages.values()) == 20_000
    # In proportion to what CC100's page says, whatever the size of the files that are there.
    sizes = {code: CC100[code].compressed_bytes for code in languages}
    for code, language in languages.items():
        assert language["quota_bytes"] == pytest.approx(20_000 * sizes[code] / sum(sizes.values()), abs=1)
        # The first document that does not fit ends the choice, so less than one document is missing.
        assert language["quota_bytes"] - 2000 < sum(language["bytes"]) <= language["quota_bytes"]


def test_what_cleaning_takes_from_a_language_goes_to_the_others(tmp_path, build, write_source):
    # A hundred times the same in Swahili: its file is the larger one, but it can give 50 bytes only.
    source = write_source(
        tmp_path / "source", {"sw": ["s" * 50] * 100, "en": [f"{i:02d}" + "e" * 48 for i in range(80)]}
    )
    languages = build(source, tmp_path / "out", total_bytes=3050, alpha=0)["languages"]
    assert languages["sw"]["source_bytes"] > languages["en"]["source_bytes"]
    assert {code: language["quota_bytes"] for code, language in languages.items()} == {"sw": 50, "en": 3000}
    assert sum(languages["en"]["bytes"]) == 3000


def test_drops_are_counted_by_language_and_reason(tmp_path, build, write_source):
    kept = [f"a document that is long enough, number {i}" for i in range(10)]
    source = write_source(tmp_path / "source", {"en": [*kept, "short", kept[3], "1 2 3 4 5 6 7 8 9"], "sw": kept})
    counts = build(source, tmp_path / "out")
    assert counts["languages"]["en"]["dropped"] == {"duplicate": 1, "symbols": 1, "too_short": 1}
    assert counts["languages"]["sw"]["dropped"] == {}


def test_a_language_with_fewer_documents_than_chunks_leaves_empty_files(tmp_path, build, write_source):
    source = write_source(tmp_path / "source", {"sw": ["one document long enough", "two documents long enough"]})
    build(source, tmp_path / "out")
    assert [len(texts(tmp_path / "out", number, "sw")) for number in range(1, 6)] == [1, 1, 0, 0, 0]


def test_a_truncated_file_stops_the_build_with_its_name(source, tmp_path, build, write_source):
    folder = write_source(tmp_path / "source", {"sw": ["a document long enough to be kept"]})
    (folder / "en.txt.xz").write_bytes((source / "en.txt.xz").read_bytes()[:500])
    with pytest.raises(HalflingError, match=r"en\.txt\.xz: truncated"):
        build(folder, tmp_path / "out")


def test_a_language_of_which_cleaning_leaves_nothing_is_named_with_the_reason(tmp_path, build, write_source):
    source = write_source(tmp_path / "source", {"sw": ["short", "too"]})
    with pytest.raises(HalflingError, match=r"sw.txt.xz: cleaning leaves no document \(2 too_short\)"):
        build(source, tmp_path / "out")


LONG = "this line is long enough to stand only once in its language: number {}"


def test_a_line_of_two_documents_stays_in_one_of_them_whatever_their_order(tmp_path, build, write_source, contents):
    shared = LONG.format("shared")
    documents = [f"{LONG.format(i)}\n{shared}\nYes." for i in range(20)] + [f"{shared}\nNo more than that."]
    counts = build(write_source(tmp_path / "source", {"en": documents}), tmp_path / "out", chunks=2)
    build(write_source(tmp_path / "turned", {"en": documents[::-1]}), tmp_path / "other", chunks=2)
    assert contents(tmp_path / "out") == contents(tmp_path / "other")
    found = texts(tmp_path / "out", 1, "en") + texts(tmp_path / "out", 2, "en")
    assert sum(shared in text for text in found) == 1
    language = counts["languages"]["en"]
    # A document that has nothing long of its own is gone with the line, unless it is the one that keeps it.
    kept = any("No more" in text for text in found)
    assert language["dropped"] == ({} if kept else {"duplicate_lines": 1})
    assert language["dropped_lines"] == {"duplicate": 20 if kept else 19}
    assert len(found) == 21 if kept else 20
    assert all("\nYes." in text for text in found if "number 1" in text)


def test_a_sample_takes_from_the_whole_file_and_a_head_from_its_beginning(tmp_path, build, write_source):
    documents = [f"{i:04d} {'abcdefgh'[i % 8] * 5} a document of about fifty bytes" for i in range(2000)]
    source = write_source(tmp_path / "source", {"en": documents})
    for selection, last in (("sample", 1500), ("head", 220)):
        counts = build(source, tmp_path / selection, total_bytes=8000, selection=selection)
        numbers = [int(text[:4]) for number in range(1, 6) for text in texts(tmp_path / selection, number, "en")]
        assert 7900 < counts["bytes"] <= 8000
        assert (max(numbers) > last) == (selection == "sample")
