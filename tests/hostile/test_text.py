"""Texts that a reader might take for something else: clean capitals, other encodings, strange characters."""

import io
import itertools
import json
import lzma
import os
import resource
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from halfling.cli.texts import read_texts
from halfling.corpus.build import CorpusSettings, build_corpus
from halfling.corpus.filters.unicode import mend
from halfling.corpus.partition import open_files
from halfling.corpus.sources.cc100 import read_documents
from halfling.corpus.steps import require_open_files
from halfling.corpus.store import read_batches
from halfling.errors import HalflingError
from halfling.settings import read_settings
from halfling.tasks import plain
from halfling.tasks.examples import TaggedExample, TextExample, read_examples
from halfling.tasks.task import Task

QUOTES = "‘’“”‚„‹›«»"
LETTERS = [chr(code) for code in (*range(0xC0, 0x120), *range(0x120, 0x1F00, 19)) if chr(code).isalpha()]
LETTERS = [letter for letter in LETTERS if unicodedata.is_normalized("NFC", letter)]
"""Of Latin-1, every one: mojibake is made of those; some of each other script."""


@pytest.mark.parametrize(
    "text",
    [
        "«MAÇÃ»",
        "“IRMÔ",
        "“HÂLÂ”",
        "“QUÁN XÔ",
        "A palavra é “IRMÔ, com til.",
        "„CHÂTEAU D’Â“",
        "»SPASS MIT Ö«",
        "MİKÂ’nın ve ODTÜ’nün, “Ô’nun",
        "A IRMÃ… disse: “VOCÊS, DA MANHÃ”—e foi",
        "SAMBÃ™ e MAÇÃ€",
        "SÃO JOSÉ² e IRMÃ³, AMANHÃ®",
        "CORAÇÃ\xadO DE MÃ\xa0MARIA, HÂLÂ\xa0HÂLÂ",
        "voilà\xa0»… “Groß”, »Spaß«",
        "«LÃ»: a lã da irmã",
    ],
)
def test_clean_capitals_before_punctuation_stay(text):
    assert mend(text) == (text, ())
    assert mend(f"{text} e {text.lower()}").text == f"{text} e {text.lower()}"


def places(letter: str, mark: str) -> list[str]:
    """Texts in which a letter stands before a quotation mark."""
    word = ("AB" if letter.isupper() else "ab") + letter
    found = [
        f"{letter}{mark}",
        f"{word}{mark}",
        f"{word}{mark}.",
        f"Ab {word}{mark}, ab",
        f"{letter}{mark} ab",
        f"ab {letter}{mark}",
    ]
    for begin in f"{QUOTES}\"'(":
        found += [
            f"{begin}{letter}{mark}",
            f"{begin}{word}{mark}",
            f"Ab c {begin}{word}{mark} ab.",
            f"{begin}{letter}b{mark}",
        ]
    found += [f"“{word}{mark}{after} ab" for after in "…–—»”’!?.,;:)"]
    return [*found, f"{word}’nin", f"{word}’S", f"“{letter}{mark}nin", f"“{word}{mark}\n“ab {word}{mark}"]


@pytest.mark.parametrize("mark", QUOTES)
def test_no_letter_before_a_quotation_mark_is_changed(mark):
    changed = [text for letter in LETTERS for text in places(letter, mark) if mend(text) != (text, ())]
    assert not changed


@pytest.mark.parametrize("pair", [*itertools.product("ÂÃÎÐÉÔ", repeat=2)], ids="".join)
def test_two_such_words_in_a_line_are_no_proof_either(pair):
    one, two = pair
    for mark, other in itertools.product("’”»…", repeat=2):
        text = f"Ele disse «AB{one}{mark} e “{two}{other}"
        assert mend(text) == (text, ())


