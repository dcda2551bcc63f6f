import json


def test_every_map_is_a_row_with_the_student_layer_under_the_teacher_layer_that_it_learns_from(halfling):
    said = halfling("distill", "maps", 3, 8).out.splitlines()
    rows = {row.split()[0]: row.split()[1:] for row in said[1:8]}
    assert said[0].split() == ["teacher", "layer", *"12345678"]
    assert rows == {
        "uniform": [*"..1.2..3"],
        "top": [*".....123"],
        "bottom": [*"123....."],
        "single": [*".......3"],
        "random": rows["random"],
        "attention": [*"********"],
        "emd": [*"********"],
    }
    assert "".join(rows["random"]).replace(".", "") == "123"
    assert rows["random"][-1] == "3"
    sources = dict(line.split("  ", 1) for line in said[-8:])
    assert sources["single"].strip().endswith("https://arxiv.org/abs/2012.15828")
    assert "layer_pairs" in sources["custom"]


def test_models_and_shapes_are_depths_too(halfling, write_masked_lm, tmp_path):
    drawn = halfling("distill", "maps", write_masked_lm(tmp_path / "model"), "xlm-roberta-large", "--json").out
    found = json.loads(drawn)
    assert found["top"]["pairs"] == [[1, 23], [2, 24]]
    assert found["emd"]["how"] == "transport"


def test_another_seed_draws_another_map(halfling):
    drawn = [json.loads(halfling("distill", "maps", 6, 12, "--seed", n, "--json").out)["random"] for n in (0, 1)]
    assert drawn[0]["pairs"] != drawn[1]["pairs"]


def test_what_has_no_maps_is_one_line(error):
    assert error("distill", "maps", 9, 8) == (
        "distill maps 9 8: expected a student no deeper than its teacher, came 9 > 8"
    )
    assert error("distill", "maps", 0, 8).startswith("distill maps: 0 layers: expected 1 to 1000")
    assert error("distill", "maps", 4, "nowhere").startswith("nowhere: neither a known shape")
