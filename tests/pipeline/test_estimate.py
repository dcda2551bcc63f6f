import json

import pytest

from halfling.cost.training import device_bytes, embeddings, language_model_head, parameters
from halfling.errors import HalflingError
from halfling.pipeline.estimate import EstimateSettings, Rates, estimates
from halfling.pipeline.plan import plan
from halfling.pipeline.recipe import Recipe
from halfling.records import EncoderShape
from halfling.settings import check
from halfling.stage import run_stages, states

TEACHER = EncoderShape(num_layers=4, width=16, num_heads=2, ffn_width=64, vocab_size=500, max_tokens=128)
STUDENT = EncoderShape(num_layers=2, width=8, num_heads=2, ffn_width=32, vocab_size=500, max_tokens=128)


@pytest.fixture
def recipe(tmp_path):
    """A function that returns a small recipe with some sections replaced: 3,600 bytes of text, 20 English examples."""
    for folder, text in (("cc100/en.txt", "A text. " * 45 + "\n"), ("train.csv", "text,label\n")):
        (tmp_path / folder).parent.mkdir(exist_ok=True)
        (tmp_path / folder).write_text(text)
    (tmp_path / "cc100/en.txt").write_text("a" * 3599 + "\n")
    (tmp_path / "train.csv").write_text("text,label\n" + ("a" * 36 + ",x\n" + "b" * 36 + ",y\n") * 10)

    def make(**changes) -> Recipe:
        small = {
            "name": "small",
            "data": str(tmp_path),
            "text": str(tmp_path / "cc100"),
            "corpus": {"chunks": 2, "languages": ["en"]},
            "tokenizer": {"vocab_size": 500},
            "pack": {"block_tokens": 10},
            "teacher": {"shape": {"num_layers": 4, "width": 16, "num_heads": 2, "max_tokens": 128}, "epochs": 2},
            "distill": {
                "student": {"num_layers": 2, "width": 8, "num_heads": 2, "max_tokens": 128},
                "epochs": 3,
                "batch_size": 4,
                "gradient_accumulation": 2,
                "mask_share": 0.2,
                "save_epochs": [1, 3],
            },
            "tasks": {"own": {"train": str(tmp_path / "train.csv"), "dev": str(tmp_path / "train.csv")}},
            "finetune": {"own": {"epochs": 2, "batch_size": 8, "max_tokens": 10}},
            "exits": {"own": {"epochs": 1, "batch_size": 8, "max_tokens": 10}},
        }
        return check(Recipe, small | changes, "small")

    return make


def foreseen(recipe, folder, **settings):
    stages = plan(recipe, folder)
    found, rates = estimates(stages, states(stages), EstimateSettings(**settings))
    return {stage.name: one for stage, one in zip(stages, found, strict=True)}, rates


def test_a_small_recipe_by_hand(recipe, tmp_path):
    found, _ = foreseen(recipe(), tmp_path / "run", peak_tflops=1, of_peak=0.5)
    # 3,600 bytes at 3.6 a token: 1,000 tokens, 500 a chunk, in 16 bits.
    assert (found["corpus"].tokens, found["corpus"].disk_bytes) == (1000, 3600)
    assert (found["pack"].tokens, found["pack"].disk_bytes) == (1000, 2000)
    # 50 blocks a chunk: three steps of 16 an epoch for the teacher, six steps of 8 for the student, of 80 tokens each.
    teacher, student = found["teacher"], found["distill/uniform"]
    assert (teacher.shape, teacher.steps, teacher.tokens) == ("4x16", 6, 960)
    assert (student.shape, student.steps, student.tokens) == ("2x8", 18, 1440)
    # Products a token: layers x (4 w^2 + 8 w^2) and 2 x 10 x w for attention. The output layer: w x (w + 500).
    of_teacher, of_student = 4 * (12 * 256 + 2 * 10 * 16), 2 * (12 * 64 + 2 * 10 * 8)
    masked = 1440 * 0.2
    products = 3 * (1440 * of_student + masked * 8 * 508) + 1440 * of_teacher + masked * 16 * 516
    assert student.flops == 2 * products
    assert student.device_hours == pytest.approx(2 * products / 0.5e12 / 3600)
    weights = parameters(STUDENT) + language_model_head(STUDENT)
    assert student.disk_bytes == 2 * 4 * weights
    assert student.checkpoint_bytes == 3 * 12 * weights
    both = parameters(TEACHER) + language_model_head(TEACHER)
    assert student.device_bytes == device_bytes(weights, both, STUDENT, 40, output_widths=(8, 16))
    # 20 examples of 36 bytes: 10 tokens and two special ones, cut to 10. Two steps of 8 an epoch.
    tuned = found["finetune/student-uniform-own-0"]
    assert (tuned.steps, tuned.tokens) == (4, 400)
    assert tuned.flops == 3 * 400 * 2 * of_student
    # The network is frozen: it is passed forward alone.
    assert found["exits/student-uniform-own-0"].flops == 200 * 2 * of_student
    assert found["quality/student-uniform-own-0"].flops is None


