import hashlib
import lzma
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from random import Random

import pytest

from halfling.errors import HalflingError
from halfling.sample.fill import bind, fill, tag
from halfling.sample.language import LANGUAGES, TAG_OF_LIST, Language, read_language
from halfling.sample.write import SampleSettings, write_sample

SMALL = SampleSettings(lines=20, train_sentences=20, dev_sentences=10)
SCRIPTS = {
    "en": "LATIN",
    "ru": "CYRILLIC",
    "hi": "DEVANAGARI",
    "tr": "LATIN",
    "sw": "LATIN",
    "ur": "ARABIC",
}
TOY = '''
[names]
man = "Ann"
woman = "Eve"
"surname/surname_woman" = "Lee/Leeva"
"place/place_of" = """
New Ur/New Urs,
Ilium/Iliums
"""
land = "Atlantis"
organisation = "Guild of Ur"
firm = "Acme"

[words]
thing = "pot, pan"

[sentences]
ner = "{man} left."
plain = """
One.
Two.
Three.
"""
nli = """
{man} has a {thing}.
There is a {thing}.
The {thing} is new.
There is no {thing}.
"""
'''


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample")
    write_sample(settings=SampleSettings(), out=out)
    return out


@pytest.fixture
def toy(tmp_path: Path) -> Callable[..., Language]:
    """What reads a small language from its file's text."""

    def read(text: str = TOY) -> Language:
        (tmp_path / "xx.toml").write_text(text)
        return read_language("xx", tmp_path)

    return read


def text_of(path: Path) -> str:
    return lzma.decompress(path.read_bytes()).decode()


def tagged_sentences(path: Path) -> list[list[tuple[str, str]]]:
    blocks = text_of(path).rstrip("\n").split("\n\n")
    return [[(row.split("\t")[0], row.split("\t")[1]) for row in block.split("\n")] for block in blocks]


def pairs(path: Path) -> list[list[str]]:
    return [row.split("\t") for row in text_of(path).splitlines()]


