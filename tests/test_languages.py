import pytest

from halfling.errors import HalflingError
from halfling.languages import CC100, SETS, resolve


def test_cc100_has_116_files_and_xlmr_read_100_of_them():
    assert len(CC100) == len(SETS["cc100"]) == 116
    assert len(SETS["xlmr-100"]) == 100


def test_a_row_of_the_table_is_read_whole():
    swahili = CC100["sw"]
    assert swahili == ("sw", "Swahili", 332_000_000, True)
    assert CC100["my_zaw"].name == "Burmese (Zawgyi)"
    assert not CC100["zu"].in_xlmr


def test_a_set_a_code_and_a_list_resolve():
    assert resolve("thesis-6") == ("en", "ru", "hi", "tr", "sw", "ur")
    assert resolve("sw") == ("sw",)
    assert resolve(["ur", "en"]) == ("ur", "en")


def test_the_six_are_among_xlmrs_hundred():
    assert set(SETS["thesis-6"]) < set(SETS["xlmr-100"])


@pytest.mark.parametrize(
    ("wanted", "near"),
    [("zh-Hand", "zh-Han"), ("swahili", "sw"), ("xlmr100", "xlmr-100"), ("qqq", "sets are")],
)
def test_an_unknown_code_names_the_nearest_known(wanted, near):
    with pytest.raises(HalflingError, match=f"unknown '{wanted}'.*{near}"):
        resolve([wanted])


def test_a_code_said_twice_and_an_empty_list_are_refused():
    with pytest.raises(HalflingError, match="'en' stands there twice"):
        resolve(["en", "ru", "en"])
    with pytest.raises(HalflingError, match="empty list"):
        resolve([])
