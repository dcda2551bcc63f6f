"""What requests and answers look like: the contracts of Text Embeddings Inference, Infinity and transformers."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from halfling.serve.refusal import ErrorType

Texts = Annotated[list[str], Field(min_length=1, max_length=2)]
"""One text, or a pair."""


class Asked(BaseModel):
    """A request's body; what the service does not know is passed over."""

    model_config = ConfigDict(strict=True)


class Constrained(Asked):
    """What a request may say of where to exit."""

    language: str | None = Field(
        None,
        max_length=64,
        description="of the texts: exit by its own set; one without a set exits by the default; auto: guessed",
    )
    flops_share: float | None = Field(
        None, ge=0, le=1, description="exit by the best policy of the calibration's curve that takes at most so much"
    )
    max_latency_ms: float | None = Field(
        None, gt=0, le=3_600_000, description="likewise, by which the answer is expected within so many milliseconds"
    )


class TextParameters(Asked):
    """What Hugging Face's clients ask of a classifier."""

    function_to_apply: Literal["softmax", "none"] | None = Field(None, description="none: raw scores")
    top_k: int | None = Field(None, ge=1, le=65_536, description="labels to answer with; all")
    language: str | None = Field(None, max_length=64, description="as beside `inputs`")


class PredictRequest(Constrained):
    """`POST /predict`."""

    inputs: str | Texts | Annotated[list[Texts], Field(min_length=1)] = Field(
        description="a text; a pair; or a batch of both: [[text], [text, second]]"
    )
    truncate: bool | None = Field(None, description="cut what is longer than the model reads; else it is refused")
    truncation_direction: Literal["Right", "right"] = Field("Right", description="the end is cut")
    raw_scores: bool = Field(False, description="logits instead of probabilities")
    return_exits: bool = Field(False, description="say of each label exit_layer, uncertainty and policy")
    model: str | None = Field(None, description="which of the models; the first classifier")
    parameters: TextParameters | None = Field(
        None, description="where a client of Hugging Face sends it, the answer has its form: a list for each text"
    )


class TokenParameters(Asked):
    """What Hugging Face's clients ask of a tagger."""

    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = Field(
        None, description="none: each word with its tag; all others: entities of whole words"
    )
    ignore_labels: list[str] | None = Field(None, description="labels to leave out; O")
    stride: Literal[0] | None = Field(None, description="long texts are read in windows that do not overlap")
    language: str | None = Field(None, max_length=64, description="as beside `inputs`")


class TokensRequest(Constrained):
    """`POST /predict_tokens`."""

    inputs: str | Annotated[list[str], Field(min_length=1)] = Field(description="a text, or several")
    return_exits: bool = Field(
        False, description="answer each text with {entities, exit_layer, uncertainty, policy} instead of its entities"
    )
    model: str | None = Field(None, description="which of the models; the first tagger")
    parameters: TokenParameters | None = None


class ClassifyRequest(Constrained):
    """`POST /classify`."""

    input: Annotated[list[str], Field(min_length=1, max_length=2048)] = Field(description="texts; what is long is cut")
    model: str = Field("default/not-specified", description="which of the models; the first classifier")
    raw_scores: bool = Field(False, description="logits instead of probabilities")
    return_exits: bool = Field(False, description="say of each label exit_layer, uncertainty and policy")


class Label(BaseModel):
    """A label and how likely it is."""

    score: float
    label: str
    exit_layer: int | None = Field(None, description="the layer after which the answer was taken; where asked for")
    uncertainty: float | None = Field(None, description="0..1 at that exit; where asked for")
    policy: str | None = Field(None, description="the language whose set held; null: the default's, or flops_share's")


class Entity(BaseModel):
    """An entity, or, with the strategy `none`, a word."""

    entity_group: str | None = Field(None, description="its type")
    entity: str | None = Field(None, description="a word's tag")
    score: float = Field(description="mean probability of its words' tags")
    word: str = Field(description="as it stands in the text")
    start: int = Field(description="its first character's place in the text as sent")
    end: int = Field(description="the place after its last character")


class Tagged(BaseModel):
    """A text's entities and where it exited."""

    entities: list[Entity]
    exit_layer: int = Field(description="after which the answer was taken; 0: there was nothing to compute")
    uncertainty: float = Field(description="0..1 at that exit")
    policy: str | None = Field(description="the language whose set held; null: the default's, or flops_share's")


class Usage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class Classified(BaseModel):
    """Infinity's answer."""

    object: Literal["classify"] = "classify"
    data: list[list[Label]]
    model: str
    usage: Usage
    id: str
    created: int


class ErrorResponse(BaseModel):
    """Text Embeddings Inference's error."""

    error: str
    error_type: ErrorType


class OpenAIProblem(BaseModel):
    """What is wrong, in the form of OpenAI."""

    message: str
    type: str | None
    param: str | None
    code: int


class OpenAIError(BaseModel):
    """Infinity's error."""

    error: OpenAIProblem


PredictResponse = list[Label] | list[list[Label]]
TokensResponse = list[Entity] | list[list[Entity]] | Tagged | list[Tagged]
