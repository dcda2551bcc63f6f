import re
import shlex
from pathlib import Path

import pytest
import yaml

from halfling.errors import HalflingError
from halfling.pipeline.plan import plan
from halfling.pipeline.recipe import Recipe, read_recipe
from halfling.settings import check
from halfling.stage import Stage
from halfling.tasks.task import Task

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
TINY = {
    "name": "tiny",
    "data": "data",
    "text": "{data}/cc100",
    "tasks": {"xnli": {}, "wikiann": {}},
}


@pytest.fixture
def stages(tmp_path):
    """A function that plans a small recipe with some sections replaced: stages by name, in their order."""

    def planned(**changes) -> dict[str, Stage]:
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(TINY | changes, sort_keys=False), encoding="utf-8")
        return by_name(plan(read_recipe(path), tmp_path / "run"))

    return planned


def by_name(planned: list[Stage]) -> dict[str, Stage]:
    assert len({stage.name for stage in planned}) == len({stage.out for stage in planned}) == len(planned)
    return {stage.name: stage for stage in planned}


def folders(value) -> list[Path]:
    if isinstance(value, Task):
        return value.files()
    if isinstance(value, dict):
        return [folder for inner in value.values() for folder in folders(inner)]
    return [value] if isinstance(value, Path) else []


def assert_in_order(planned: list[Stage], folder: Path) -> None:
    made: list[Path] = []
    for stage in planned:
        for read in [one for value in stage.inputs.values() for one in folders(value)]:
            if read.is_relative_to(folder):
                assert any(read.is_relative_to(out) for out in made), f"{stage.name} reads {read} before it is made"
        made.append(stage.out)


def test_the_teacher_may_learn_otherwise_than_its_students():
    learn = {"epochs": 2, "soft_share": 0.9, "hidden_weight": 1.0, "teacher": {"epochs": 4, "learning_rate": 6e-5}}
    as_wide = {"student": {"num_layers": 4, "width": 192, "num_heads": 4}}
    said = TINY | {"distill": as_wide, "finetune": {"wikiann": learn}}
    planned = by_name(plan(check(Recipe, said, "tiny"), Path("run")))
    found = {
        name: (own.epochs, own.learning_rate, own.soft_share, own.hidden_weight)
        for name in ("teacher", "student-uniform")
        for own in [planned[f"finetune/{name}-wikiann-0"].settings]
    }
    assert found == {"teacher": (4, 6e-5, 0.0, 0.0), "student-uniform": (2, 5e-5, 0.9, 1.0)}


@pytest.mark.parametrize(
    ("teacher", "says"),
    [({"epoch": 2}, "epoch"), ({"epochs": 0}, "epochs"), ({"seed": 1}, "teacher.seed is not for a recipe")],
)
def test_what_differs_for_the_teacher_is_checked_as_well(teacher, says):
    with pytest.raises(HalflingError, match=says):
        check(Recipe, TINY | {"finetune": {"wikiann": {"teacher": teacher}}}, "tiny")


def test_students_of_earlier_epochs_may_take_part_with_some_seeds_only(stages):
    models = {"student_epochs": [1, 5], "seeds": [0, 1], "slope_seeds": [0]}
    planned = stages(models=models)
    tuned = {name.removeprefix("finetune/") for name in planned if name.startswith("finetune/") and "xnli" in name}
    assert tuned == {
        *(f"{name}-xnli-{seed}" for name in ("teacher", "student-uniform-e5") for seed in (0, 1)),
        "student-uniform-e1-xnli-0",
    }
    with pytest.raises(HalflingError, match="slope_seeds: 7 is not among"):
        stages(models=models | {"slope_seeds": [7]})


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_resolves_and_its_stages_read_only_what_earlier_ones_made(recipe):
    planned = plan(read_recipe(recipe), Path("runs/any"))
    by_name(planned)
    assert_in_order(planned, Path("runs/any"))
    assert planned[-1].name.split("/")[0] == ("quality" if recipe.stem == "study" else "report")


def test_a_source_that_is_a_folder_is_an_input_so_that_its_content_counts(stages, tmp_path):
    here, hub = {"source": str(tmp_path)}, {"source": "some/hub-id"}
    planned = stages(teacher={**here, "epochs": 0}, tokenizer=here)
    assert planned["teacher"].inputs["source"] == planned["tokenizer"].inputs["source"] == tmp_path
    planned = stages(teacher={**hub, "epochs": 0}, tokenizer=hub)
    assert "source" not in planned["teacher"].inputs | planned["tokenizer"].inputs


