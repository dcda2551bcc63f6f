"""Learning from labels and from a fine-tuned teacher's answers: on the train split, and on text without labels."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from halfling.corpus.store import chunk_folder
from halfling.errors import HalflingError
from halfling.models.classifier import load_classifier, read_checkpoint
from halfling.models.on_cpu import computing_on_cpu
from halfling.models.shapes import require_room
from halfling.tasks.encode import IGNORED
from halfling.tasks.task import Task
from halfling.tokens.blocks import PAD, Block, PackedBlocks, PackedSummary
from halfling.tokens.tables import SPACE_MARK
from halfling.training.fit import fit_linear
from halfling.training.labelled import LabelledTraining
from halfling.training.layer_losses import hidden_state_loss
from halfling.training.layer_maps import layer_map
from halfling.training.losses import at_least_one
from halfling.training.projections import project_states
from halfling.training.remembering import RememberingTrainer
from halfling.training.trainer import counted_by_all

_FITTED_ON = 512
"""Examples: of some twenty tokens each, ten thousand, where a map to 1,024 channels has as many weights for each."""

UNLABELLED = -101
"""The label of a word or text that nobody has labelled: what the teacher says of it is imitated all the same."""


def imitation_loss(
    student: Float[Tensor, "*inputs classes"],
    teacher: Float[Tensor, "*inputs classes"],
    labels: Int[Tensor, "*inputs"],
    soft_share: float,
    counted: Callable[[Tensor], Tensor] = at_least_one,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy with the labels, and with the teacher's distribution, in nats.

    `soft_share` (0..1) weighs the latter, the rest the former. Where the label is -100 nothing counts, where it is
    `UNLABELLED` the teacher alone. `counted`: by what a sum over so many is divided.

    Follows Hinton et al. (https://arxiv.org/abs/1503.02531) at temperature 1; text without labels as in XtremeDistil
    (https://arxiv.org/abs/2004.05686), which learns in stages.
    """
    labelled, imitated = labels >= 0, labels != IGNORED
    # Sums over at least one: a batch of nothing but text has no labels, and no 0 / 0.
    hard = F.cross_entropy(student[labelled].float(), labels[labelled], reduction="sum") / counted(labelled.sum())
    answers = teacher[imitated].float().softmax(dim=-1)
    soft = F.cross_entropy(student[imitated].float(), answers, reduction="sum") / counted(imitated.sum())
    return (1 - soft_share) * hard + soft_share * soft


def require_text(number: int, packed: Path | None, task: Task) -> None:
    """Raise where `text_sequences` and a packed corpus do not come together, or are not for such a task.

    Raises:
        HalflingError: One without the other, or the task is of pairs: a corpus has none.
    """
    if (packed is not None) != (number > 0):
        raise HalflingError(
            f"text_sequences={number} and {'a' if packed else 'no'} --packed FOLDER: "
            "give both, or neither and text_sequences=0"
        )
    if packed and task.kind == "pair_classification":
        raise HalflingError("text_sequences: a corpus has no pairs to imitate on: set text_sequences=0")


def text_rows(
    packed: Path, task: Task, tokenizer: PreTrainedTokenizerBase, number: int, settings: LabelledTraining
) -> list[dict[str, Any]]:
    """Return `unlabelled_rows` as a task's training reads them, in its languages."""
    languages, by_word = {*task.train, *task.dev}, task.kind == "tagging"
    return unlabelled_rows(packed, number, tokenizer, settings.max_tokens, settings.seed, languages, by_word=by_word)


