"""The stage that writes the sample in the form of the real data: CC100's, PAN-X's and XNLI's."""

import hashlib
import lzma
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Literal, TypeVar

from pydantic import Field

from halfling.bounds import Count, Seed
from halfling.errors import HalflingError
from halfling.files import whole_file
from halfling.records import Counts, Progress, Settings, silent
from halfling.sample.fill import Binding, bind, fill, tag
from halfling.sample.language import LANGUAGES, TAG_OF_LIST, Language, read_language

Split = Literal["train", "dev"]
_LABELS = ("entailment", "neutral", "contradiction")
_Drawn = TypeVar("_Drawn")
# One sentence in so many can stand in dev, no other: the splits are disjoint whatever their sizes and seeds.
_DEV_EVERY = 8
_TRIES_EACH = 1000
_MOST = 10_000_000  # each is made, not read


class SampleSettings(Settings):
    """How much of the embedded sample to write."""

    lines: Count = Field(4000, ge=2, le=_MOST, description="lines (paragraphs) of plain text per language")
    train_sentences: Count = Field(2000, ge=1, le=_MOST, description="English training sentences (NER) and pairs (NLI)")
    dev_sentences: Count = Field(200, ge=1, le=_MOST, description="dev sentences (NER) and pairs (NLI) per language")
    seed: Seed = Field(0, description="which of the possible sentences are drawn")


def write_sample(*, settings: SampleSettings, out: Path, progress: Progress = silent) -> Counts:
    """Write `cc100/`, `panx/` and `xnli/` under `out` in the form of the real data.

    The same settings give the same bytes; each file has its own random stream, so none depends on another.

    Returns:
        `lines` and `documents` per language, `ner_sentences` and `nli_pairs` per file.

    Raises:
        HalflingError: More different sentences are asked for than the templates yield.
    """
    counts: Counts = {"lines": {}, "documents": {}, "ner_sentences": {}, "nli_pairs": {}}
    for folder in ("cc100", "panx", "xnli"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for done, code in enumerate(LANGUAGES):
        progress(done, len(LANGUAGES), code)
        language = read_language(code)
        documents = list(_documents(language, settings))
        _write(out / f"cc100/{code}.txt.xz", ["\n".join(lines) + "\n" for lines in documents])
        counts["documents"][code] = len(documents)
        counts["lines"][code] = sum(map(len, documents))
        splits: tuple[Split, ...] = ("train", "dev") if code == LANGUAGES[0] else ("dev",)
        for split in splits:
            name = f"{split}-{code}"
            setting = f"{split}_sentences"
            size = getattr(settings, setting)
            tagged = _distinct(_sentences(language, split, settings.seed), size, set(), code, setting, split)
            triples = _distinct(_premises(language, split, settings.seed), -(-size // 3), set(), code, setting, split)
            pairs = [pair for triple in triples for pair in triple][:size]
            _write(out / f"panx/{name}.tsv.xz", ["".join(f"{word}\t{kind}\n" for word, kind in one) for one in tagged])
            _write(out / f"xnli/{name}.tsv.xz", ["".join("\t".join(pair) + "\n" for pair in pairs)])
            counts["ner_sentences"][name] = len(tagged)
            counts["nli_pairs"][name] = len(pairs)
    progress(len(LANGUAGES), len(LANGUAGES), "written")
    return counts


def _documents(language: Language, settings: SampleSettings) -> Iterator[list[str]]:
    """Yield documents of two to six lines; a document keeps to its people and places, as real ones do."""
    draw = Random(f"{settings.seed} cc100 {language.code}")
    lists = language.lists(held_out=False)
    templates = (*language.plain, *language.ner, *(premise for premise, *_ in language.nli))

    def lines(subject: Binding) -> Iterator[tuple[str, str]]:
        while True:
            chosen = draw.sample(templates, draw.randint(1, 3))
            text = " ".join(fill(template, bind([template], lists, draw, subject)) for template in chosen)
            yield text, text

    seen: set[str] = set()
    remaining = settings.lines
    while remaining:
        size = remaining if remaining <= 6 else min(draw.randint(2, 6), remaining - 2)
        subject = {name: draw.choice(lists[name]) for name in TAG_OF_LIST}
        yield _distinct(lines(subject), size, seen, language.code, "lines")
        remaining -= size


def _sentences(language: Language, split: Split, seed: int) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield (text, tagged tokens) without end."""
    draw = Random(f"{seed} panx {split} {language.code}")
    lists = language.lists(held_out=split == "train")
    while True:
        template = draw.choice(language.ner)
        bound = bind([template], lists, draw)
        yield fill(template, bound), tag(template, bound)


def _premises(language: Language, split: Split, seed: int) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Yield (premise, its three pairs in drawn order) without end; a pair is premise, hypothesis, label."""
    draw = Random(f"{seed} xnli {split} {language.code}")
    lists = language.lists(held_out=split == "train")
    while True:
        schema = draw.choice(language.nli)
        bound = bind(schema, lists, draw)
        premise, *hypotheses = (fill(template, bound) for template in schema)
        pairs = [(premise, hypothesis, label) for hypothesis, label in zip(hypotheses, _LABELS, strict=True)]
        draw.shuffle(pairs)
        yield premise, pairs


def _distinct(
    drawn: Iterator[tuple[str, _Drawn]], size: int, seen: set[str], code: str, setting: str, split: Split | None = None
) -> list[_Drawn]:
    """Return the first `size` of `drawn` whose texts are of `split` and differ from all in `seen`, which gains them."""
    found: list[_Drawn] = []
    for text, item in islice(drawn, _TRIES_EACH * size):
        if text not in seen and split in (None, _split_of(text)):
            seen.add(text)
            found.append(item)
            if len(found) == size:
                return found
    raise HalflingError(f"sample, {code}: too few different sentences: ask for fewer {setting}")


def _split_of(text: str) -> Split:
    return "train" if hashlib.sha256(text.encode()).digest()[0] % _DEV_EVERY else "dev"


def _write(path: Path, blocks: list[str]) -> None:
    """Write `blocks` with a blank line between them; xz keeps no time, so equal text gives equal bytes."""
    with whole_file(path) as partial:
        partial.write_bytes(lzma.compress("\n".join(blocks).encode(), preset=6))
