import pytest
from pydantic import TypeAdapter, ValidationError
from transformers import XLMRobertaConfig, XLMRobertaModel

from halfling.errors import HalflingError
from halfling.models.shapes import SHAPES, Dimensions, Shape, config_for, resolve_shape, shape_at, shape_of

TINY = Dimensions(num_layers=2, width=16, num_heads=2, max_tokens=20)


def test_base_is_transformers_own_default_but_for_vocabulary_and_positions():
    base = config_for(SHAPES["xlm-roberta-base"]).to_dict()
    default = XLMRobertaConfig().to_dict()
    differing = {name for name in default if default[name] != base[name]}
    # XLM-R's published config.json has these four; transformers' defaults are BERT's.
    assert differing <= {"vocab_size", "max_position_embeddings", "type_vocab_size", "layer_norm_eps", "dtype"}
    assert (base["vocab_size"], base["max_position_embeddings"], base["type_vocab_size"]) == (250_002, 514, 1)
    assert base["layer_norm_eps"] == 1e-5


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_survives_its_configuration(name):
    assert shape_of(config_for(shape_at(name))) == SHAPES[name]


def test_the_longest_input_fits_and_one_token_more_does_not():
    model = XLMRobertaModel(config_for(TINY.with_vocabulary(40)))
    longest = model.dummy_inputs["input_ids"].new_full((1, 20), 7)
    assert model(longest).last_hidden_state.shape == (1, 20, 16)
    with pytest.raises((IndexError, RuntimeError)):
        model(longest.new_full((1, 21), 7))


def test_special_ids_are_xlmrs():
    config = config_for(TINY.with_vocabulary(40))
    assert (config.bos_token_id, config.pad_token_id, config.eos_token_id) == (0, 1, 2)


def test_dropout_is_of_states_and_of_attention():
    config = config_for(TINY.with_vocabulary(40), dropout=0.3)
    assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.3, 0.3)


def test_the_feed_forward_block_is_four_times_as_wide_unless_said():
    assert TINY.with_vocabulary(40).ffn_width == 64
    assert TINY.model_copy(update={"ffn_width": 10}).with_vocabulary(40).ffn_width == 10


def test_a_recipe_names_a_shape_or_gives_dimensions():
    shape = TypeAdapter(Shape)
    assert resolve_shape(shape.validate_python("xlm-roberta-base"), 99).vocab_size == 99
    assert resolve_shape(shape.validate_python("xlm-roberta-base"), 99).width == 768
    given = shape.validate_python({"num_layers": 2, "width": 16, "num_heads": 2})
    assert resolve_shape(given, 99) == given.with_vocabulary(99)
    with pytest.raises(ValidationError):
        shape.validate_python("xlm-roberta-huge")


def test_heads_must_divide_the_width():
    with pytest.raises(ValidationError, match="width 16 is not a multiple of num_heads 3"):
        TINY.model_copy(update={"num_heads": 3}).with_vocabulary(40)


def test_a_model_folder_has_a_shape_and_another_has_none(tmp_path, write_masked_lm):
    assert shape_at(str(write_masked_lm(tmp_path / "model"))).num_layers == 2
    with pytest.raises(HalflingError, match=r"neither a known shape \(xlm-roberta-large, xlm-roberta-base"):
        shape_at(str(tmp_path))
