import pytest

from halfling.corpus.build import CorpusSettings, build_corpus
from halfling.corpus.sources import SourceSettings, open_source
from halfling.corpus.sources.folder import find_sources
from halfling.errors import HalflingError
from halfling.fingerprint import contents


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text("text\n")


def test_all_is_what_the_folder_holds_sorted(tmp_path):
    touch(tmp_path, "sw.txt.xz", "en.txt", "README.txt", "zh-Hans.txt.xz")
    assert list(find_sources(tmp_path, "all")) == ["en", "sw", "zh-Hans"]


@pytest.mark.parametrize(
    ("names", "wanted", "message"),
    [
        (["en.txt.xz"], ["sw"], "sw.txt.xz: no such file"),
        (["en.txt.xz"], ["swa"], "unknown 'swa'.*sw"),
        (["en.txt.xz", "wronk.txt.xz"], "all", "unknown 'wronk'"),
        (["en.txt.xz", "en.txt"], "all", "two files for 'en'"),
        (["notes.txt"], "all", "holds no {code}.txt.xz: name the folder"),
    ],
)
def test_a_wrong_folder_is_one_clear_line(tmp_path, names, wanted, message):
    touch(tmp_path, *names)
    with pytest.raises(HalflingError, match=message) as error:
        find_sources(tmp_path, wanted)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(HalflingError, match="nowhere: no such folder"):
        find_sources(tmp_path / "nowhere", "all")


@pytest.mark.parametrize(
    "address",
    ["http://[bad/", "http://", "https:///cc-100/", "https://two words/", "http://host:port/", "http://host:99999/"],
)
def test_an_address_without_a_host_is_one_clear_line(tmp_path, address):
    with pytest.raises(HalflingError, match="names no host") as error:
        open_source(address, SourceSettings(), ("sw",), tmp_path)
    assert "\n" not in str(error.value)


def test_a_place_of_another_kind_is_refused(tmp_path):
    with pytest.raises(HalflingError, match="ftp://host: not a source: name a folder or https://"):
        open_source("ftp://host", SourceSettings(), "all", tmp_path)


@pytest.mark.parametrize("address", ["http://127.0.0.1:8000/", "http://[::1]:80/x", "https://data.statmt.org/cc-100/"])
def test_an_address_with_a_host_is_taken(tmp_path, address):
    assert open_source(address, SourceSettings(), ("sw",), tmp_path).place("sw") == f"{address.rstrip('/')}/sw.txt.xz"


def test_a_corpus_depends_on_the_files_of_its_languages_alone(tmp_path):
    def read(*codes):
        return contents({"source": tmp_path}, CorpusSettings(languages=codes), build_corpus.reads)

    touch(tmp_path, "en.txt", "sw.txt")
    before, both = read("en"), read("en", "sw")
    touch(tmp_path, "hi.txt", "README", ".DS_Store")
    assert read("en") == before != both == read("en", "sw")
    (tmp_path / "en.txt").write_text("changed\n")
    assert read("en") != before
