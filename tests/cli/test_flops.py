import json

import pytest


def test_the_thesiss_numbers_come_out_in_its_convention_with_the_whole_truth_beside(halfling):
    said = halfling(
        *("flops", "--shape", "xlm-roberta-large", "--shape", "xlm-roberta-base", "--tokens", 128, "--json")
    )
    large, base = json.loads(said.out)
    assert (large["shape"], base["shape"]) == ("xlm-roberta-large", "xlm-roberta-base")
    assert large["gmacs_linear"] == pytest.approx(38.69, rel=0.002)
    assert base["gmacs_linear"] == pytest.approx(10.88, rel=0.002)
    for row in (large, base):
        assert row["linear"] == pytest.approx(2 * row["gmacs_linear"], abs=0.002)
        assert row["gflops"] == pytest.approx(row["linear"] + row["attention"] + row["head"], abs=0.002)
    # 24 layers x 2 products x 2 x 128^2 x 1024
    assert large["attention"] == pytest.approx(24 * 4 * 128**2 * 1024 / 1e9, abs=0.001)


def test_the_table_prints_the_same_numbers(halfling):
    said = halfling("flops", "--shape", "xlm-roberta-base")
    header, row = said.out.splitlines()
    assert header.split() == ["shape", "tokens", "gmacs_linear", "gflops", "linear", "attention", "head"]
    assert row.split()[:3] == ["xlm-roberta-base", "128", "10.872"]


def test_a_models_folder_is_a_shape_too(halfling, write_masked_lm, tmp_path):
    said = halfling("flops", "--shape", write_masked_lm(tmp_path / "model"), "--tokens", 10, "--json")
    # 2 layers x 12 x 16^2 x 10 tokens
    assert json.loads(said.out)[0]["linear"] == round(2 * 2 * 12 * 16**2 * 10 / 1e9, 3)


def test_a_name_that_is_no_shape_is_one_line(halfling):
    said = halfling("flops", "--shape", "xlm-roberta-small")
    assert said.status == 1
    assert said.err.startswith("error: xlm-roberta-small: neither a known shape (xlm-roberta-large, xlm-roberta-base)")
    assert len(said.err.splitlines()) == 1
