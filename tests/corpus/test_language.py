import sys

import pytest

from halfling.corpus.filters import language
from halfling.corpus.filters.clean import Cleaner, CleanSettings
from halfling.corpus.filters.language import other_language
from halfling.errors import HalflingError
from halfling.languages import CC100, SETS

ENGLISH = "The children stood at the old mill by the river and watched the boats carry grain to the market town."
SWAHILI = "Watoto walisimama karibu na kinu cha zamani kando ya mto wakatazama mashua zikibeba nafaka kwenda sokoni."
KURDISH = "Zarok li ber aşê kevn ê li kêleka çem sekinîn û li qeyikên ku genim dibirin bazarê temaşe kirin."
BOSNIAN = "Djeca su stajala pored starog mlina kraj rijeke i gledala kako lađe nose žito na pijacu u gradu."


def drops(code, *texts, **settings):
    cleaner = Cleaner(CleanSettings(min_script_share=0, **settings), CC100[code].scripts, code)
    return [each if isinstance(each, str) else None for each in cleaner.clean(texts)]


def test_a_document_of_another_language_is_dropped_with_its_reason():
    assert drops("sw", SWAHILI, ENGLISH, max_other_language=0.9) == [None, "wrong_language"]
    assert drops("km", KURDISH, max_other_language=0.9) == ["wrong_language"]


def test_who_is_not_sure_drops_nothing():
    mixed = f"{SWAHILI[:40]} {ENGLISH[:40]}"
    assert drops("sw", mixed, "Habari 2019 Google", max_other_language=0.99) == [None, None]


def test_nobody_is_asked_by_default():
    assert drops("sw", ENGLISH) == [None]


def test_kin_is_not_another_language():
    assert drops("hr", BOSNIAN, max_other_language=0) == [None]
    assert drops("en", BOSNIAN, max_other_language=0.9) == ["wrong_language"]


@pytest.mark.parametrize("code", ["su", "ur_rom", "sd", "yi"])
def test_languages_that_it_does_not_know_are_left_alone(code):
    assert other_language(code, 0.0) is None
    assert drops(code, ENGLISH, max_other_language=0) == [None]


def test_it_knows_most_of_the_hundred():
    assert sum(other_language(code, 0.0) is not None for code in SETS["xlmr-100"]) == 91


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    language._identifier.cache_clear()
    assert drops("sw", ENGLISH) == [None]
    with pytest.raises(HalflingError, match=r"py3langid is not installed: pip install 'halfling-nlp\[langid\]'"):
        drops("sw", ENGLISH, max_other_language=0.9)


def test_a_corpus_made_without_it_is_said_to_be_the_same_as_before():
    assert "max_other_language" not in CleanSettings().model_dump(mode="json")
    assert CleanSettings(max_other_language=0).model_dump()["max_other_language"] == 0


def test_a_corpus_counts_what_was_dropped(tmp_path, build, write_source):
    source = write_source(tmp_path / "source", {"sw": [f"{SWAHILI} {n}" for n in range(9)] + [ENGLISH]})
    counts = build(source, tmp_path / "out", clean=CleanSettings(max_other_language=0.9))
    assert counts["languages"]["sw"]["dropped"] == {"wrong_language": 1}
    assert "wrong_language" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