def unlabelled_rows(
    packed: Path,
    number: int,
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int,
    seed: int,
    languages: Collection[str] = (),
    *,
    by_word: bool = True,
) -> list[dict[str, Any]]:
    """Return `number` sequences of a packed corpus's first chunk to imitate on, blocks drawn evenly from `languages`.

    No languages: all that the chunk holds. `UNLABELLED` is each word at its first sub-word, as a tagger answers it, or,
    not `by_word`, the whole text.

    Raises:
        HalflingError: The corpus was packed with another tokenizer, or holds fewer sequences of these languages.
    """
    summary = PackedSummary.read(packed / "corpus.json")
    if summary.vocab_size != len(tokenizer):
        raise HalflingError(
            f"{packed}: packed with {summary.vocab_size} pieces, not {len(tokenizer)}: pack with its tokenizer"
        )
    chunk = chunk_folder(packed, 1)
    known = [code for code in sorted(summary.blocks.get(chunk.name, {})) if not languages or code in languages]
    blocks = [_shuffled(chunk / f"{code}.arrow", seed) for code in known]
    marks = np.array([piece.startswith(SPACE_MARK) for piece in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))])
    rows: list[dict[str, Any]] = []
    # A block of each language in turn; one that has no more is passed over.
    for block in (one for each in zip_longest(*blocks) for one in each if one is not None):
        for sequence in np.split(block.input_ids[block.input_ids != PAD], block.starts[1:]):
            if len(sequence) > max_tokens:  # cut as a text is, which keeps its end mark
                sequence = np.append(sequence[: max_tokens - 1], sequence[-1])
            labels = np.where(marks[sequence], UNLABELLED, IGNORED)
            if (labels != IGNORED).any():
                said = labels.tolist() if by_word else UNLABELLED
                rows.append({"input_ids": sequence.tolist(), "labels": said})
            if len(rows) == number:
                return rows
    raise HalflingError(
        f"{packed}: chunk-1 holds {len(rows)} sequences of {', '.join(known) or 'these languages'}, "
        f"not text_sequences={number}: ask for fewer"
    )


def _shuffled(path: Path, seed: int) -> Iterator[Block]:
    blocks = PackedBlocks(path)
    return (blocks[number] for number in np.random.default_rng(seed).permutation(len(blocks)).tolist())


def load_imitated(teacher: Path, task: Task, vocab_size: int, max_tokens: int) -> tuple[PreTrainedModel, list[int]]:
    """Return a fine-tuned model to imitate, and the classes of a task as it numbers them.

    Raises:
        HalflingError: It has other labels or another vocabulary, reads less than `max_tokens`, or cannot be read.
    """
    found = read_checkpoint(teacher)
    labels = found.labels
    if found.has_exits:
        raise HalflingError(f"{teacher}: has exits: name the model that they were trained for")
    if {*labels} != {*(task.labels or ())}:
        raise HalflingError(
            f"{teacher}: its labels are {', '.join(labels)}, not those of task {task.name}, "
            f"{', '.join(task.labels or ())}: name a teacher of this task"
        )
    imitated = load_classifier(teacher)
    require_room(imitated.config, max_tokens, teacher)
    if vocab_size != imitated.config.vocab_size:
        raise HalflingError(
            f"{teacher}: its vocab_size is {imitated.config.vocab_size}, not {vocab_size}: "
            "name a teacher of the same tokenizer"
        )
    return imitated, [labels.index(label) for label in task.labels or ()]


def take_classifier(student: PreTrainedModel, teacher: PreTrainedModel, classes: list[int]) -> None:
    """Give the student its teacher's classifier, in place, where both are of one width.

    `classes` are the student's, as the teacher numbers them.
    """
    if student.config.hidden_size != teacher.config.hidden_size:
        return
    own, theirs = student.classifier.state_dict(), teacher.classifier.state_dict()
    for name, weight in theirs.items():
        # What answers has a row a class, what lies before it (`dense`, of a text's classifier) does not.
        own[name].copy_(weight if name.startswith("dense") else weight[classes])


