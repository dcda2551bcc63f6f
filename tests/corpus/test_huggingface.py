from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from halfling.corpus.sources import SourceSettings, open_source
from halfling.errors import HalflingError

TEXTS = [f"document {number}, in two\nparagraphs" for number in range(2500)]


@pytest.fixture
def data_set(tmp_path, monkeypatch):
    """A data set of one language in two files, of the form that Hugging Face's hub has."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hub")
    folder = tmp_path / "set"
    (folder / "sw").mkdir(parents=True)
    for number, part in enumerate((TEXTS[:1300], TEXTS[1300:])):
        pq.write_table(
            pa.table({"content": part, "url": [""] * len(part), "size": [1] * len(part)}),
            folder / "sw" / f"{number}.parquet",
        )
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: sw\n  data_files: sw/*.parquet\n---\n")
    return folder


def source(data_set, cache, **settings):
    told = SourceSettings(**{"text_column": "content", **settings})
    return open_source(f"hf://datasets/{data_set}", told, ("sw",), cache)


def test_rows_are_documents_in_their_order_and_again_without_the_data_set(data_set, tmp_path):
    rows = source(data_set, tmp_path / "cache")
    assert list(rows.documents("sw")) == TEXTS
    (data_set / "README.md").unlink()
    assert list(rows.documents("sw")) == TEXTS
    rows.forget("sw")
    assert not list((tmp_path / "cache").rglob("*.parquet"))


@pytest.mark.parametrize("read", [1, 1000, 1400, 2500])
def test_a_reader_that_stopped_goes_on_where_it_stood(data_set, tmp_path, read):
    first = source(data_set, tmp_path / "cache").documents("sw")
    assert list(islice(first, read)) == TEXTS[:read]
    first.close()
    kept = len(list((tmp_path / "cache" / "sw").iterdir()))
    assert kept == -(-read // 1000)  # no further than it was read, to within a part
    assert list(source(data_set, tmp_path / "cache").documents("sw")) == TEXTS


def test_a_corpus_is_built_of_a_data_set(data_set, tmp_path, build):
    settings = {"languages": ["sw"], "total_bytes": 20_000, "selection": "head", "text_column": "content"}
    counts = build(f"hf://datasets/{data_set}", tmp_path / "out", **settings)
    assert 19_000 < counts["bytes"] <= 20_000
    assert counts["languages"]["sw"]["source_bytes"] < 21_000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_column": "text"}, r"set sw: no column 'text' among content, url, size: set text_column"),
        ({"text_column": "size"}, r"set sw: column 'size' is not text: set text_column"),
        ({"subset": "{lang}"}, r"subset: '{lang}': write {code} for the language's code"),
        ({"subset": "{code}-2018"}, r"set sw-2018: cannot be streamed \(.*: check its name, subset and split"),
    ],
)
def test_a_data_set_of_another_form_is_one_line(data_set, tmp_path, settings, message):
    with pytest.raises(HalflingError, match=message) as error:
        next(source(data_set, tmp_path / "cache", **settings).documents("sw"))
    assert "\n" not in str(error.value)


def test_all_languages_of_a_data_set_and_a_strange_place_are_refused(tmp_path):
    with pytest.raises(HalflingError, match="name them"):
        open_source("hf://datasets/a/b", SourceSettings(), "all", tmp_path)
    with pytest.raises(HalflingError, match="ftp://host: not a source"):
        open_source("ftp://host", SourceSettings(), "all", tmp_path)