def test_students_alone_imitate_the_teacher_of_their_task_and_seed(stages, tmp_path):
    learn = {"soft_share": 0.5, "text_sequences": 7}
    planned = stages(finetune={"xnli": {}, "wikiann": learn}, models={"scratch": True, "seeds": [3]})
    student = planned["finetune/student-uniform-wikiann-3"]
    assert student.settings.soft_share == 0.5
    assert student.inputs["teacher"] == planned["finetune/teacher-wikiann-3"].out
    assert student.inputs["packed"] == planned["pack"].out
    for name in ("teacher-wikiann-3", "scratch-wikiann-3", "student-uniform-xnli-3"):
        stage = planned[f"finetune/{name}"]
        assert (stage.settings.soft_share, stage.settings.text_sequences) == (0.0, 0)
        assert not {"teacher", "packed"} & {*stage.inputs}


def test_a_chunk_that_nobody_reads_is_held_out(stages):
    assert not any(name.startswith("masked-lm") for name in stages(corpus={"chunks": 5}))
    planned = stages(corpus={"chunks": 6}, models={"scratch": True})
    held_out = [stage for name, stage in planned.items() if name.startswith("masked-lm")]
    assert [stage.settings.model for stage in held_out] == ["teacher", "student-uniform"]
    assert {stage.settings.chunk for stage in held_out} == {6}
    assert {stage.out for stage in held_out} <= set(planned["report"].inputs.values())


def test_the_thesis_has_every_map_checkpoint_task_and_seed():
    stages = by_name(plan(read_recipe(RECIPES[0].with_name("thesis.yaml")), Path("runs/thesis")))
    maps, epochs, seeds = ("uniform", "top", "bottom", "single"), (1, 3, 5), (0, 1, 2)
    students = {f"student-{name}-e{epoch}" for name in maps for epoch in epochs}
    assert {name for name in stages if name.startswith("distill/")} == {f"distill/{name}" for name in maps}
    for kind in ("finetune", "quality"):
        for task in ("xnli", "wikiann"):
            expected = {f"{kind}/{name}-{task}-{seed}" for name in {*students, "teacher"} for seed in seeds}
            assert expected <= set(stages)
    assert {name for name in stages if name.startswith("exits/")} == {
        f"exits/student-uniform-e5-{task}-{seed}" for task in ("xnli", "wikiann") for seed in seeds
    }


def test_stages_of_a_small_recipe_stand_in_the_order_of_the_flow(stages):
    assert list(stages())[:9] == [
        "corpus",
        "tokenizer",
        "pack",
        "teacher",
        "finetune/teacher-xnli-0",
        "export/teacher-xnli-0/int8",
        "quality/teacher-xnli-0",
        "distill/uniform",
        "finetune/student-uniform-xnli-0",
    ]
    names = [name for name in stages() if "student-uniform" in name and "wikiann" in name]
    assert names == [
        "finetune/student-uniform-wikiann-0",
        "export/student-uniform-wikiann-0/int8",
        "quality/student-uniform-wikiann-0",
        "exits/student-uniform-wikiann-0",
        "calibrate/student-uniform-wikiann-0",
        "export/student-uniform-exits-wikiann-0/int8",
        "export/student-uniform-exits-wikiann-0/int8-exits",
        "quality/student-uniform-exits-wikiann-0",
    ]


def test_one_student_is_measured_before_the_next_is_distilled(stages):
    names = [*stages(distill={"layer_maps": ["uniform", "top"]})]
    of_xnli = [name for name in names[: names.index("costs/xnli")] if name.startswith(("distill", "quality"))]
    assert of_xnli == [
        "quality/teacher-xnli-0",
        "distill/uniform",
        "quality/student-uniform-xnli-0",
        "quality/student-uniform-exits-xnli-0",
        "distill/top",
        "quality/student-top-xnli-0",
        "quality/student-top-exits-xnli-0",
    ]
    assert [name for name in names if name.startswith("distill")] == ["distill/uniform", "distill/top"]


def test_the_sample_is_a_stage_of_its_own_that_text_and_data_are_read_from(stages, tmp_path):
    planned = stages(data="sample")
    assert next(iter(planned)) == "sample"
    assert planned["corpus"].inputs["source"] == tmp_path / "run/sample/cc100"
    assert tmp_path / "run/sample/xnli/train-en.tsv.xz" in planned["finetune/teacher-xnli-0"].inputs["task"].files()
    assert "sample" not in stages()


def test_the_hub_stays_a_word_and_is_no_path(stages):
    planned = stages(data="hub", text="cc100")
    task = planned["finetune/teacher-xnli-0"].inputs["task"]
    assert (task.train["en"], task.dev["sw"]) == ("hub:facebook/xnli:en:train", "hub:facebook/xnli:sw:validation")
    assert task.files() == []
    assert planned["corpus"].inputs["source"] == Path("cc100")