def test_settings_change_what_is_foreseen(recipe, tmp_path):
    plain, _ = foreseen(recipe(), tmp_path / "run")
    distill = recipe().distill.model_dump(exclude={"layer_map", "layer_pairs"})
    learn = {"epochs": 2, "batch_size": 8, "max_tokens": 10, "soft_share": 0.5}
    changes = {"distill": distill | {"kl_weight": 0.0, "mask_share": 0.0, "tokens_per_epoch": 100}}
    changes |= {
        "finetune": {"own": learn},
        "exits": {"own": {"method": "joint", "epochs": 1, "batch_size": 8, "max_tokens": 10}},
    }
    other, _ = foreseen(recipe(**changes), tmp_path / "run")
    name = "distill/uniform"
    assert (other[name].steps, other[name].tokens) == (3, 240)
    assert other[name].disk_bytes == 2 * 4 * parameters(STUDENT)
    tuned, exits = "finetune/student-uniform-own-0", "exits/student-uniform-own-0"
    # What the teacher says in the first of two epochs is remembered.
    assert other[tuned].flops - plain[tuned].flops == 200 * 2 * 4 * (12 * 256 + 2 * 10 * 16)
    assert other[tuned].device_bytes - plain[tuned].device_bytes == 4 * parameters(TEACHER)
    # Three passes to learn, and one of the model as it was, which is imitated.
    assert other[exits].flops == plain[exits].flops * 4
    # Two blocks of text in each epoch; who is imitated reads all four once.
    changes["finetune"] = {"own": learn | {"text_sequences": 4}}
    text, _ = foreseen(recipe(**changes), tmp_path / "run")
    assert (text[tuned].steps, text[tuned].tokens) == (4, 440)
    own_share, theirs = 3 * 40 * 2 * 2 * (12 * 64 + 2 * 10 * 8), 40 * 2 * 4 * (12 * 256 + 2 * 10 * 16)
    assert text[tuned].flops - other[tuned].flops == own_share + theirs
    two, _ = foreseen(recipe(), tmp_path / "run", devices=4)
    assert two[name].flops == plain[name].flops
    assert two[name].device_bytes < plain[name].device_bytes
    own, theirs = ((parameters(one) + language_model_head(one), embeddings(one)) for one in (STUDENT, TEACHER))
    heads = language_model_head(STUDENT), language_model_head(TEACHER)
    sharded = {"distill": distill | {"fsdp": True}, "finetune": {"own": {**learn, "fsdp": True}}}
    shared, _ = foreseen(recipe(**sharded), tmp_path / "run", devices=4)
    spared = (16 * own[0] + 4 * theirs[0]) * 3 // 4
    # Whole are the student's weights, the gradients of its embeddings and its head, and that part of the teacher.
    whole = own[0] + own[1] + heads[0] + theirs[1] + heads[1]
    assert shared[name].device_bytes == two[name].device_bytes - spared + 4 * whole
    # A fine-tuned teacher answers through its own head: it is whole nowhere.
    learned, imitated = parameters(STUDENT), parameters(TEACHER)
    apart, _ = foreseen(recipe(finetune={"own": learn}), tmp_path / "run", devices=4)
    spared = (16 * learned + 4 * imitated) * 3 // 4
    assert shared[tuned].device_bytes == apart[tuned].device_bytes - spared + 4 * (learned + embeddings(STUDENT))
    assert foreseen(recipe(**sharded), tmp_path / "run")[0][name] == foreseen(recipe(), tmp_path / "run")[0][name]
    assert foreseen(recipe(), tmp_path / "run", devices=3)[0][name].device_bytes is None, "three share no step of 8"