def misread(text: str) -> list[str]:
    """UTF-8 read as Latin-1 and as Windows-1252, which leaves what it does not know."""
    bytes_ = text.encode()
    return [
        bytes_.decode("latin-1"),
        "".join(bytes([one]).decode("cp1252", "ignore") or chr(one) for one in bytes_),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "La café est très bon",
        "it’s here, the boys’ room",
        "“Hello”, «Bonjour», « Bonjour »",
        "L’État, c’est moi… Il a dû partir, ça coûte",
        "SÃO PAULO, KÖLN, ESPAÑA, FRANÇA, ÉTAT, COÛTÉ",
        "À bientôt",
        "3 × 4 = 12, N° 5, § 5, WINDOWS® 10, 20 °C",
        "привет, ПРИВЕТ, «МАМА»",
        "Ελλάδα, 你好, नमस्ते, đường, Łódź, İstanbul’da 😀",
        "33. ↑ Siapan",
    ],
)
def test_mojibake_is_still_mended(text):
    for broken in misread(text):
        assert mend(broken).text == text
        assert "mojibake" in mend(broken).changes


def test_a_line_of_both_is_mended_where_it_is_broken():
    assert mend("“IRMÔ e cafÃ©, «MAÇÃ» e trÃ¨s").text == "“IRMÔ e café, «MAÇÃ» e très"


def test_a_long_line_is_mended_too():
    begin, again = "“IRMÔ disse que o cafÃ© é bom, ", "“IRMÔ disse que o café é bom, "
    assert mend(begin * 20_000).text == (again * 20_000).strip()