def test_a_tasks_seed_and_model_name_reach_its_stages(stages):
    planned = stages(models={"seeds": [3, 4], "scratch": True})
    for seed in (3, 4):
        assert planned[f"finetune/scratch-xnli-{seed}"].settings.from_scratch
        assert not planned[f"finetune/teacher-xnli-{seed}"].settings.from_scratch
        assert planned[f"finetune/teacher-xnli-{seed}"].settings.seed == seed
        quality = planned[f"quality/student-uniform-exits-xnli-{seed}"]
        assert quality.settings.seed == seed
        forms = ("int8", "int8-exits", "pytorch")
        assert [*quality.inputs["models"]] == [f"student-uniform-exits/{form}" for form in forms]
        for form in forms[:1]:
            assert "policy" not in planned[f"export/student-uniform-exits-xnli-{seed}/{form}"].inputs
            early = planned[f"export/student-uniform-exits-xnli-{seed}/{form}-exits"].inputs
            assert early["model"].name == early["policy"].name == f"student-uniform-xnli-{seed}"
        assert [*planned[f"quality/scratch-xnli-{seed}"].inputs["models"]] == ["scratch/pytorch"]


def test_what_int8_may_cost_reaches_the_exports_in_int8_alone(stages):
    export = {"backends": ["onnx"], "precisions": ["float32", "int8"], "max_int8_drop": 0.25, "gate_examples": None}
    planned = stages(export=export)
    for form, found in (("int8", (0.25, None)), ("int8-exits", (0.25, None)), ("float32", (0.5, 1000))):
        settings = planned[f"export/student-uniform-exits-xnli-0/{form}"].settings
        assert (settings.max_int8_drop, settings.gate_examples) == found, form


def test_a_task_of_ones_own_stands_beside_a_preset(stages, tmp_path):
    own = {
        "kind": "tagging",
        "train": {"sw": "a.conll"},
        "dev": "{data}/dev-{language}.conll",
        "languages": ["sw", "ur"],
    }
    planned = stages(tasks={"products": own, "wikiann": {"languages": ["en", "de"]}}, finetune={}, exits={})
    task = planned["finetune/student-uniform-products-0"].inputs["task"]
    assert (task.name, task.train, task.dev) == (
        "products",
        {"sw": "a.conll"},
        {"sw": "data/dev-sw.conll", "ur": "data/dev-ur.conll"},
    )
    assert planned["finetune/teacher-wikiann-0"].inputs["task"].languages == ("en", "de")


def test_exits_go_to_the_layer_maps_that_are_named_and_all_models_are_measured_side_by_side(stages):
    maps = {"layer_maps": ["uniform", "top"]}
    for named, expected in ((None, {"uniform", "top"}), (["top"], {"top"}), ([], set())):
        measured = stages(distill=maps, models={"exits_on": named})["costs/xnli"].inputs["models"]
        models = {name.partition("/")[0] for name in measured}
        assert models == {"teacher", "student-uniform", "student-top", *(f"student-{name}-exits" for name in expected)}


def test_the_report_reads_every_measurement_and_nothing_else(stages):
    planned = stages()
    measured = {name for name in planned if name.startswith(("quality/", "calibrate/", "costs/"))}
    assert set(planned["report"].inputs) == measured
    assert len(measured) == 2 * (3 + 1 + 1)


def test_without_a_report_no_times_are_measured(stages):
    with_it, without = stages(), stages(report=None)
    gone = {name for name in with_it if name == "report" or name.startswith("costs/")}
    assert len(gone) == 3
    assert [*without] == [name for name in with_it if name not in gone]


def test_a_trimmed_teacher_is_what_everything_after_it_reads(stages, tmp_path):
    planned = stages(trim={"languages": "sw"})
    order = [*planned]
    assert order.index("teacher") < order.index("trim") < order.index("pack/trimmed") < order.index("distill/uniform")
    trimmed, packed = tmp_path / "run" / "trim", tmp_path / "run" / "packed-trimmed"
    assert planned["trim"].inputs == {"model": tmp_path / "run" / "teacher"}
    assert planned["pack/trimmed"].inputs["tokenizer"] == trimmed
    assert planned["distill/uniform"].inputs == {"teacher": trimmed, "packed": packed}
    assert planned["finetune/teacher-xnli-0"].inputs["encoder"] == trimmed
    # Without languages it is the corpus that tells which pieces are used.
    assert stages(trim={})["trim"].inputs["corpus"] == tmp_path / "run" / "corpus"
    assert "trim" not in stages()


