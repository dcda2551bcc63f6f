import pytest

from halfling.errors import HalflingError
from halfling.languages import CC100, SETS, resolve, task_name


def test_cc100_has_116_files_and_xlmr_read_100_of_them():
    assert len(CC100) == len(SETS["cc100"]) == 116
    assert len(SETS["xlmr-100"]) == 100


def test_a_row_of_the_table_is_read_whole():
    swahili = CC100["sw"]
    # 1.6 GiB of text, says XLM-R's appendix A.
    assert swahili == ("sw", "Swahili", 332_000_000, int(1.6 * 2**30), True, ("Latn",), "sw", "sw")
    assert CC100["my_zaw"].name == "Burmese (Zawgyi)"
    assert CC100["ja"].scripts == ("Hira", "Kana", "Hani")
    assert not CC100["zu"].in_xlmr


def test_the_text_of_a_small_file_follows_the_ratio_of_its_script():
    # Assamese: 0.1 GiB says the paper, rounded; Bengali script holds (8.4 + 0.1) GiB in 867.6 MB.
    assert CC100["as"].text_bytes == int(7_600_000 * 8.5 * 2**30 / 867_600_000)
    # XLM-R did not read Zulu; its script is Latin, which expands four times.
    assert 4 < CC100["zu"].text_bytes / CC100["zu"].compressed_bytes < 4.5
    assert 2.3e12 < sum(CC100[code].text_bytes for code in SETS["xlmr-100"]) < 2.7e12


def test_each_task_has_its_own_name_for_a_language():
    assert task_name("xnli", "zh-Hans") == task_name("wikiann", "zh-Hans") == "zh"
    assert task_name("wikiann", "sw") == "sw"
    assert sum(language.xnli is not None for language in CC100.values()) == 15
    with pytest.raises(HalflingError, match="xnli does not hold Japanese"):
        task_name("xnli", "ja")
    with pytest.raises(HalflingError, match="unknown 'swa'"):
        task_name("wikiann", "swa")


def test_a_set_a_code_and_a_list_resolve():
    assert resolve("thesis-6") == ("en", "ru", "hi", "tr", "sw", "ur")
    assert resolve("sw") == ("sw",)
    assert resolve(["ur", "en"]) == ("ur", "en")


def test_the_six_are_among_xlmrs_hundred():
    assert set(SETS["thesis-6"]) < set(SETS["xlmr-100"])


@pytest.mark.parametrize(
    ("wanted", "near"),
    [("zh-Hand", "zh-Han"), ("swahili", "sw"), ("xlmr100", "xlmr-100"), ("qqq", "sets are"), ("sw,en", r"\[sw,en\]")],
)
def test_an_unknown_code_names_the_nearest_known(wanted, near):
    with pytest.raises(HalflingError, match=f"unknown '{wanted}'.*{near}"):
        resolve([wanted])


def test_a_code_said_twice_and_an_empty_list_are_refused():
    with pytest.raises(HalflingError, match="'en' stands there twice"):
        resolve(["en", "ru", "en"])
    with pytest.raises(HalflingError, match="empty list"):
        resolve([])