class ImitationTrainer(RememberingTrainer):
    """A Trainer whose model also imitates a teacher, which reads the same batches.

    `hidden_weight` adds the mean squared gap between the student's layers and the teacher's, paired by the uniform
    layer map, as in TinyBERT's second step (https://arxiv.org/abs/1909.10351); embeddings and attention maps, which
    that imitates too, are left out. At another width the student's states are compared through `projections`, which
    learn with it and are not written with it.
    """

    def __init__(
        self,
        *,
        teacher: PreTrainedModel,
        classes: list[int],
        soft_share: float,
        hidden_weight: float = 0.0,
        **arguments: Any,
    ) -> None:
        student = arguments["model"]
        depths = student.config.num_hidden_layers, teacher.config.num_hidden_layers
        self.layer_pairs = layer_map("uniform", *depths) if hidden_weight else []
        compared = [own for own, _ in self.layer_pairs]
        project_states(student, compared, teacher.config.hidden_size, bfloat16=arguments["args"].bf16)
        super().__init__(**arguments)
        if self.args.use_cpu:
            computing_on_cpu(teacher)
        self.teacher = self.asked = self.beside(teacher)
        self.soft_share = soft_share
        self.classes = classes  # the student's, as the teacher numbers them
        self.hidden_weight = hidden_weight

    @torch.no_grad()
    def begin(self, rows: Sequence[dict[str, Any]]) -> None:
        """Fit what a student of another width has of its own, by least squares, to what its teacher says of some rows.

        These are its projections, and a tagger's classifier; one of equal width has its teacher's. Where processes
        share weights out, and of texts, whose classifiers are no linear map, they begin at random.
        """
        model = self.model
        if self.sharded or model.config.hidden_size == self.teacher.config.hidden_size:
            return
        if not self.layer_pairs and not isinstance(model.classifier, nn.Linear):
            return
        found: dict[nn.Linear, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        some = rows[:: -(-len(rows) // _FITTED_ON)]
        for start in range(0, len(some), self.args.per_device_train_batch_size):
            batch = some[start : start + self.args.per_device_train_batch_size]
            inputs = self._prepare_inputs(self.data_collator(batch))  # type: ignore[has-type]
            keep, said = inputs["attention_mask"].bool(), self.unchanging(inputs)
            read = {name: inputs[name] for name in ("input_ids", "attention_mask")}
            states = model.eval().roberta(**read, output_hidden_states=True).hidden_states
            for number, (layer, _) in enumerate(self.layer_pairs):
                target = said["states"][:, :, number]
                found[model.projections[str(layer)]].append((states[layer][keep], target[keep].float()))
            if isinstance(model.classifier, nn.Linear):
                found[model.classifier].append((states[-1][keep], said["logits"][keep].float()))
        for linear, seen in found.items():
            fit_linear(linear, *map(torch.cat, zip(*seen, strict=True)))

    def unchanging(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the teacher's logits, and its states of the layers that the student's learn from."""
        read = {name: tensor for name, tensor in inputs.items() if name != "labels"}
        with torch.no_grad(), self.accelerator.autocast():
            told = self.teacher(**read, output_hidden_states=self.hidden_weight > 0)
        found = {"logits": told.logits[..., self.classes]}
        if self.hidden_weight:
            layers = torch.stack([told.hidden_states[theirs] for _, theirs in self.layer_pairs], dim=2)
            # Kept or not: whether there is room must not change what is learned.
            found["states"] = layers.to(torch.bfloat16 if self.args.bf16 else torch.float32)
        return found

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], *_: Any, **__: Any) -> Tensor:
        """Return the loss of a batch."""
        said = self.recalled(inputs) or self.unchanging(inputs)
        answered = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            output_hidden_states=self.hidden_weight > 0,
        )
        loss = imitation_loss(answered.logits, said["logits"], inputs["labels"], self.soft_share, counted_by_all)
        if self.hidden_weight:
            keep = inputs["attention_mask"].bool()
            gaps = [
                hidden_state_loss(answered.hidden_states[own], theirs, keep)
                for (own, _), theirs in zip(self.layer_pairs, said["states"].unbind(2), strict=True)
            ]
            kept = keep.sum()
            loss = loss + self.hidden_weight * torch.stack(gaps).mean() * (kept / counted_by_all(kept))
        return loss
