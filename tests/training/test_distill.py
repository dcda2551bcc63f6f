import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, XLMRobertaForMaskedLM, XLMRobertaModel

from halfling.errors import HalflingError
from halfling.models.shapes import Dimensions
from halfling.pipeline.stages import KINDS
from halfling.training.distill import DistillSettings, distill
from halfling.training.initialise import embeddings_from

BARE = """
import json, sys
from transformers import XLMRobertaForMaskedLM
for folder in sys.argv[1:]:
    model, info = XLMRobertaForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    print(json.dumps({"layers": model.config.num_hidden_layers, "sum": float(model.lm_head.dense.weight.sum())}))
assert not any(name.split(".")[0] == "halfling" for name in sys.modules)
"""


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_bare_transformers_loads_the_student_after_epochs_one_three_and_five(settings, teacher, packed, out):
    seen = {}

    def look(done, total, note):
        for path in out.glob("epoch-?"):
            seen.setdefault(path.name, done)

    counts = distill(settings=settings(learning_rate=1e-2), teacher=teacher, packed=packed, out=out, progress=look)
    assert seen == {"epoch-1": 2, "epoch-3": 6, "epoch-5": 10}, "two steps of eight blocks are an epoch"
    assert sorted(path.name for path in out.glob("epoch-*")) == ["epoch-1", "epoch-3", "epoch-5"]
    assert counts["layer_pairs"] == [(1, 2), (2, 4)]
    assert (counts["steps"], counts["tokens"]) == (10, 80 * 24)
    folders = [out / name for name in ("epoch-1", "epoch-3", "epoch-5")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run(
        [sys.executable, "-c", BARE, *map(str, folders)], env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    loaded = [json.loads(line) for line in found.stdout.splitlines()]
    assert [each["layers"] for each in loaded] == [2, 2, 2]
    assert len({each["sum"] for each in loaded}) == 3, "each epoch's student is another"
    for folder in folders:
        config = json.loads((folder / "config.json").read_text())
        assert config["model_type"] == "xlm-roberta"
        assert not {"layer_pairs", "teacher_width", "hidden_weight", "kl_weight"} & config.keys()
        student = XLMRobertaForMaskedLM.from_pretrained(folder)
        assert student.num_parameters() == counts["parameters"]
        tokenizer = AutoTokenizer.from_pretrained(folder)
        assert tokenizer.encode("Anna lives") == AutoTokenizer.from_pretrained(teacher).encode("Anna lives")


def test_the_last_epoch_is_saved_though_nobody_asked(settings, teacher, packed, out):
    distill(settings=settings(epochs=2), teacher=teacher, packed=packed, out=out)
    assert sorted(path.name for path in out.glob("epoch-*")) == ["epoch-1", "epoch-2"]


def test_training_twice_gives_the_same_bytes(settings, teacher, packed, tmp_path):
    for number, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        torch.manual_seed(number)  # what ran before does not matter
        distill(settings=settings(epochs=1), teacher=teacher, packed=packed, out=tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one/epoch-1").iterdir())
    for name in files:
        assert (tmp_path / "one/epoch-1" / name).read_bytes() == (tmp_path / "two/epoch-1" / name).read_bytes()


def test_a_head_that_the_teacher_never_had_is_the_seeds(settings, headless, packed, tmp_path):
    alike = Dimensions(num_layers=2, width=16, num_heads=2, max_tokens=64)
    told = settings(epochs=1, kl_weight=0, mlm_weight=1, student=alike, start="layers")
    for number in (1, 2):
        (out := tmp_path / f"{number}").mkdir()
        torch.manual_seed(number)  # what ran before does not matter
        distill(settings=told, teacher=headless, packed=packed, out=out)
    one, two = (load_file(tmp_path / f"{number}/epoch-1/model.safetensors") for number in (1, 2))
    assert "lm_head.dense.weight" in one
    assert all(torch.equal(two[name], weight) for name, weight in one.items())


@pytest.mark.parametrize("start", ["random", "embeddings", "layers", "subclone"])
def test_a_student_begins_as_it_was_told(start, settings, teacher, packed, out):
    alike = Dimensions(num_layers=2, width=16, num_heads=2, max_tokens=64)
    still = settings(start=start, student=alike, epochs=1, learning_rate=1e-12, weight_decay=0.0)
    distill(settings=still, teacher=teacher, packed=packed, out=out)
    student, model = (XLMRobertaForMaskedLM.from_pretrained(folder) for folder in (out / "epoch-1", teacher))
    own, theirs = (each.get_input_embeddings().weight[4:].detach() for each in (student, model))
    layers = [student.roberta.encoder.layer[1], model.roberta.encoder.layer[3]]
    same_layer = torch.allclose(*(layer.output.dense.weight for layer in layers), atol=1e-6)
    # Distances between words, which a rotation leaves alone, up to one scale.
    distances = torch.stack([torch.pdist(own), torch.pdist(theirs)])
    alike_words = torch.corrcoef(distances)[0, 1].item() > 0.99
    assert (same_layer, alike_words) == {
        "random": (False, False),
        "embeddings": (False, True),
        "layers": (True, True),
        "subclone": (True, True),  # of equal width it is the same
    }[start]


def test_a_student_begins_as_a_checkpoint(settings, teacher, packed, out, write_masked_lm, tmp_path):
    other = write_masked_lm(tmp_path / "other", num_layers=2, seed=5)
    alike = Dimensions(num_layers=2, width=16, num_heads=2, max_tokens=64)
    begun = {"start": "checkpoint", "checkpoint": str(other), "student": alike}
    still = settings(**begun, epochs=1, learning_rate=1e-12, weight_decay=0.0)
    distill(settings=still, teacher=teacher, packed=packed, out=out)
    own, theirs = (XLMRobertaForMaskedLM.from_pretrained(folder).state_dict() for folder in (out / "epoch-1", other))
    for name, weight in theirs.items():
        torch.testing.assert_close(own[name], weight, atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize("more", [{"start": "checkpoint"}, {"checkpoint": "somewhere"}])
def test_a_checkpoint_and_its_folder_go_together(more, settings):
    with pytest.raises(ValueError, match="start=checkpoint and checkpoint=FOLDER: give both, or neither"):
        settings(**more)


def test_a_folder_to_begin_with_is_an_input_whose_content_counts(teacher, tmp_path):
    told = DistillSettings(start="checkpoint", checkpoint=str(teacher))
    assert KINDS["distill"].stage("distill", told, tmp_path / "out", {}).inputs == {"checkpoint": teacher}
    assert KINDS["distill"].stage("distill", DistillSettings(), tmp_path / "out", {}).inputs == {}


def test_a_subclone_begins_nearer_to_its_teacher_than_its_words_alone(settings, teacher, packed, tmp_path):
    first = {}
    for start in ("embeddings", "subclone"):
        (tmp_path / start).mkdir()
        shape = Dimensions(num_layers=2, width=12, num_heads=2, max_tokens=64)
        told = settings(start=start, student=shape, epochs=13, save_epochs=(), learning_rate=1e-9, kl_weight=1.0)
        counts = distill(settings=told, teacher=teacher, packed=packed, out=tmp_path / start)
        first[start] = counts["curve"][0]["kl"]
    assert first["subclone"] < first["embeddings"]


@pytest.mark.parametrize(("start", "width"), [("layers", 16), ("subclone", 12)])
def test_a_fitted_student_begins_nearer_to_its_teacher(start, width, settings, teacher, packed, tmp_path):
    first, shape = {}, Dimensions(num_layers=2, width=width, num_heads=2, max_tokens=64)
    for tokens in (0, 500):
        (tmp_path / f"{tokens}").mkdir()
        told = settings(
            start=start, fit_tokens=tokens, student=shape, epochs=13, save_epochs=(), learning_rate=1e-9, dropout=0.0
        )
        seen = []
        counts = distill(
            settings=told,
            teacher=teacher,
            packed=packed,
            out=tmp_path / f"{tokens}",
            progress=lambda done, _, note, seen=seen: seen.append((done, note)),
        )
        first[tokens] = counts["curve"][0]["hidden"]
        assert ((2, "layers fitted") in seen) == (tokens > 0)
    assert first[500] < first[0]


@pytest.mark.parametrize("start", ["random", "embeddings"])
def test_what_was_no_teachers_layer_is_not_fitted(start, settings):
    with pytest.raises(ValueError, match="fit_tokens=9: fits copied layers: set start=layers or start=subclone"):
        settings(start=start, fit_tokens=9)


def test_the_student_comes_nearer_to_its_teacher(settings, teacher, packed, out):
    counts = distill(settings=settings(epochs=25, learning_rate=3e-3), teacher=teacher, packed=packed, out=out)
    first, last = counts["curve"]
    assert last["hidden"] < first["hidden"]
    assert last["kl"] < first["kl"]
    assert last["loss"] == pytest.approx(last["hidden"] + last["kl"], abs=2e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_map": "custom", "layer_pairs": ((1, 9),)}, r"distill: layer pair 1 -> 9"),
        ({"layer_pairs": ((1, 2),)}, r"distill: layer map 'uniform' finds its own pairs"),
        ({"start": "layers"}, r"distill: expected a student with its teacher's hidden_size \(16\)"),
        (
            {"start": "subclone", "student": Dimensions(num_layers=2, width=16, num_heads=1, max_tokens=64)},
            r"distill: start=subclone: expected a student's head_width of at most 8, came 16",
        ),
        (
            {"start": "subclone", "fit_tokens": 10**9},
            r"distill: fit_tokens=1000000000: all epochs read \d+ tokens: give so many at most",
        ),
        ({"layer_map": "custom", "layer_pairs": ((1, 25),)}, r"layer pair 1 -> 25: .* a teacher layer in 1\.\.4"),
        ({"student": Dimensions(num_layers=9, width=8, num_heads=2)}, r"distill: expected a student no deeper"),
        ({"relation_weight": 1.0, "relation_heads": 3}, r"relation_heads 3 does not divide the widths 8 and 16"),
        (
            {
                "student": Dimensions(num_layers=2, width=8, num_heads=4, max_tokens=64),
                "attention_weight": 1.0,
                "attention": "eager",
                "dropout": 0.0,
            },
            r"the student has 4 heads, its teacher 2: set relation_weight in its place",
        ),
        ({"student": Dimensions(num_layers=2, width=32, num_heads=2)}, r"distill: expected a student with its"),
        ({"batch_size": 99}, r"16 blocks do not fill one step of 99"),
    ],
)
def test_what_does_not_fit_is_one_line(changes, message, settings, teacher, packed, out):
    with pytest.raises(HalflingError, match=message) as error:
        distill(settings=settings(**changes), teacher=teacher, packed=packed, out=out)
    assert "\n" not in str(error.value)


def test_frozen_words_are_the_teachers_turned_to_the_students_width(settings, teacher, packed, out):
    distill(
        settings=settings(freeze_embeddings=True, epochs=1, learning_rate=1e-2), teacher=teacher, packed=packed, out=out
    )
    student, taught_by = (XLMRobertaForMaskedLM.from_pretrained(folder) for folder in (out / "epoch-1", teacher))
    expected = XLMRobertaForMaskedLM(student.config)
    embeddings_from(expected, taught_by)
    assert torch.equal(student.get_input_embeddings().weight, expected.get_input_embeddings().weight)
    assert torch.equal(student.lm_head.decoder.weight, student.get_input_embeddings().weight)


@pytest.fixture
def headless(tmp_path, teacher):
    """The teacher without its language-model head, of which is known what it was made of."""
    model = XLMRobertaForMaskedLM.from_pretrained(teacher)
    model.config.origin = {"model": "some/where", "note": "weights of some/where (MIT licence)"}
    model.config.layer_norm_eps = 1e-12
    folder = tmp_path / "headless"
    model.roberta.save_pretrained(folder)
    AutoTokenizer.from_pretrained(teacher).save_pretrained(folder)
    return folder


def test_a_teacher_without_a_head_gives_no_logits_and_its_student_has_no_head(settings, headless, packed, out):
    with pytest.raises(HalflingError, match=r"headless: has no language-model head, .*: set kl_weight=0") as error:
        distill(settings=settings(), teacher=headless, packed=packed, out=out)
    assert "\n" not in str(error.value)
    assert not [*out.iterdir()], "refused before anything is trained"
    alike = Dimensions(num_layers=2, width=16, num_heads=2, max_tokens=64)
    told = settings(epochs=2, kl_weight=0, student=alike, start="layers", learning_rate=1e-2)
    counts = distill(settings=told, teacher=headless, packed=packed, out=out)
    assert all(entry["loss"] == pytest.approx(entry["hidden"], abs=1e-3) for entry in counts["curve"])
    student, info = XLMRobertaModel.from_pretrained(out / "epoch-2", add_pooling_layer=False, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert student.config.layer_norm_eps == 1e-12, "copied layers keep theirs"
    assert student.config.origin == counts["origin"]
    assert counts["origin"] == {
        "model": "some/where",
        "note": "distilled from weights of some/where (MIT licence)",
    }
    begun = XLMRobertaModel.from_pretrained(headless, add_pooling_layer=False)
    assert not torch.equal(student.embeddings.word_embeddings.weight, begun.embeddings.word_embeddings.weight)


@pytest.mark.parametrize(
    ("changes", "has_head"),
    [
        ({"start": "embeddings"}, False),
        ({"start": "embeddings", "mlm_weight": 1.0}, True),
        ({"start": "layers", "student": Dimensions(num_layers=2, width=16, num_heads=2, max_tokens=64)}, True),
    ],
)
def test_a_student_has_the_head_that_it_took_over_or_learned(changes, has_head, settings, teacher, packed, out):
    distill(settings=settings(epochs=1, kl_weight=0, **changes), teacher=teacher, packed=packed, out=out)
    assert any(name.startswith("lm_head") for name in load_file(out / "epoch-1" / "model.safetensors")) == has_head


def test_logits_that_weigh_nothing_are_not_computed(settings, teacher, packed, out, monkeypatch):
    monkeypatch.setattr("halfling.training.distilled.output_layer_losses", lambda *_: pytest.fail("computed"))
    counts = distill(settings=settings(epochs=1, kl_weight=0), teacher=teacher, packed=packed, out=out)
    assert counts["steps"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_weight": 1.0}, "packed blocks are read with fused attention, .* set attention=eager"),
        ({"attention_weight": 1.0, "attention": "eager"}, "probabilities after dropout: set dropout=0"),
        ({"relation_weight": 1.0, "layer_map": "emd"}, "relation_weight compares pairs .* map emd has none"),
        (
            {"attention_weight": 1.0, "attention": "eager", "dropout": 0.0, "layer_map": "attention"},
            "attention_weight compares pairs .* map attention has none",
        ),
        ({"mask_share": 0.0, "kl_weight": 0.0, "mlm_weight": 1.0}, "no masked position for mlm_weight"),
        ({"hidden_weight": 0.0, "kl_weight": (0.0, 0.0), "exit_weight": 1.0}, "every weight is 0"),
        ({"hidden_weight": (1.0, -1.0)}, "greater than or equal to 0"),
        ({"hidden_weight": (1.0, 2.0, 3.0)}, "at most 2 items"),
    ],
)
def test_weights_that_nothing_can_be_weighed_with_are_refused_as_settings(changes, message, settings):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        *({"layer_map": name} for name in ("attention", "emd")),
        {"layer_map": "custom", "layer_pairs": ((1, 3),)},
        {"layer_map": "random", "redraw": "epoch"},
        {"hidden_weight": 0.0, "kl_weight": 0.0, "relation_weight": 1.0, "layer_map": "single"},
        {"hidden_loss": "normalised", "exit_weight": (0.0, 1.0)},
        {"attention_weight": 1.0, "attention": "eager", "dropout": 0.0, "hidden_loss": "cosine"},
    ],
)
def test_a_student_learns_with_every_map_and_every_loss(changes, settings, teacher, packed, out):
    # The output must not depend on how it was trained, and learning must go down.
    told = settings(epochs=25, save_epochs=(), learning_rate=3e-3, **changes)
    counts = distill(settings=told, teacher=teacher, packed=packed, out=out)
    first, last = counts["curve"]
    assert {*first} == {"step", "loss", *told.weights}
    falling = {*told.weights} - {"exit"}
    assert all(last[term] < first[term] for term in falling)
    kind, said = (
        (XLMRobertaForMaskedLM, {}) if "kl" in told.weights else (XLMRobertaModel, {"add_pooling_layer": False})
    )
    _, info = kind.from_pretrained(out / "epoch-25", output_loading_info=True, **said)
    assert not any(info.values())
    assert "attn_implementation" not in json.dumps(json.loads((out / "epoch-25" / "config.json").read_text()))


def test_a_pull_to_the_last_layer_brings_the_layers_before_nearer_to_it(settings, teacher, packed, tmp_path):
    ends = []
    for weight in (1e-6, 5.0):
        (tmp_path / f"{weight}").mkdir()
        told = settings(epochs=25, save_epochs=(), learning_rate=3e-3, exit_weight=weight)
        counts = distill(settings=told, teacher=teacher, packed=packed, out=tmp_path / f"{weight}")
        ends.append(counts["curve"][-1]["exit"])
    assert ends[1] < 0.8 * ends[0]


def test_a_student_of_a_teacher_without_a_head_learns_one_of_its_own_from_text(settings, headless, packed, out):
    told = settings(epochs=25, save_epochs=(), kl_weight=0, mlm_weight=1.0, learning_rate=3e-3)
    counts = distill(settings=told, teacher=headless, packed=packed, out=out)
    first, last = counts["curve"]
    assert last["mlm"] < first["mlm"]
    _, info = XLMRobertaForMaskedLM.from_pretrained(out / "epoch-25", output_loading_info=True)
    assert not any(info.values())


def test_logits_without_masked_positions_are_refused(settings):
    with pytest.raises(ValueError, match="mask_share 0 leaves no masked position for kl_weight"):
        settings(mask_share=0.0)
    assert settings(mask_share=0.0, kl_weight=0.0).mask_share == 0