def test_every_change_is_counted_by_language_and_said_on_the_card(tmp_path):
    (tmp_path / "source").mkdir()
    texts = [
        "La cafÃ© est trÃ¨s bon, et trÃ¨s cher aussi",
        "cafe\u0301 en deux signes, et de plus en plus",
        "une tabulation\tet un signe\x07 de trop dans ce texte",
        "«MAÇÃ» est un mot propre, et le reste aussi",
        "court\t",  # dropped, so what was mended in it counts nowhere
    ]
    (tmp_path / "source" / "fr.txt").write_text("\n\n".join(texts), encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    counts = build_corpus(settings=CorpusSettings(chunks=1, workers=1), source=tmp_path / "source", out=out)
    assert counts["languages"]["fr"]["mended"] == {"controls": 1, "mojibake": 1, "normal_form": 1, "spaces": 1}
    assert counts["languages"]["fr"]["dropped"] == {"too_short": 1}
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "| mojibake | 1 |" in card
    assert "| fr | French | 4 |" in card
    kept = {each.text for batch in read_batches(out / "chunk-1" / "fr.parquet") for each in batch}
    assert "«MAÇÃ» est un mot propre, et le reste aussi" in kept
    assert "La café est très bon, et très cher aussi" in kept


MARK = "\ufeff"
ROWS = {
    "dev.csv": "text,label\nAnna lives,yes\nin Rome,no\n",
    "dev.tsv": "text\tlabel\nAnna lives\tyes\nin Rome\tno\n",
    "dev.jsonl": '{"text": "Anna lives", "label": "yes"}\n{"text": "in Rome", "label": "no"}\n',
    "dev.conll": "Anna\tB-PER\nlives\tO\n\nRome\tB-LOC\n",
}
TEXTS = [TextExample("Anna lives", None, "yes"), TextExample("in Rome", None, "no")]
TAGGED = [TaggedExample(("Anna", "lives"), ("B-PER", "O")), TaggedExample(("Rome",), ("B-LOC",))]


def read(path: Path, content: bytes | str, **fields):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_examples(Task(dev={"en": str(path)}, **fields), "dev", "en")


def refused(path: Path, content: bytes | str, message: str, **fields) -> None:
    with pytest.raises(HalflingError, match=message) as error:
        read(path, content, **fields)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("mark", [MARK, MARK * 2])
def test_a_byte_order_mark_is_no_part_of_a_word(name, mark, tmp_path):
    if name == "dev.jsonl" and mark != MARK:
        pytest.skip("no JSON begins so")
    assert read(tmp_path / name, mark + ROWS[name]) == (TAGGED if name == "dev.conll" else TEXTS)


@pytest.mark.parametrize(("name", "between"), [("dev.csv", "\nin"), ("dev.tsv", "\nin"), ("dev.conll", "\nRome")])
def test_nor_is_one_within_a_file_that_was_joined_of_two(name, between, tmp_path):
    joined = MARK + ROWS[name].replace(between, "\n" + MARK + between[1:])
    assert read(tmp_path / name, joined) == (TAGGED if name == "dev.conll" else TEXTS)


def test_without_a_header_too(tmp_path):
    assert read(tmp_path / "dev.csv", f"{MARK}Anna lives,yes\nin Rome,no\n", columns=("text", "label")) == TEXTS


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"])
def test_utf_16_is_refused_whatever_its_letters(name, encoding, tmp_path):
    for text in (ROWS[name], ROWS[name].replace("Anna", "Анна").replace("Rome", "Рим")):
        refused(tmp_path / name, text.encode(encoding), f"{name}: UTF-16 or binary, not UTF-8: convert")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("text", ["Anna lives.\n\nIn Rome.\n", "Анна живёт.\n\nВ Риме.\n", "one line"])
def test_utf_16_is_no_corpus(text, encoding, tmp_path):
    (tmp_path / "en.txt").write_bytes(text.encode(encoding))
    with pytest.raises(HalflingError, match=r"en.txt: UTF-16 or binary, not UTF-8"):
        list(read_documents(tmp_path / "en.txt"))


def test_carriage_returns_alone_end_lines_or_are_refused(tmp_path):
    for name, text in ROWS.items():
        if name in ("dev.csv", "dev.jsonl"):
            assert read(tmp_path / name, text.replace("\n", "\r")) == TEXTS
        else:
            refused(tmp_path / name, text.replace("\n", "\r"), f"{name}: lines end in carriage returns alone")
    (tmp_path / "en.txt").write_bytes(b"Anna lives.\r\rIn Rome.\r")
    with pytest.raises(HalflingError, match=r"en.txt: lines end in carriage returns alone"):
        list(read_documents(tmp_path / "en.txt"))


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c", "\x00"])
def test_what_ends_lines_elsewhere_stays_within_a_cell(inside, tmp_path):
    for name, text in ROWS.items():
        given = text.replace("lives", f"li{inside}ves")
        if name == "dev.jsonl":
            given = text.replace("lives", f"li\\u{ord(inside):04x}ves")
        first, *_ = read(tmp_path / name, given)
        assert (first.words[1] if name == "dev.conll" else first.text[5:]) == f"li{inside}ves"


@pytest.mark.parametrize("escape", [r"\ud800", r"\udc00", r"\\\ud800", r"\ud83d\ude00\ude00", r"\ud83d\ud83d\ude00"])
def test_half_a_character_is_refused_not_dropped(escape, tmp_path):
    row = f'{{"text": "Anna {escape} lives", "label": "yes"}}'
    refused(tmp_path / "dev.jsonl", f"{row}\n", r"dev.jsonl, line 1: .u.... is half a character")
    refused(tmp_path / "dev.json", f"[\n{row}]\n", r"dev.json, line 2: .u.... is half a character")
    for name in ("dev.csv", "dev.conll"):
        surrogate = ROWS[name].replace("lives", "li\ud800ves").encode("utf-8", "surrogatepass")
        refused(tmp_path / name, surrogate, f"{name}: not UTF-8")


def test_a_whole_character_in_two_halves_and_a_backslash_are_text(tmp_path):
    row = r'{"text": "\ud83d\ude00 \\ud800", "label": "yes"}'
    assert read(tmp_path / "dev.jsonl", f"{row}\n")[0].text == json.loads(row)["text"] == "😀 \\ud800"


def test_cells_and_lines_of_ten_megabytes(tmp_path):
    long = "word " * 2_000_000 + "end"
    assert read(tmp_path / "dev.csv", f"text,label\n{long},yes\n")[0].text == long
    assert read(tmp_path / "dev.jsonl", f'{{"text": "{long}", "label": "yes"}}\n')[0].text == long
    assert read(tmp_path / "dev.conll", f"{'x' * 10_000_000} O\n")[0].words == ("x" * 10_000_000,)
    for name in ROWS:
        refused(tmp_path / name, "x" * 10_000_000, f"{name}.*malformed")


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("content", ["", "\n", MARK, f"{MARK}\n\n", "  \n"])
def test_a_file_of_nothing_is_one_line(name, content, tmp_path):
    refused(tmp_path / name, content, rf"{name}.*(empty|malformed|no column)")


XNLI = {"columns": ("premise", "hypothesis", "label"), "text_pair": "hypothesis"}


def test_a_column_too_many_is_no_part_of_the_hypothesis(tmp_path):
    path = tmp_path / "dev.tsv"
    pair = 'Anna "lives.\tShe lives.\tneutral\n'
    assert read(path, pair, **XNLI) == [TextExample('Anna "lives.', "She lives.", "neutral")]
    for more in ("a\tb\tc\tneutral\n", pair + "a\tb\tc\tneutral\n", "a\tb\tc\tneutral\n" + pair):
        refused(path, more, "dev.tsv: malformed", **XNLI)
    refused(path, pair + "a\tneutral\n", r"dev.tsv, row 2: no label", **XNLI)


def test_a_bomb_of_labelled_data_is_refused_before_the_disk_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "_LARGEST", 2**20)
    refused(tmp_path / "dev.csv.xz", lzma.compress(bytes(2**24)), "unpacks to more than 1048576 bytes")


