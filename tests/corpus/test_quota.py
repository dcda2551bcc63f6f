import random

import pytest
from pydantic import ValidationError

from halfling.corpus.build import CorpusSettings
from halfling.corpus.quota import QuotaSettings, quotas, share_out
from halfling.errors import HalflingError
from halfling.languages import CC100, SETS


def test_bytes_may_have_a_unit_and_no_other():
    assert CorpusSettings(total_bytes="1.5KiB").total_bytes == 1536
    settings = CorpusSettings(total_bytes="40MB", floors={"en": "1 kB"}, caps={"sw": 7})
    assert (settings.total_bytes, settings.floors, settings.caps) == (40_000_000, {"en": 1000}, {"sw": 7})
    with pytest.raises(ValidationError, match="'40 apples' is not a number of bytes"):
        CorpusSettings(total_bytes="40 apples")


def test_alpha_one_keeps_proportions_and_zero_shares_alike():
    sizes = {"en": 600, "ru": 300, "sw": 100}
    assert share_out(sizes, total=100, alpha=1.0) == {"en": 60, "ru": 30, "sw": 10}
    assert share_out(sizes, total=99, alpha=0.0) == {"en": 33, "ru": 33, "sw": 33}


def test_alpha_one_half_shares_by_square_roots():
    assert share_out({"en": 900, "sw": 100}, total=200, alpha=0.5) == {"en": 150, "sw": 50}


def test_what_a_small_language_leaves_is_shared_out_again():
    # Alike would be 100 each; sw has 40, and its 60 go to the other two; then hi has only 120.
    limits = {"en": 1000, "hi": 120, "sw": 40}
    assert share_out(limits, total=300, alpha=0.0) == {"en": 140, "hi": 120, "sw": 40}


def test_more_than_there_is_gives_all_there_is():
    assert share_out({"en": 5, "sw": 3}, total=100, alpha=1.0, limits={"en": 4}) == {"en": 4, "sw": 3}


def test_leftover_bytes_go_to_the_largest_remainders():
    # 10 * (5, 3, 2) / 9 = 5.56, 3.33, 2.22 at total 10... of sizes 5, 3, 1: 5.56, 3.33, 1.11.
    assert share_out({"a": 5, "b": 3, "c": 1}, total=8, alpha=1.0) == {"a": 4, "b": 3, "c": 1}


def test_shares_add_up_exactly_and_stay_within_limits():
    chance = random.Random(0)
    for _ in range(200):
        sizes = {f"l{i}": chance.randint(1, 10 ** chance.randint(1, 12)) for i in range(chance.randint(1, 40))}
        limits = {code: chance.randint(1, size) for code, size in sizes.items()}
        total = chance.randint(1, 2 * sum(limits.values()))
        shares = share_out(sizes, total=total, alpha=chance.choice([0.0, 0.3, 0.7, 1.0]), limits=limits)
        assert sum(shares.values()) == min(total, sum(limits.values()))
        assert all(0 <= shares[code] <= limits[code] for code in sizes)


def test_a_floor_is_taken_from_the_others_in_proportion():
    # 90, 9 and 1 without it; sw is given 20, and the 80 left are shared 90 to 9... 72.7 and 7.3.
    sizes = {"en": 900, "hi": 90, "sw": 10}
    floors = {"sw": 20}
    limits = dict.fromkeys(sizes, 1000)
    assert share_out(sizes, total=100, alpha=1.0, limits=limits, floors=floors) == {"en": 73, "hi": 7, "sw": 20}


def test_floor_cap_and_limit_meet_in_one_mix():
    # en is capped at 50, sw lifted to 30 but has 25: hi and ru share the other 25, alike.
    sizes = {"en": 900, "hi": 10, "ru": 10, "sw": 1}
    shares = share_out(sizes, total=100, alpha=1.0, limits={"en": 50, "hi": 99, "ru": 99, "sw": 25}, floors={"sw": 30})
    assert shares == {"en": 50, "hi": 13, "ru": 12, "sw": 25}


def test_shares_with_floors_add_up_and_lie_within_bounds():
    chance = random.Random(1)
    for _ in range(200):
        sizes = {f"l{i}": chance.randint(1, 10 ** chance.randint(1, 12)) for i in range(chance.randint(1, 40))}
        limits = {code: chance.randint(1, 10**12) for code in sizes}
        floors = {code: chance.randint(0, limits[code]) for code in sizes if chance.random() < 0.3}
        total = sum(floors.values()) + chance.randint(0, 10**12)
        shares = share_out(sizes, total=total, alpha=chance.choice([0.0, 0.3, 1.0]), limits=limits, floors=floors)
        assert sum(shares.values()) == min(total, sum(limits.values()))
        assert all(floors.get(code, 0) <= share <= limits[code] for code, share in shares.items())


def test_floors_above_the_total_and_of_strangers_are_refused():
    with pytest.raises(HalflingError, match="floors add up to 300 bytes, more than the total of 200"):
        quotas(QuotaSettings(total_bytes=200, floors={"all": 100}), ["en", "ru", "sw"], {})
    with pytest.raises(HalflingError, match="caps: 'hi' is not among the languages"):
        quotas(QuotaSettings(total_bytes=200, caps={"hi": 100}), ["en", "ru", "sw"], {})


def test_the_quotas_of_27_gb_follow_the_published_sizes_to_the_byte():
    wanted = quotas(QuotaSettings(total_bytes="27GB"), SETS["xlmr-100"], {})
    assert sum(wanted.values()) == 27 * 10**9
    whole = sum(CC100[code].compressed_bytes for code in wanted)
    # 82 GB and 332 MB of 550.2 GB: English gets 4 GB, Swahili 16 MB.
    assert wanted["en"] == pytest.approx(27e9 * 82e9 / whole, abs=1) == pytest.approx(4.02e9, rel=1e-2)
    assert wanted["sw"] == pytest.approx(27e9 * 332e6 / whole, abs=1) == pytest.approx(16.3e6, rel=1e-2)


def test_without_a_total_everything_is_wanted_up_to_the_cap():
    settings = QuotaSettings(caps={"en": "1kB"})
    assert quotas(settings, ["en", "sw"], {"en": 5000, "sw": 70}) == {"en": 1000, "sw": 70}


def test_one_bound_for_all_gives_way_to_that_of_a_language():
    settings = QuotaSettings(total_bytes=100, floors={"all": 10, "sw": 20})
    assert quotas(settings, ["en", "as", "sw"], {}) == {"as": 10, "en": 70, "sw": 20}
