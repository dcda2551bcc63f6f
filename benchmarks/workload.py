"""What is measured: sentences of six languages, a model of XLM-R Base's shape to read them, and where each exits."""

import lzma
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, cycle, islice, product
from pathlib import Path
from random import Random

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from halfling.cost.flops import Head, flops
from halfling.engine import Encoded
from halfling.engine.exported import BackendName, Precision
from halfling.exits.policy import Calibration, ExitPolicy
from halfling.export.write import ExportSettings, export
from halfling.models import XLMRobertaEarlyExitConfig
from halfling.models.classifier import EARLY_EXIT, PLAIN
from halfling.models.load import weights_sha256
from halfling.models.pieces import tokenizer_of
from halfling.models.shapes import config_for
from halfling.records import EncoderShape
from halfling.sample.write import SampleSettings, write_sample
from halfling.tasks import Task
from halfling.tasks.encode import encode
from halfling.tasks.examples import read_examples

SHARE = 0.686
"""What the thesis's early exit left of the arithmetic."""

_TEXT_BYTES = 150_000  # of each of 90 languages: enough for 250,002 pieces
_FIRST, _SPECIALS = 4, 5


def pieces(number: int, data: Path) -> list[tuple[str, float]]:
    """Return that many words and parts of words, each with its log-frequency: a vocabulary of XLM-R's form.

    The most frequent words of the text under `data`, and parts of them; where the text is too small, letters in
    every order. It is no trained Unigram model, but it has the size of one, and cuts text into lengths like one.
    """
    words = Counter(chain.from_iterable(line.split() for line in _text(data)))
    parts: Counter[str] = Counter()
    for word, count in words.most_common(30_000):
        marked = f"▁{word}"
        for start, length in product(range(len(marked)), (1, 2, 3, 4)):
            if start + length <= len(marked):
                parts[marked[start : start + length]] += count
    letters = [part for part, _ in parts.most_common() if len(part) == 1]
    wanted = number - _SPECIALS
    frequent = (f"▁{word}" for word, _ in words.most_common(wanted * 3 // 5))
    made = ("".join(some) for length in range(2, 9) for some in product(letters[:40], repeat=length))
    chosen = dict.fromkeys(islice(dict.fromkeys(chain(letters, frequent, (p for p, _ in parts.most_common()))), wanted))
    for piece in made:
        if len(chosen) == wanted:
            break
        chosen.setdefault(piece)
    total = sum(words.values())
    return [(p, math.log((words[p[1:]] if p[0] == "▁" else parts[p] / 100) + 0.1) - math.log(total)) for p in chosen]


def _text(data: Path) -> Iterator[str]:
    for file in sorted((*data.glob("cc100*/*.txt.xz"), *data.glob("*/dev-*.tsv.xz"))):
        with lzma.open(file, "rt", encoding="utf-8") as lines:
            seen = 0
            for line in lines:
                yield line
                seen += len(line.encode())
                if seen > _TEXT_BYTES:
                    break


def read_sentences(
    task: Task, tokenizer: PreTrainedTokenizerBase, number: int, vocab_size: int
) -> dict[str, list[Encoded]]:
    """Return the first dev sentences of every language; ids are folded into a vocabulary of `vocab_size`."""

    def fold(ids: np.ndarray) -> np.ndarray:
        return np.where(ids < _FIRST, ids, _FIRST + ids % (vocab_size - _SPECIALS))

    texts = {code: read_examples(task, "dev", code)[:number] for code in task.languages}
    return {
        code: [replace(one, ids=fold(one.ids)) for one in encode(some, tokenizer, 512)] for code, some in texts.items()
    }


def data_folder(wanted: Path, scratch: Path) -> Path:
    """Return `wanted` when it is there, else the embedded sample, written into `scratch`."""
    if wanted.is_dir():
        return wanted
    write_sample(settings=SampleSettings(), out=scratch)
    return scratch


def write_model(
    folder: Path, task: Task, shape: EncoderShape, exits: Sequence[int], tokenizer: PreTrainedTokenizerBase
) -> tuple[PreTrainedModel, PreTrainedModel]:
    """Write an early-exit model with random weights and its task, and its policy into `folder/policy`.

    Returns:
        The model as plain transformers has it, and with exits.
    """
    torch.manual_seed(0)
    config = config_for(shape)
    config.id2label = dict(enumerate(task.labels or ()))
    config.label2id = {label: number for number, label in config.id2label.items()}
    plain = PLAIN[task.head](config).eval()
    early = EARLY_EXIT[task.head](XLMRobertaEarlyExitConfig(**{**config.to_dict(), "exit_layers": list(exits)})).eval()
    early.load_state_dict(plain.state_dict(), strict=False)
    early.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    task.write(folder)
    # Any threshold above 0: where inputs exit is imposed.
    policy = ExitPolicy.uniform(tuple(exits), 0.5, model=weights_sha256(folder))
    (folder / "policy").mkdir()
    Calibration(task=task.name, policy=policy, curve=()).write(folder / "policy" / "exit_policy.json")
    return plain, early


def export_model(model: Path, precision: Precision, *, exits: bool = True, backend: BackendName = "native") -> Path:
    """Export what `write_model` wrote, once, into a folder beside it, and return that."""
    out = model.parent / f"{model.name}-{precision}-{'exits' if exits else 'off'}"
    if not out.exists():
        out.mkdir()
        settings = ExportSettings(backends=(backend,), precision=precision)
        export(settings=settings, model=model, out=out, policy=model / "policy" if exits else None)
    return out


def tokenizers(data: Path, *sizes: int) -> list[PreTrainedTokenizerBase]:
    """Return a tokenizer for each number of pieces."""
    most = pieces(max(sizes), data)
    return [tokenizer_of(most[: size - _SPECIALS], 512) for size in sizes]


def impose(shape: EncoderShape, task: Task, lengths: Sequence[int], exits: Sequence[int]) -> tuple[list[int], float]:
    """Return the layer after which each input leaves, so that about `SHARE` of the arithmetic is left; and the share.

    Inputs in random order leave at the early exits in turn, until enough is saved; the others stay to the end. Of many
    such draws that is taken whose mean layer tells the same share: a sentence alone takes nearly the same time whatever
    its length, and a draw that lets the long ones leave would save arithmetic and little time.
    The share counts all classifiers that are evaluated.
    """
    plain = Head(kind=task.head, num_classes=len(task.labels or ()))
    early = plain.model_copy(update={"layers": tuple(exits)})
    whole = flops(shape, lengths, [shape.num_layers] * len(lengths), plain).total
    each = {
        (tokens, layer): flops(shape, [tokens], [layer], early).total / whole
        for tokens, layer in product({*lengths}, exits)
    }
    draws = (_draw(each, lengths, exits, seed) for seed in range(200))
    return min(draws, key=lambda draw: abs(draw[1] - SHARE) + abs(sum(draw[0]) / len(lengths) / exits[-1] - SHARE))


def _draw(
    each: Mapping[tuple[int, int], float], lengths: Sequence[int], exits: Sequence[int], seed: int
) -> tuple[list[int], float]:
    taken = [exits[-1]] * len(lengths)
    share = sum(each[tokens, exits[-1]] for tokens in lengths)
    order = Random(seed).sample(range(len(lengths)), len(lengths))
    for place, layer in zip(order, cycle(exits[:-1])):
        tokens = lengths[place]
        now = share + each[tokens, layer] - each[tokens, exits[-1]]
        if abs(now - SHARE) <= abs(share - SHARE):
            taken[place], share = layer, now
    return taken, share