def test_links_in_a_corpus_folder_are_read_and_left(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    (tmp_path / "elsewhere.txt").write_text("A document that lies elsewhere.\n")
    (source / "en.txt").symlink_to(tmp_path / "elsewhere.txt")
    (source / "sw.txt").symlink_to(tmp_path / "nowhere.txt")
    (source / "again").symlink_to(source)
    settings = CorpusSettings(languages=("en",), chunks=1, workers=1)
    assert build_corpus(settings=settings, source=source, out=out)["documents"] == 1
    assert (tmp_path / "elsewhere.txt").read_text() == "A document that lies elsewhere.\n"
    with pytest.raises(HalflingError, match=r"sw.txt.xz: no such file"):
        build_corpus(settings=CorpusSettings(languages=("sw",)), source=source, out=out)


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("chunks=99999999999", "chunks"),
        ("chunks=0", "chunks"),
        ("chunks=-5", "chunks"),
        ("total_bytes=-1", "total_bytes"),
        ("total_bytes=1e30", "total_bytes"),
        ("total_bytes=99999999999999999999GB", "total_bytes"),
        ("alpha=-1", "alpha"),
        ("alpha=.nan", "alpha"),
        ("alpha=1e300", "alpha"),
        ("workers=-1", "workers"),
        ("workers=99999999999", "workers"),
        ("seed=-1", "seed"),
        ("clean.min_characters=-1", "min_characters"),
        ("clean.min_characters=1e30", "min_characters"),
        ("clean.max_characters=-5", "max_characters"),
        ("clean.max_characters=99999999999999999999", "max_characters"),
        ("clean.min_script_share=-0.1", "min_script_share"),
        ("clean.min_script_share=.nan", "min_script_share"),
        ("clean.max_symbol_share=2", "max_symbol_share"),
        ("clean.min_compressed_share=.inf", "min_compressed_share"),
        ("clean.once_bytes=-1", "once_bytes"),
    ],
)
def test_a_number_that_means_nothing_is_refused_by_name(setting, name):
    with pytest.raises(HalflingError, match=name) as error:
        read_settings(CorpusSettings, [setting])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_more_chunks_than_files_may_be_open_are_refused_at_once(tmp_path):
    allowed, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
    try:
        assert open_files() == 12
        require_open_files(36)
        with pytest.raises(
            HalflingError, match=r"chunks: 37, but 100 files may be open here \(ulimit -n\), enough for 36"
        ):
            build_corpus(settings=CorpusSettings(chunks=37), source=tmp_path / "nowhere", out=tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    assert not (tmp_path / "out").exists()


def test_as_many_chunks_as_may_be_open_are_written(tmp_path):
    (tmp_path / "en.txt").write_text("\n\n".join(f"Document number {n} of this text." for n in range(24)))
    run = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (70, 70))
from pathlib import Path
from halfling.corpus import ingest
from halfling.cli.texts import read_texts
from halfling.corpus.build import CorpusSettings, build_corpus
ingest.RUN_BYTES, ingest._BATCH_CHARACTERS, ingest._MIN_PARTS = 60, 60, 4  # as many runs as a large corpus has
folder = Path({str(tmp_path)!r})
build_corpus(settings=CorpusSettings(chunks=14, workers=1), source=folder, out=folder / "out")
"""
    (tmp_path / "out").mkdir()
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    assert len(list((tmp_path / "out").glob("chunk-*/en.parquet"))) == 14


def test_a_mark_on_standard_input_is_no_part_of_a_text(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{MARK}Anna lives in Rome\nBo\n"))
    assert read_texts(None, [], pairs=False) == ["Anna lives in Rome", "Bo"]
