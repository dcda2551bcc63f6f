import random

import pytest
from pydantic import ValidationError

from halfling.corpus.build import CorpusSettings
from halfling.corpus.quota import QuotaSettings, quotas, share_out
from halfling.languages import CC100, SETS


def test_bytes_may_have_a_unit_and_no_other():
    assert CorpusSettings(total_bytes="1.5KiB").total_bytes == 1536
    assert CorpusSettings(total_bytes="40 MB").total_bytes == 40_000_000
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


def test_the_quotas_of_27_gb_follow_the_published_sizes_to_the_byte():
    wanted = quotas(QuotaSettings(total_bytes="27GB"), SETS["xlmr-100"], {})
    assert sum(wanted.values()) == 27 * 10**9
    whole = sum(CC100[code].compressed_bytes for code in wanted)
    # 82 GB and 332 MB of 550.2 GB: English gets 4 GB, Swahili 16 MB.
    assert wanted["en"] == pytest.approx(27e9 * 82e9 / whole, abs=1) == pytest.approx(4.02e9, rel=1e-2)
    assert wanted["sw"] == pytest.approx(27e9 * 332e6 / whole, abs=1) == pytest.approx(16.3e6, rel=1e-2)


def test_without_a_total_everything_is_wanted():
    assert quotas(QuotaSettings(), ["en", "sw"], {"en": 5000, "sw": 70}) == {"en": 5000, "sw": 70}