def test_a_variant_is_a_student_of_its_own(stages):
    narrow = {"num_layers": 2, "width": 64, "num_heads": 4}
    distill = {"layer_maps": ["top"], "learning_rate": 3e-4}
    distill["variants"] = {"and-exit": {"exit_weight": 0.5}, "narrow": {"student": narrow, "layer_map": "single"}}
    planned = stages(distill=distill, models={"exits_on": ["narrow"]})
    found = {
        name.removeprefix("distill/"): (one.settings.layer_map, one.settings.exit_weight, one.settings.student.width)
        for name, one in planned.items()
        if name.startswith("distill/")
    }
    assert found == {"top": ("top", 0.0, 128), "and-exit": ("uniform", 0.5, 128), "narrow": ("single", 0.0, 64)}
    assert {one.settings.learning_rate for name, one in planned.items() if name.startswith("distill/")} == {3e-4}
    tuned = planned["finetune/student-and-exit-xnli-0"].inputs["encoder"]
    assert tuned == planned["distill/and-exit"].out / "epoch-5"
    assert [name for name in planned if name.startswith("exits/")] == [
        "exits/student-narrow-xnli-0",
        "exits/student-narrow-wikiann-0",
    ]


@pytest.mark.parametrize(
    ("variants", "says"),
    [
        ({"top": {}}, "variants.top: is a layer map's name"),
        ({"more": {"epochs": 9}}, "variants.more.epochs is the same for all students: set distill.epochs"),
        ({"more": {"exit_wieght": 1}}, "exit_weight"),
        ({"more": {"layer_map": "emd", "relation_weight": 1}}, "the layer map emd has none"),
        ({"../up": {}}, "pattern"),
        (
            {"deep": {"student": {"num_layers": 9, "width": 64, "num_heads": 4}}},
            "distill.variants.deep.student has 9 layers",
        ),
    ],
)
def test_a_variant_is_checked_as_a_distillation(stages, variants, says):
    with pytest.raises(HalflingError, match=says):
        stages(distill={"variants": variants})


def test_each_command_of_the_study_plans():
    root = RECIPES[0].parents[1]
    page = (root / "docs/study.md").read_text(encoding="utf-8").replace("\\\n", " ").replace("--jobs 2", "")
    commands = [
        shlex.split(line, comments=True) for line in re.findall("^    (halfling run recipes/study.*)", page, re.M)
    ]
    assert len(commands) == 7
    header = (root / "recipes/study.yaml").read_text(encoding="utf-8")
    in_recipe = [shlex.split(line) for line in re.findall("^#   (halfling run .*)", header, re.MULTILINE)]
    assert in_recipe == commands[:3]
    found = []
    for _, _, recipe, *words in commands:
        said = [word for word in words if not word.startswith("--")]
        found.append(by_name(plan(read_recipe(root / recipe, said), Path("runs/any"))))
    whole, second, slope, four, measured, more = found[1:]
    assert len([name for name in whole if name.startswith("distill/")]) == 24
    assert {one.settings.seed for name, one in second.items() if name.startswith("distill/")} == {1}
    assert {one.settings.seed for name, one in whole.items() if name.startswith("distill/")} == {0}
    assert {one.settings.seed for name, one in second.items() if name.startswith("exits/")} == {1}
    tuned = [name for name in slope if name.startswith("finetune/student")]
    assert tuned == [f"finetune/student-uniform-e{epoch}-wikiann-0" for epoch in (1, 3, 5)]
    assert slope["distill/uniform"].settings == whole["distill/uniform"].settings
    assert [name for name in four if name.startswith("distill/")] == [
        *("distill/uniform", "distill/all", "distill/and-exit", "distill/minilm")
    ]
    assert len([name for name in measured if name.startswith("distill/")]) == 8
    # What two of them have is the same, so that it is done once.
    for some in (four, measured, more):
        assert all(some[name].settings == whole[name].settings for name in some if name in whole)
    # Equal tokens.
    read = {(one.settings.epochs, one.settings.tokens_per_epoch) for name, one in whole.items() if "distill/" in name}
    assert read == {(5, 100_000)}


def test_students_of_earlier_epochs_come_first_in_whatever_order_they_are_named(stages):
    found = stages(models={"student_epochs": [5, 1]}, tasks={"wikiann": {}})
    assert [name for name in found if name.startswith("exits/")] == ["exits/student-uniform-e5-wikiann-0"]


@pytest.mark.parametrize(
    "changes", [{"models": {"seeds": [0, 0]}}, {"distill": {"variants": {"uniform-exits": {"start": "random"}}}}]
)
def test_two_models_of_one_name_are_refused(changes, stages):
    with pytest.raises(HalflingError, match=r"tiny: two models would be .*-0.*: rename a variant"):
        stages(**changes)