def hashes(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def names_in(path: Path) -> set[str]:
    return {token for sentence in tagged_sentences(path) for token, kind in sentence if kind != "O"}


def test_the_files_are_those_of_the_real_data(sample):
    dev = [f"{folder}/dev-{code}.tsv.xz" for folder in ("panx", "xnli") for code in LANGUAGES]
    train = ["panx/train-en.tsv.xz", "xnli/train-en.tsv.xz"]
    assert set(hashes(sample)) == {*dev, *train, *(f"cc100/{code}.txt.xz" for code in LANGUAGES)}


def test_the_same_settings_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_sample(settings=SMALL, out=tmp_path / name)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


def test_another_seed_gives_other_bytes_in_every_file(tmp_path):
    write_sample(settings=SMALL, out=tmp_path / "a")
    write_sample(settings=SMALL.model_copy(update={"seed": 1}), out=tmp_path / "b")
    one, other = hashes(tmp_path / "a"), hashes(tmp_path / "b")
    assert all(one[name] != other[name] for name in one)


def test_a_file_depends_on_its_own_size_only(tmp_path):
    write_sample(settings=SMALL, out=tmp_path / "a")
    write_sample(settings=SMALL.model_copy(update={"lines": 30}), out=tmp_path / "b")
    one, other = hashes(tmp_path / "a"), hashes(tmp_path / "b")
    assert {name for name in one if one[name] != other[name]} == {f"cc100/{code}.txt.xz" for code in LANGUAGES}


def test_counts_are_those_of_the_files(tmp_path):
    counts = write_sample(settings=SMALL, out=tmp_path)
    documents = text_of(tmp_path / "cc100/ur.txt.xz").rstrip("\n").split("\n\n")
    assert counts["documents"]["ur"] == len(documents)
    assert counts["lines"]["ur"] == sum(len(document.split("\n")) for document in documents) == 20
    assert counts["ner_sentences"]["dev-tr"] == len(tagged_sentences(tmp_path / "panx/dev-tr.tsv.xz")) == 10
    assert counts["nli_pairs"]["train-en"] == len(pairs(tmp_path / "xnli/train-en.tsv.xz")) == 20


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_has_thousands_of_different_lines_in_documents_of_two_to_six(sample, code):
    documents = text_of(sample / f"cc100/{code}.txt.xz").rstrip("\n").split("\n\n")
    lines = [line for document in documents for line in document.split("\n")]
    assert len(lines) == len(set(lines)) == 4000
    assert {len(document.split("\n")) for document in documents} == {2, 3, 4, 5, 6}


@pytest.mark.parametrize("code", LANGUAGES)
def test_letters_are_of_the_language_s_script(sample, code):
    files = [
        sample / f"cc100/{code}.txt.xz",
        sample / f"panx/dev-{code}.tsv.xz",
        sample / f"xnli/dev-{code}.tsv.xz",
    ]
    # Tags and labels are Latin in every file.
    latin = r"\t([OBI](-[A-Z]{3})?|entailment|neutral|contradiction)$"
    text = "".join(re.sub(latin, "", text_of(file), flags=re.M) for file in files)
    scripts = {unicodedata.name(letter).split()[0] for letter in set(text) if letter.isalpha()}
    assert scripts == {SCRIPTS[code]}


def test_no_slot_is_left_unfilled(sample):
    for path in sample.rglob("*.xz"):
        assert not re.search(r"[{}]|None", text_of(path)), path.name


@pytest.mark.parametrize("name", ["train-en", *(f"dev-{code}" for code in LANGUAGES)])
def test_tags_are_valid_iob2_and_sentences_hold_none_to_several_names(sample, name):
    sentences = tagged_sentences(sample / f"panx/{name}.tsv.xz")
    tags = {kind for sentence in sentences for _, kind in sentence}
    assert tags == {"O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"}
    for sentence in sentences:
        previous = "O"
        for token, kind in sentence:
            assert token
            assert not re.search(r"\s", token)
            assert not kind.startswith("I-") or previous[2:] == kind[2:]
            previous = kind
    counts = Counter(sum(kind.startswith("B-") for _, kind in sentence) for sentence in sentences)
    assert {0, 1, 2, 3} <= set(counts)


@pytest.mark.parametrize("name", ["train-en", *(f"dev-{code}" for code in LANGUAGES)])
def test_labels_are_balanced_and_each_premise_stands_with_all_three(sample, name):
    rows = pairs(sample / f"xnli/{name}.tsv.xz")
    counts = Counter(label for *_, label in rows)
    assert set(counts) == {"entailment", "neutral", "contradiction"}
    assert max(counts.values()) - min(counts.values()) <= 1
    for _, group in groupby(rows[: len(rows) // 3 * 3], key=lambda row: row[0]):
        triple = list(group)
        assert len({row[1] for row in triple}) == len({row[2] for row in triple}) == 3
        assert all(row[1] != row[0] for row in triple)


def test_train_and_dev_share_no_sentence_and_no_premise(sample):
    for task in ("panx", "xnli"):
        read = tagged_sentences if task == "panx" else lambda path: [row[0] for row in pairs(path)]
        train = {str(one) for one in read(sample / f"{task}/train-en.tsv.xz")}
        dev = {str(one) for one in read(sample / f"{task}/dev-en.tsv.xz")}
        assert not train & dev


def test_dev_holds_names_that_training_never_saw(sample):
    unseen = names_in(sample / "panx/dev-en.tsv.xz") - names_in(sample / "panx/train-en.tsv.xz")
    for name in ("man", "woman", "place"):
        assert len(unseen & {entry[name] for entry in read_language("en").entries[name][2::3]}) >= 5


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_slot_of_every_template_has_a_list_and_a_form(code):
    language = read_language(code)
    lists = language.lists(held_out=True)
    for text in (*language.ner, *language.plain, *(text for schema in language.nli for text in schema)):
        filled = fill(text, bind([text], lists, Random(0)))
        # No sentence begins with a small letter, as it would with a slot for a common noun.
        assert not filled[0].islower(), filled


@pytest.mark.parametrize("code", LANGUAGES)
def test_a_language_has_the_variety_that_it_promises(code):
    language = read_language(code)
    assert len(set(language.ner)) >= 30
    assert len(set(language.plain)) >= 40
    assert len(set(language.nli)) >= 15
    assert len(language.lists(held_out=False)["man"]) >= 400
    assert len(language.entries["place"]) >= 25
    assert len(language.entries["organisation"]) >= 20
    assert len(language.entries["thing"]) >= 18
    for name in TAG_OF_LIST:
        assert len({entry[name] for entry in language.entries[name]}) == len(language.entries[name])


def test_a_tagged_sentence_is_cut_at_punctuation_and_names_keep_their_words_together():
    bound = {"place": {"place": "New Ur", "place_of": "New Urs"}, "man": {"man": "Ann Lee", "man_first": "Ann"}}
    assert tag('"{man_first}", of {place_of}.', bound) == [
        ('"', "O"),
        ("Ann", "B-PER"),
        ('"', "O"),
        (",", "O"),
        ("of", "O"),
        ("New", "B-LOC"),
        ("Urs", "I-LOC"),
        (".", "O"),
    ]


def test_numbered_slots_take_different_entries_and_a_repeated_slot_the_same(toy):
    lists = toy().lists(held_out=False)
    for seed in range(20):
        bound = bind(["{thing} {thing2} {place}", "{place_of}"], lists, Random(seed))
        assert {bound["thing"]["thing"], bound["thing2"]["thing"]} == {"pot", "pan"}
        assert fill("{place}|{place_of}", bound) in {"New Ur|New Urs", "Ilium|Iliums"}


def test_a_surname_may_have_a_form_for_women(toy):
    lists = toy().lists(held_out=False)
    assert lists["man"] == ({"man": "Ann Lee", "man_first": "Ann"},)
    assert lists["woman"] == ({"woman": "Eve Leeva", "woman_first": "Eve"},)


def test_every_third_name_is_held_out_and_no_word():
    kept, whole = (read_language("en").lists(held_out=held_out) for held_out in (True, False))
    assert [entry["land"] for entry in kept["land"][:4]] == ["France", "Kenya", "India", "Pakistan"]
    assert all(
        kept[name] == whole[name] for name in read_language("en").entries if name not in (*TAG_OF_LIST, "surname")
    )


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("Ilium/Iliums", "Ilium", r"xx.toml: 'Ilium' has 1 forms: give 2, as in 'place/place_of'"),
        ("The {thing} is new.\n", "", r"xx.toml: the schema of '{man} has a {thing}.' has 3 lines: give 4"),
    ],
)
def test_an_item_with_a_missing_form_and_a_short_schema_are_refused(toy, right, wrong, said):
    with pytest.raises(HalflingError, match=re.escape(said)):
        toy(TOY.replace(right, wrong))


def test_asking_for_more_sentences_than_there_are_is_an_error(toy, tmp_path, monkeypatch):
    monkeypatch.setattr("halfling.sample.write.read_language", lambda _: toy())
    with pytest.raises(HalflingError, match="sample, en: too few different sentences: ask for fewer train_sentences"):
        write_sample(settings=SMALL, out=tmp_path)


def test_importing_the_stage_reads_no_language():
    code = "import tomllib; tomllib.loads = None; import halfling.sample.write"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_sample_needs_neither_torch_nor_transformers():
    code = "import sys, halfling.sample.write; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
