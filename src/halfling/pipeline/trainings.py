"""What one training will take: on packed blocks, and on labels."""

from collections.abc import Sequence

from pydantic import Field

from halfling.cost.training import (
    FORWARD,
    LEARNING,
    checkpoint_bytes,
    device_bytes,
    embeddings,
    language_model_head,
    parameters,
    pass_flops,
    weight_bytes,
)
from halfling.errors import HalflingError
from halfling.records import EncoderShape, Record
from halfling.tasks.extent import Extent
from halfling.tokens.masking import blocks_read
from halfling.training.arguments import TrainingSettings
from halfling.training.labelled import LabelledTraining
from halfling.training.masked import MaskedTraining, shared


class Estimate(Record):
    """What one stage takes; None: nobody knows yet, or it takes next to nothing. All but what is done is estimated."""

    shape: str | None = Field(None, description="layers x width of the model that learns or is written")
    tokens: int | None = Field(None, description="that a training reads, or a corpus has")
    steps: int | None = None
    flops: float | None = Field(None, description="operations of all passes of a training")
    device_bytes: int | None = Field(None, description="peak memory of one device")
    device_hours: float | None = Field(None, description="of all devices together")
    disk_bytes: int | None = Field(None, description="what stays")
    checkpoint_bytes: int | None = Field(None, description="beside that, while it trains, and what a teacher said")


def written(shape: EncoderShape, weights: int, times: int = 1) -> Estimate:
    """Return what writing a model so many times takes."""
    return Estimate(shape=named(shape), disk_bytes=times * weight_bytes(weights))


def named(shape: EncoderShape) -> str:
    """Return a shape in few characters."""
    return f"{shape.num_layers}x{shape.width}"


def on_blocks(
    known: Estimate,
    settings: MaskedTraining,
    shape: EncoderShape,
    block: int,
    chunks: Sequence[int],
    devices: int,
    teacher: EncoderShape | None = None,
    outputs: tuple[EncoderShape, ...] = (),
) -> Estimate:
    """Return what a training on packed blocks takes besides what is known.

    Args:
        known: That.
        settings: Of the training.
        shape: Of the model that learns.
        block: Tokens of a block.
        chunks: Tokens of each chunk; none: nobody knows.
        devices: That share it.
        teacher: Who reads the same.
        outputs: The models that answer over the whole vocabulary where tokens are masked, the one that learns first.
    """
    frozen = shape.vocab_size * shape.width if settings.freeze_embeddings else 0
    head = language_model_head(shape) if outputs else 0
    learned = parameters(shape) + head - frozen
    beside = parameters(teacher) + sum(map(language_model_head, outputs[1:])) if teacher else 0
    # A teacher's embeddings are its output layer too.
    looked_at = sum(embeddings(one) + language_model_head(one) for one in outputs[1:])
    shared_by, whole = _shared_out(settings, devices, learned + frozen, embeddings(shape) + head - frozen, looked_at)
    memory = None
    try:
        at_once = shared(settings, devices)[0] * block
        memory = device_bytes(
            learned,
            frozen + beside,
            shape,
            at_once,
            output_widths=tuple(one.width for one in outputs),
            bfloat16=settings.precision != "float32",
            shared_by=shared_by,
            whole=whole,
        )
    except HalflingError:  # so many devices cannot share a step
        pass
    said = {"checkpoint_bytes": checkpoint_bytes(learned, frozen), "device_bytes": memory}
    steps = _steps(settings, block, chunks)
    if not steps:
        return known.model_copy(update=said)
    tokens = steps * settings.batch_size * settings.gradient_accumulation * block
    answers = [round(settings.mask_share * tokens)] * len(outputs) + [0, 0]
    # As if one sequence filled a block: at most.
    flops = LEARNING * pass_flops(shape, tokens, block, answers[0])
    flops += FORWARD * pass_flops(teacher, tokens, block, answers[1]) if teacher else 0
    return known.model_copy(update=said | {"tokens": tokens, "steps": steps, "flops": float(flops)})


def _steps(settings: MaskedTraining, block: int, chunks: Sequence[int]) -> int:
    """Return the steps of a training on packed blocks; where nobody knows the chunks, at most; 0: nobody knows."""
    a_step, limit = settings.batch_size * settings.gradient_accumulation, settings.tokens_per_epoch
    chunks = chunks or ([limit] if limit else [0])
    read = (chunks[epoch % len(chunks)] for epoch in range(settings.epochs))
    return sum(blocks_read(tokens // block, block, a_step, limit) // a_step for tokens in read)


def on_labels(
    settings: LabelledTraining,
    shape: EncoderShape,
    extent: Extent | None,
    devices: int,
    *,
    text: Extent,
    imitated: EncoderShape | None = None,
    once: bool = False,
    frozen: int = 0,
    times: int = LEARNING,
) -> Estimate:
    """Return what a training on labels takes; classifiers are left out.

    Args:
        settings: Of the training.
        shape: Of the model that learns.
        extent: What every epoch reads, if that is known.
        devices: That share it.
        text: What all epochs together read besides.
        imitated: Who reads the same.
        once: Who does not learn, that or a frozen model, reads it once, not in every epoch.
        frozen: Weights of the model that do not learn.
        times: Forward passes that a step is worth.
    """
    learned, beside = parameters(shape) - frozen, parameters(imitated) if imitated else 0
    at_once = -(-settings.batch_size // devices) * settings.max_tokens  # at most
    bfloat16 = settings.precision != "float32"
    shared_by, whole = _shared_out(settings, devices, learned + frozen, embeddings(shape) - frozen)
    memory = device_bytes(learned, frozen + beside, shape, at_once, bfloat16=bfloat16, shared_by=shared_by, whole=whole)
    said: dict[str, float | None] = {
        "checkpoint_bytes": checkpoint_bytes(learned, frozen),
        "device_bytes": memory,
    }
    if extent and extent.examples:
        examples, tokens = (settings.epochs * whole + more for whole, more in zip(extent, text, strict=True))
        length = max(1, tokens // examples)
        told = extent.tokens + text.tokens if once else tokens
        flops = times * pass_flops(shape, told if times == FORWARD else tokens, length)
        flops += FORWARD * pass_flops(imitated, told, length) if imitated else 0
        steps = settings.epochs * max(1, examples // settings.epochs // settings.batch_size)
        said |= {"tokens": tokens, "steps": steps, "flops": float(flops)}
    return written(shape, parameters(shape)).model_copy(update=said)


def _shared_out(
    settings: TrainingSettings, devices: int, own: int, learned_outside: int, looked_at: int = 0
) -> tuple[int, int]:
    """Return how many devices share weights out, and how many weights and gradients lie whole beside the parts.

    Layers' gradients, and layers of who is read, are whole one at a time: they are left out.

    Args:
        settings: Of the training.
        devices: That share it.
        own: Weights of the model that learns; they are whole in a step.
        learned_outside: Those outside its layers that learn: their gradients are whole too, if there are any.
        looked_at: Weights of a teacher that are whole after it has read.
    """
    if not settings.fsdp or devices == 1:
        return 1, 0
    return devices, own + max(0, learned_outside) + looked_at
