import json
import subprocess
import sys

import pytest

from halfling.corpus.build import CorpusSettings
from halfling.corpus.plan import BYTES_PER_TOKEN, plan_corpus
from halfling.languages import CC100, SETS

HOST = "https://data.statmt.org/cc-100/"


def test_the_plan_for_27_gb_adds_up_to_the_byte():
    plan = plan_corpus(CorpusSettings(languages="xlmr-100", total_bytes="27GB", selection="head"), HOST)
    assert {each.code for each in plan.languages} == set(SETS["xlmr-100"])
    assert sum(each.quota_bytes for each in plan.languages) == plan.quota_bytes == 27 * 10**9
    assert all(0 <= each.quota_bytes - 5 * each.chunk_bytes < 5 for each in plan.languages)


def test_a_head_costs_what_its_quota_needs_and_a_sample_the_whole_file():
    settings = CorpusSettings(languages="xlmr-100", total_bytes="27GB", selection="head")
    head = {each.code: each.download_bytes for each in plan_corpus(settings, HOST).languages}
    # English: 4.02 GB of text at 300.8 GiB for 82 GB. Swahili: 16.3 MB at 1.6 GiB for 332 MB.
    assert head["en"] == pytest.approx(1.02e9, rel=0.01)
    assert head["sw"] == pytest.approx(3.15e6, rel=0.01)
    sample = plan_corpus(settings.model_copy(update={"selection": "sample"}), HOST)
    assert {each.code: each.download_bytes for each in sample.languages} == {
        code: CC100[code].compressed_bytes for code in head
    }


def test_a_language_gives_no_more_than_it_has():
    plan = plan_corpus(CorpusSettings(languages=("en", "as"), total_bytes="1GB", alpha=0, selection="head"), HOST)
    given = {each.code: each for each in plan.languages}
    assert given["as"].quota_bytes == CC100["as"].text_bytes < 100e6
    assert given["as"].download_bytes == pytest.approx(CC100["as"].compressed_bytes, abs=1)
    assert given["en"].quota_bytes == 10**9 - given["as"].quota_bytes


def test_a_folder_is_planned_by_the_files_in_it_and_nothing_is_fetched(source):
    plan = plan_corpus(CorpusSettings(), source)
    sizes = {code: (source / f"{code}.txt.xz").stat().st_size for code in ("en", "ru", "sw", "hi")}
    for each in plan.languages:
        ratio = CC100[each.code].text_bytes / CC100[each.code].compressed_bytes
        assert each.quota_bytes == pytest.approx(sizes[each.code] * ratio, abs=1)
    assert plan.download_bytes == 0


def test_tokens_are_known_for_every_script():
    assert set(BYTES_PER_TOKEN) == {language.scripts[0] for language in CC100.values()}


def test_the_plan_does_not_wait_for_torch_or_a_data_set_library():
    code = """
import sys
from halfling.cli.main import main
try:
    main()
finally:
    assert not {"torch", "transformers", "datasets"} & set(sys.modules)
"""
    words = [sys.executable, "-c", code, "corpus", "plan", "languages=xlmr-100", "total_bytes=27GB", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["quota_bytes"] == 27 * 10**9
