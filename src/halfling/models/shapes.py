"""Shapes of XLM-R encoders, by name and from configurations, both ways."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator
from transformers import XLMRobertaConfig

from halfling import json_text
from halfling.bounds import Part, Size
from halfling.errors import HalflingError
from halfling.records import EncoderShape, Settings

PAD, BOS, EOS, UNK = 1, 0, 2, 3
"""XLM-R's special ids; every tokenizer made here keeps them."""

FIRST_POSITION = PAD + 1
"""The position id of a sequence's first token, a habit of fairseq's that XLM-R's weights depend on."""

SHAPES = {
    "xlm-roberta-large": EncoderShape(
        num_layers=24, width=1024, num_heads=16, ffn_width=4096, vocab_size=250_002, max_tokens=512
    ),
    "xlm-roberta-base": EncoderShape(
        num_layers=12, width=768, num_heads=12, ffn_width=3072, vocab_size=250_002, max_tokens=512
    ),
}


_NAMES = {
    "num_layers": "num_hidden_layers",
    "width": "hidden_size",
    "num_heads": "num_attention_heads",
    "ffn_width": "intermediate_size",
    "vocab_size": "vocab_size",
    "max_tokens": "max_position_embeddings",
}
"""Of a shape's fields in a configuration."""


def shape_of(config: XLMRobertaConfig) -> EncoderShape:
    """Return the shape that a Hugging Face configuration describes."""
    return EncoderShape(
        num_layers=config.num_hidden_layers,
        width=config.hidden_size,
        num_heads=config.num_attention_heads,
        ffn_width=config.intermediate_size,
        vocab_size=config.vocab_size,
        max_tokens=config.max_position_embeddings - FIRST_POSITION,
    )


def require_room(config: XLMRobertaConfig, tokens: int, model: Path | str, setting: str = "max_tokens") -> None:
    """Refuse inputs that are longer than a model reads: `setting` is what the user then sets lower.

    Raises:
        HalflingError: `tokens` is more than the model's positions.
    """
    positions = shape_of(config).max_tokens
    if tokens > positions:
        raise HalflingError(f"{model}: reads at most {positions} tokens, not {setting}={tokens}: set it lower")


def config_for(shape: EncoderShape, *, dropout: float = 0.1) -> XLMRobertaConfig:
    """Return the configuration of an XLM-R of this shape, with XLM-R's special ids.

    Attention dropout and hidden dropout are both `dropout`.
    """
    return XLMRobertaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.width,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        intermediate_size=shape.ffn_width,
        max_position_embeddings=shape.max_tokens + FIRST_POSITION,
        type_vocab_size=1,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        layer_norm_eps=1e-5,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        dtype="float32",
    )


class Dimensions(Settings):
    """An encoder's shape but for its vocabulary, which the tokenizer decides."""

    num_layers: Part
    width: Size = Field(gt=0, description="hidden size")
    num_heads: Size = Field(gt=0)
    ffn_width: Size | None = Field(None, gt=0, description="inner width of the feed-forward block; 4 x width")
    max_tokens: Size = Field(512, gt=2, description="longest input, special tokens included")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "Dimensions":
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} is not a multiple of num_heads {self.num_heads}")
        return self

    def with_vocabulary(self, vocab_size: int) -> EncoderShape:
        """Return the whole shape."""
        known = self.model_dump() | {"ffn_width": self.ffn_width or 4 * self.width}
        return EncoderShape(**known, vocab_size=vocab_size)


Shape = Literal["xlm-roberta-large", "xlm-roberta-base"] | Dimensions
"""In a recipe: a published shape's name, or dimensions."""


def resolve_shape(shape: Shape, vocab_size: int) -> EncoderShape:
    """Return `shape` with the vocabulary of the tokenizer in use."""
    if isinstance(shape, Dimensions):
        return shape.with_vocabulary(vocab_size)
    return SHAPES[shape].model_copy(update={"vocab_size": vocab_size})


def shape_at(folder: str) -> EncoderShape:
    """Return a published shape by its name, or that of the model in a folder.

    Raises:
        HalflingError: The name is neither a published shape's nor a model folder's, or the model's configuration is
            none of XLM-R's or BERT's.
    """
    if folder in SHAPES:
        return SHAPES[folder]
    if not (Path(folder) / "config.json").is_file():
        raise HalflingError(
            f"{folder}: neither a known shape ({', '.join(SHAPES)}) nor a folder with a model's config.json"
        )
    from halfling.models.trusted import require_config  # torch takes seconds

    said = json_text.read(Path(folder) / "config.json")
    if not isinstance(said, dict):
        raise HalflingError(f"{folder}: config.json is no model's configuration: name a model's folder")
    # BERT counts positions from 0: such an encoder is converted where it is loaded (`models.convert`).
    is_bert = said.get("model_type") == "bert"
    require_config(folder, said | {"model_type": "xlm-roberta"} if is_bert else said, {})
    try:
        shape = shape_of(XLMRobertaConfig(**{name: said[name] for name in _NAMES.values() if name in said}))
    except ValidationError as error:
        wrong = error.errors()[0]
        raise HalflingError(f"{folder}: config.json's {_NAMES[str(wrong['loc'][0])]}: {wrong['msg']}") from error
    return shape.model_copy(update={"max_tokens": shape.max_tokens + FIRST_POSITION}) if is_bert else shape
