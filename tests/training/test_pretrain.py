import json

import pytest
import torch
from transformers import AutoTokenizer, XLMRobertaForMaskedLM, XLMRobertaModel

from halfling.errors import HalflingError
from halfling.models.shapes import Dimensions
from halfling.training.pretrain import TeacherSettings, build_teacher


@pytest.fixture
def packed(tmp_path, write_packed, full_blocks):
    return write_packed(tmp_path / "packed", full_blocks(5, 16))


@pytest.fixture
def words(tmp_path, tiny_tokenizer):
    tiny_tokenizer.save_pretrained(tmp_path / "words")
    return tmp_path / "words"


@pytest.fixture
def build(tmp_path, packed, words):
    def make(name="out", **changes):
        (tmp_path / name).mkdir(exist_ok=True)
        shape = Dimensions(num_layers=2, width=16, num_heads=2, max_tokens=64)
        settings = TeacherSettings(**{"shape": shape, "batch_size": 8, "save_steps": 25, **changes})
        return build_teacher(settings=settings, packed=packed, tokenizer=words, out=tmp_path / name)

    return make


def test_a_teacher_from_scratch_is_a_plain_model_with_its_tokenizer(build, tmp_path, tiny_tokenizer):
    counts = build()
    assert (counts["steps"], counts["tokens"]) == (10, 80 * 24)
    teacher, info = XLMRobertaForMaskedLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values())
    assert teacher.num_parameters() == counts["parameters"]
    assert teacher.config.vocab_size == 42
    assert AutoTokenizer.from_pretrained(tmp_path / "out").encode("Anna") == tiny_tokenizer.encode("Anna")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_lowers_the_loss(precision, tmp_path, words, write_packed):
    # Each block repeats one word, so its neighbours give a masked one away.
    chunk = [[0, *[10 + n] * 22, 2] for n in range(16)]
    packed = write_packed(tmp_path / "easy", [chunk])
    settings = TeacherSettings(
        shape=Dimensions(num_layers=2, width=16, num_heads=2, max_tokens=64),
        epochs=50,
        batch_size=8,
        learning_rate=1e-2,
        precision=precision,
    )
    (tmp_path / "out").mkdir()
    counts = build_teacher(settings=settings, packed=packed, tokenizer=words, out=tmp_path / "out")
    assert [entry["step"] for entry in counts["curve"]] == [25, 50, 75, 100]
    assert counts["curve"][-1]["loss"] < counts["curve"][0]["loss"] - 1
    assert XLMRobertaForMaskedLM.from_pretrained(tmp_path / "out").dtype == torch.float32


def test_frozen_words_stay_as_they_began(build, write_masked_lm, tmp_path):
    source = write_masked_lm(tmp_path / "source", num_layers=3)
    build(source=str(source), freeze_embeddings=True, epochs=1, learning_rate=1e-2)
    before, model = (XLMRobertaForMaskedLM.from_pretrained(tmp_path / name) for name in ("source", "out"))
    words = before.get_input_embeddings().weight
    assert torch.equal(model.get_input_embeddings().weight, words)
    assert torch.equal(model.lm_head.decoder.weight, words)
    assert not torch.equal(model.lm_head.dense.weight, before.lm_head.dense.weight)


def test_no_epochs_take_the_source_as_it_is(build, write_masked_lm, tmp_path):
    source = write_masked_lm(tmp_path / "source", num_layers=3)
    counts = build(source=str(source), epochs=0)
    assert counts.keys() == {"parameters"}
    ours, theirs = (XLMRobertaForMaskedLM.from_pretrained(tmp_path / name).state_dict() for name in ("out", "source"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_training_goes_on_from_a_source(build, write_masked_lm, tmp_path):
    source = write_masked_lm(tmp_path / "source", num_layers=3)
    build(source=str(source), epochs=1, learning_rate=1e-6)
    ours, theirs = (XLMRobertaForMaskedLM.from_pretrained(tmp_path / name).state_dict() for name in ("out", "source"))
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=0)
    assert any(not torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_weights_follow_the_seed_and_nothing_else(build, tmp_path):
    for number, (name, seed) in enumerate([("one", 0), ("two", 0), ("three", 1)]):
        torch.manual_seed(number)  # what ran before does not matter
        build(name, epochs=1, seed=seed)
    one, two, three = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two", "three"))
    assert one == two
    assert one != three


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, 'source "scratch" with epochs 0 is a random model'),
        ({"source": "nowhere/at-all", "epochs": 0}, "nowhere/at-all: no model could be loaded"),
        ({"batch_size": 17}, "chunk-1: 16 blocks do not fill one step of 17"),
    ],
)
def test_what_cannot_be_a_teacher_is_one_line(changes, message, build):
    with pytest.raises(HalflingError, match=message) as error:
        build(**changes)
    assert "\n" not in str(error.value)


def test_a_teacher_of_another_vocabulary_names_the_setting_to_change(build, write_masked_lm, tmp_path):
    source = write_masked_lm(tmp_path / "source")
    model = XLMRobertaForMaskedLM.from_pretrained(source)
    model.resize_token_embeddings(50)
    model.save_pretrained(source)
    with pytest.raises(HalflingError, match=r"has 50 pieces, the corpus was tokenised with 42: set tokenizer\.source"):
        build(source=str(source), epochs=0)


@pytest.fixture
def headless(tmp_path, tiny_config, tiny_tokenizer):
    """An encoder of BERT's layout without a language-model head."""
    from transformers import BertConfig, BertModel, set_seed

    set_seed(0)
    folder = tmp_path / "bert"
    settings = tiny_config.to_dict() | {"max_position_embeddings": 64, "vocab_size": len(tiny_tokenizer) + 3}
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
    config = BertConfig(**{name: settings[name] for name in (*names, "max_position_embeddings")})
    BertModel(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


def test_a_teacher_without_a_head_is_written_without_one_and_says_what_it_was(build, headless, tmp_path):
    counts = build(source=str(headless), epochs=0)
    teacher, info = XLMRobertaModel.from_pretrained(tmp_path / "out", add_pooling_layer=False, output_loading_info=True)
    assert not info["missing_keys"]
    assert counts["parameters"] == teacher.num_parameters()
    assert counts["origin"] == teacher.config.origin
    assert "converted from BERT's layout" in counts["origin"]["note"]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["XLMRobertaModel"]
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_a_teacher_without_a_head_is_not_trained_on_words(build, headless):
    with pytest.raises(
        HalflingError, match=r"bert has no language-model head to train with: set teacher.epochs=0"
    ) as e:
        build(source=str(headless), epochs=1)
    assert "\n" not in str(e.value)
