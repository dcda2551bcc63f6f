from pathlib import Path
from typing import get_args

import pytest
import yaml

from halfling.errors import HalflingError
from halfling.pipeline.recipe import read_recipe
from halfling.settings import read_settings
from halfling.training.finetune import FinetuneSettings
from halfling.training.layer_maps import LayerMapName

SMALL = {
    "name": "small",
    "data": "some/folder",
    "text": "{data}/cc100",
    "teacher": {"shape": {"num_layers": 2, "width": 16, "num_heads": 2}, "epochs": 1},
    "distill": {"student": {"num_layers": 2, "width": 8, "num_heads": 2}},
    "tasks": {"xnli": None, "wikiann": None},
    "finetune": {"xnli": {"epochs": 2}, "wikiann": None},
}


@pytest.fixture
def recipe(tmp_path):
    """A function that writes a recipe with some sections replaced."""

    def write(**changes) -> Path:
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump(SMALL | changes), encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("teecher", "teacher"),
        ("Teacher", "teacher"),
        ("teacher.epoch", "epochs"),
        ("teacher.Epochs", "epochs"),
        ("teacher.shape.widht", "width"),
        ("distill.student.heads", "num_heads"),
        ("models.seed", "seeds"),
        ("finetune.xnli.learning_rat", "learning_rate"),
        ("costs.wikiann.round", "rounds"),
        ("tasks.xnli.labls", "labels"),
    ],
)
def test_an_unknown_key_is_refused_with_its_whole_path_and_the_nearest_known(key, nearest, recipe):
    with pytest.raises(HalflingError, match=rf"small.yaml: unknown key {key}: the nearest known is {nearest}$"):
        read_recipe(recipe(), [f"{key}=1"])


def test_overrides_reach_nested_keys_and_keep_their_neighbours(recipe):
    read = read_recipe(
        recipe(),
        ["teacher.shape.width=32", "finetune.wikiann.epochs=7", "distill.save_epochs=[2, 5]", "data=elsewhere"],
    )
    assert (read.teacher.shape.width, read.teacher.shape.num_layers) == (32, 2)
    assert (read.finetune["wikiann"].epochs, read.finetune["xnli"].epochs) == (7, 2)
    assert read.distill.save_epochs == (2, 5)
    assert read.text == "elsewhere/cc100"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("teacher.epochs=two", "small.yaml: teacher.epochs: Input should be a valid integer"),
        ("teacher=3", "small.yaml: teacher: Input should be a valid dictionary"),
        ("finetune.xnli=3", "small.yaml: finetune.xnli: Input should be a valid dictionary"),
        (
            "teacher.shape.num_layers=0",
            "small.yaml: teacher.shape.num_layers: Input should be greater than or equal to 1",
        ),
        ("teacher.shape.width=15", "small.yaml: teacher.shape: width 15 is not a multiple of num_heads 2"),
        ("teacher.shape=xlm-roberta-bas", "teacher.shape: Input should be 'xlm-roberta-large' or 'xlm-roberta-base'"),
        ("seed=x", "small.yaml: seed: Input should be a valid integer"),
        ("name=a/b", "small.yaml: name: String should match"),
        ("models.student_epochs=[2]", r"epoch 2 is not saved \(distill.save_epochs \[1, 3, 5\]\)"),
        ("models.exits_on=[top]", "models.exits_on: top is not among distill.layer_maps"),
        ("distill.layer_map=top", r"distill: layer_map is of a single distillation: write layer_maps: \[top\]"),
        ("distill.hidden_weight=abc", "small.yaml: distill.hidden_weight: Input should be a valid number"),
        ("distill.hidden_weight=[1, 2, 3]", "small.yaml: distill.hidden_weight: Tuple should have at most 2 items"),
        ("distill.layer_maps=[best]", "small.yaml: distill.layer_maps.0: Input should be 'uniform', 'top'"),
        ("finetune.xnl={}", "finetune.xnl: no such task under tasks: the nearest is xnli"),
        ("tasks.mine={train: {en: a.csv}, label: 3}", "tasks.mine.label: Input should be a valid string"),
        ("tasks.mine=a.csv", "tasks.mine: Input should be a valid dictionary"),
        ("export.backends=[torch]", "export: torch runs no int8: leave int8 out"),
        ("export.precisions=[bfloat16]", "export: only torch runs bfloat16: leave it out"),
        ("export.precisions=[float32]", "export: native runs int8 only: leave float32 out"),
        ("quality.xnli.languages=[en]", "quality.xnli.languages and costs.xnli.languages differ"),
        ("exits.xnli.seed=3", "exits.xnli.seed is not for a recipe: set models.seeds"),
        ("teacher.epochs.x=1", "epochs is a value, not a section"),
        ("teacher.epochs", "'teacher.epochs': expected key=value"),
        ("teacher.shape=[", "teacher.shape=\\[: not YAML"),
    ],
)
def test_a_value_that_does_not_fit_is_one_line_that_names_its_key(override, said, recipe):
    with pytest.raises(HalflingError, match=said) as raised:
        read_recipe(recipe(), [override])
    assert "\n" not in str(raised.value)