def test_what_stays_from_pass_to_pass_is_computed_once_and_lies_on_disk(recipe, tmp_path):
    def of(kind, **told):
        changes = {"finetune": {"own": {"epochs": 2, "batch_size": 8, "max_tokens": 10}}, kind: {"own": told}}
        return foreseen(recipe(**changes), tmp_path / "run")[0][f"{kind}/student-uniform-own-0"]

    common = {"batch_size": 8, "max_tokens": 10}
    once = of("exits", epochs=3, **common)
    often = of("exits", epochs=3, states_gb=0, **common)
    assert often.flops == 3 * once.flops == 3 * of("exits", epochs=1, **common).flops
    # Of each of 20 texts one state of 8 after both layers, in 16 bits.
    assert once.checkpoint_bytes - often.checkpoint_bytes == 20 * 2 * 8 * 2
    joint = {"method": "joint", "epochs": 3, **common}
    assert of("exits", **joint).flops == (3 * 3 + 1) * once.flops
    learn = {"epochs": 2, "soft_share": 0.5, **common}
    plain, states = of("finetune", **learn), of("finetune", hidden_weight=1, **learn)
    assert states.checkpoint_bytes - plain.checkpoint_bytes == 200 * 2 * 16 * 2
    anew = of("finetune", hidden_weight=1, states_gb=0, **learn)
    assert anew.checkpoint_bytes == plain.checkpoint_bytes
    assert anew.flops - states.flops == 200 * 2 * 4 * (12 * 256 + 2 * 10 * 16)


def test_without_a_rate_there_are_no_hours(recipe, tmp_path):
    found, rates = foreseen(recipe(), tmp_path / "run")
    assert all(one.device_hours is None for one in found.values())
    assert rates.said().startswith("not known")


def test_a_peak_is_of_bfloat16_and_what_is_measured_of_any():
    named, measured = Rates(EstimateSettings(chip="h100"), {}), Rates(EstimateSettings(), {"distill": (3e12, 1.5)})
    assert named.hours("distill", 989e12 * 0.08 * 3600) == pytest.approx(1)
    assert named.hours("distill", 1e12, float32=True) is None
    assert measured.hours("distill", 2e12 * 3600, float32=True) == pytest.approx(1)
    assert measured.hours("finetune", 1e12) is None
    assert "8.0% of the 989 TFLOP/s that h100's maker names" in named.said()
    assert "distill 2 TFLOP/s" in measured.said()
    with pytest.raises(HalflingError, match="chip and peak_tflops: say one of them"):
        check(EstimateSettings, {"chip": "h100", "peak_tflops": 3}, "x")


def test_what_is_done_is_read_and_its_seconds_are_the_rate(recipe, tmp_path):
    said = recipe(
        tokenizer={"source": "train", "vocab_size": 60, "max_training_bytes": 10_000},
        corpus={"chunks": 1, "languages": ["en"]},
        teacher={
            "shape": {"num_layers": 1, "width": 8, "num_heads": 2, "max_tokens": 128},
            "epochs": 1,
            "batch_size": 1,
        },
        distill={
            "student": {"num_layers": 1, "width": 8, "num_heads": 2, "max_tokens": 128},
            "epochs": 1,
            "batch_size": 1,
        },
    )
    (tmp_path / "cc100/en.txt").write_text(
        "".join(f"The text number {n} is here, and it says {n}.\n\n" for n in range(60))
    )
    stages = plan(said, tmp_path / "run")
    run_stages([stage for stage in stages if stage.name in ("corpus", "tokenizer", "pack", "teacher")])
    found, rates = foreseen(said, tmp_path / "run")
    manifest = json.loads((tmp_path / "run/teacher/manifest.json").read_text())
    assert found["teacher"].tokens == manifest["counts"]["tokens"] == found["pack"].tokens
    assert found["teacher"].steps == manifest["counts"]["steps"]
    assert found["teacher"].device_hours * 3600 == pytest.approx(manifest["seconds"])
    assert {*rates.measured} == {"teacher"}
    assert found["distill/uniform"].steps == manifest["counts"]["steps"]
    assert found["distill/uniform"].device_hours is None
