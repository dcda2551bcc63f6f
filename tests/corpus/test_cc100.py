import lzma

import pytest

from halfling.corpus.sources import cc100
from halfling.corpus.sources.cc100 import read_documents
from halfling.errors import HalflingError


def test_paragraphs_are_lines_and_blank_lines_part_documents(tmp_path):
    path = tmp_path / "en.txt"
    path.write_bytes(b"\n\none\r\ntwo\n \n\nthree\rstill three\n\nlast without a newline")
    assert list(read_documents(path)) == ["one\ntwo", "three\rstill three", "last without a newline"]


def test_compressed_and_plain_text_read_the_same(source, documents, tmp_path):
    plain = tmp_path / "sw.txt"
    plain.write_bytes(lzma.decompress((source / "sw.txt.xz").read_bytes()))
    assert list(read_documents(plain)) == list(read_documents(source / "sw.txt.xz")) == documents["sw"]


def test_a_file_of_many_blocks_and_two_xz_streams_is_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(cc100, "_BLOCK_AHEAD", 1000)
    texts = [f"document {number}, " * (number % 7 + 1) for number in range(2000)]
    halves = ["".join(f"{text}\n\n" for text in half).encode() for half in (texts[:999], texts[999:])]
    (tmp_path / "en.txt.xz").write_bytes(b"".join(map(lzma.compress, halves)))
    assert list(read_documents(tmp_path / "en.txt.xz")) == [text.strip() for text in texts]


def test_reading_is_a_stream(source):
    assert next(read_documents(source / "en.txt.xz"))


def damaged(kind: str, whole: bytes) -> bytes:
    middle = len(whole) // 2
    return {
        "truncated": whole[:middle],
        "corrupt": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :],
        "corrupt xz": b"not xz at all",
        "line 2 is not UTF-8": lzma.compress(b"good\nbad \xff\xfe\n"),
        "holds no document": lzma.compress(b"\n \n\n"),
    }[kind]


@pytest.mark.parametrize("kind", ["truncated", "corrupt", "corrupt xz", "line 2 is not UTF-8", "holds no document"])
def test_a_damaged_file_is_one_line_that_names_it(source, tmp_path, kind):
    path = tmp_path / "en.txt.xz"
    path.write_bytes(damaged(kind, (source / "en.txt.xz").read_bytes()))
    with pytest.raises(HalflingError, match=rf"en\.txt\.xz: .*{kind}") as error:
        list(read_documents(path))
    assert "\n" not in str(error.value)


def test_a_file_cut_between_two_documents_is_truncated_still(tmp_path):
    path = tmp_path / "en.txt.xz"
    path.write_bytes(lzma.compress(b"one\n\ntwo\n\n")[:-4])
    with pytest.raises(HalflingError, match="truncated"):
        list(read_documents(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(HalflingError, match=r"en\.txt\.xz: cannot be read"):
        list(read_documents(tmp_path / "en.txt.xz"))


@pytest.mark.parametrize("block", [1, 2, 3, 5])
def test_blocks_may_be_cut_anywhere(tmp_path, monkeypatch, block):
    path = tmp_path / "en.txt"
    path.write_bytes("\n\n один \nдва\r\n \t\n\n\nthree\n\nfour".encode())
    monkeypatch.setattr("halfling.corpus.sources.cc100._BLOCK", block)
    assert list(read_documents(path)) == ["один\nдва", "three", "four"]


@pytest.mark.parametrize("line", [b"one sentence a line and no blank line\n", b"no line at all "])
def test_a_file_of_one_endless_document_is_one_line(tmp_path, monkeypatch, line):
    monkeypatch.setattr(cc100, "_LONGEST", 2**18)
    (tmp_path / "en.txt").write_bytes(b"a document\n\n" + line * (2**19 // len(line)))
    documents = read_documents(tmp_path / "en.txt")
    assert next(documents) == "a document"
    with pytest.raises(HalflingError, match=r"en\.txt: a document of more than 262144 characters .* blank line"):
        next(documents)