def test_presets_may_be_a_list_of_names(recipe):
    assert [*read_recipe(recipe(tasks=["wikiann"], finetune={})).tasks] == ["wikiann"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"name: [\n", "not YAML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"- name\n", "expected a recipe of `key: value` lines"),
        (b"", "expected a recipe of `key: value` lines"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_line_that_names_it(content, said, tmp_path):
    path = tmp_path / "other.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(HalflingError, match=said) as raised:
        read_recipe(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_data_stands_in_every_string(recipe):
    read = read_recipe(recipe(tokenizer={"source": "{data}/words"}))
    assert (read.text, read.tokenizer.source) == ("some/folder/cc100", "some/folder/words")


def test_the_seed_flows_to_every_stage_that_does_not_name_its_own(recipe):
    read = read_recipe(recipe(distill={**SMALL["distill"], "seed": 5}), ["seed=3"])
    assert [read.sample.seed, read.corpus.seed, read.tokenizer.seed, read.teacher.seed] == [3] * 4
    assert read.distill.each()["uniform"].seed == 5
    assert read.models.seeds == (3,)
    assert read_recipe(recipe(models={"seeds": [1, 2]}), ["seed=3"]).models.seeds == (1, 2)


def test_each_layer_map_has_its_own_distillation_and_only_custom_has_pairs(recipe):
    given = {**SMALL["distill"], "layer_maps": ["top", "custom"], "layer_pairs": [[1, 2]], "epochs": 2}
    each = read_recipe(recipe(distill=given)).distill.each()
    assert {name: (one.layer_map, one.layer_pairs, one.epochs) for name, one in each.items()} == {
        "top": ("top", (), 2),
        "custom": ("custom", ((1, 2),), 2),
    }


def test_what_no_fingerprint_holds_reaches_each_distillation_too(recipe):
    variants = {"small": {"fsdp": False}}
    each = read_recipe(recipe(distill={**SMALL["distill"], "fsdp": True, "variants": variants})).distill.each()
    assert {name: one.fsdp for name, one in each.items()} == {"uniform": True, "small": False}


def test_a_recipe_takes_every_layer_map(recipe):
    names = get_args(LayerMapName)
    given = {**SMALL["distill"], "layer_maps": [*names], "layer_pairs": [[1, 2]]}
    each = read_recipe(recipe(distill=given)).distill.each()
    assert {name: one.layer_map for name, one in each.items()} == dict(zip(names, names, strict=True))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (
            "distill.start=layers",
            r"uniform: start=layers copies layers of equal width.*is 8, the teacher's 16",
        ),
        ("distill.student.width=32", "distill, uniform: start=embeddings takes a part, and the student's width is 32"),
        ("distill.relation_heads=3 distill.relation_weight=1", "relation_heads 3 does not divide the widths 8 and 16"),
        (
            "distill.student.num_heads=4 distill.attention=eager distill.dropout=0 distill.attention_weight=1",
            "student has 4 heads, its teacher 2",
        ),
        ("distill.layer_maps=[custom]", "distill, custom: custom layer map .*: expected each student layer"),
        (
            "distill.layer_maps=[custom] distill.layer_pairs=[[3,2]]",
            "layer pair 3 -> 2: expected a student layer",
        ),
        (
            "distill.layer_maps=[custom] distill.layer_pairs=[[1,2],[2,1]] distill.start=subclone distill.fit_tokens=9",
            r"fit_tokens: expected teacher layers in the order of the student's, came \[\(1, 2\), \(2, 1\)\]",
        ),
        (
            "distill.start=subclone distill.fit_tokens=9",
            "fit_tokens: 9 tokens are too few for .* inner neurons: give .* or more",
        ),
        ("distill.fit_tokens=9", "fit_tokens=9: fits copied layers: set start=layers or start=subclone"),
        (
            "finetune.xnli.soft_share=0.5 finetune.xnli.text_sequences=9",
            "finetune.xnli.text_sequences: a corpus has no",
        ),
        ("exits.xnli.text_sequences=9", "exits.xnli.text_sequences: a corpus has no pairs"),
        ("exits.xnli.method=leaving exits.xnli.granularity=token", "exits.xnli.granularity=token is for taggers"),
        ("exits.wikiann.granularity=token", "exits.wikiann.granularity=token is for taggers and method=leaving"),
        ("exits.wikiann.layers=[2]", r"exits.wikiann.layers .*: no early exit: name a layer below 2"),
    ],
)
def test_what_a_stage_would_refuse_after_hours_is_refused_at_once(word, said, recipe):
    with pytest.raises(HalflingError, match=said):
        read_recipe(recipe(), word.split())


def test_a_loss_that_one_of_the_maps_has_no_pairs_for_is_refused(recipe):
    given = {**SMALL["distill"], "layer_maps": ["uniform", "emd"], "relation_weight": 1}
    with pytest.raises(HalflingError, match="the layer map emd has none: set relation_weight=0") as raised:
        read_recipe(recipe(distill=given))
    assert "\n" not in str(raised.value)


def test_sections_left_out_take_their_defaults_for_every_task(recipe):
    read = read_recipe(recipe())
    assert {*read.calibrate} == {*read.quality} == {*read.costs} == {"wikiann", "xnli"}


def test_a_stages_own_settings_are_checked_as_a_recipes_are():
    assert read_settings(FinetuneSettings, ["epochs=2"]).epochs == 2
    with pytest.raises(HalflingError, match="FinetuneSettings: unknown key epoch: the nearest known is epochs"):
        read_settings(FinetuneSettings, ["epoch=2"])
