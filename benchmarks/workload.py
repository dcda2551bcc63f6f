"""What is measured: sentences of six languages, a model of XLM-R Base's shape to read them, and where each exits."""

import lzma
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, cycle, islice, product
from pathlib import Path
from random import Random

from transformers import PreTrainedTokenizerBase

from halfling.cost.flops import Head, flops
from halfling.models.pieces import tokenizer_of
from halfling.records import EncoderShape
from halfling.sample.write import SampleSettings, write_sample
from halfling.tasks.task import Task

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


def data_folder(wanted: Path, scratch: Path) -> Path:
    """Return `wanted` when it is there, else the embedded sample, written into `scratch`."""
    if wanted.is_dir():
        return wanted
    write_sample(settings=SampleSettings(), out=scratch)
    return scratch


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
