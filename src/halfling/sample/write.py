"""The stage that writes the sample in the form of the real data: CC100's, PAN-X's and XNLI's."""

import hashlib
import lzma
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Literal, TypeVar

from pydantic import Field

from halfling.errors import HalflingError
from halfling.files import whole_file
from halfling.records import Counts, Progress, Seed, Settings, silent
from halfling.sample import english, hindi, russian, swahili, turkish, urdu
from halfling.sample.fill import TAG_OF_LIST, bind, fill, lists_of, tag
from halfling.sample.language import Entry, Language

LANGUAGES: tuple[Language, ...] = tuple(module.LANGUAGE for module in (english, russian, hindi, turkish, swahili, urdu))

Split = Literal["train", "dev"]
_Drawn = TypeVar("_Drawn")
# One sentence in so many can stand in dev, no other: the splits are disjoint whatever their sizes and seeds.
_DEV_EVERY = 8
_TRIES_EACH = 1000


class SampleSettings(Settings):
    """How much of the embedded sample to write."""

    lines: int = Field(4000, ge=2, description="lines (paragraphs) of plain text per language")
    train_sentences: int = Field(2000, ge=1, description="English training sentences (NER) and pairs (NLI)")
    dev_sentences: int = Field(200, ge=1, description="dev sentences (NER) and pairs (NLI) per language")
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
    files: list[tuple[Language, Split | None]] = [(language, None) for language in LANGUAGES]
    files += [(LANGUAGES[0], "train"), *((language, "dev") for language in LANGUAGES)]
    for folder in ("cc100", "panx", "xnli"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for done, (language, split) in enumerate(files):
        progress(done, len(files), f"{language.code} {split or 'text'}")
        if split is None:
            written = list(_documents(language, settings))
            _write(out / f"cc100/{language.code}.txt.xz", ["\n".join(lines) + "\n" for lines in written])
            counts["documents"][language.code] = len(written)
            counts["lines"][language.code] = sum(map(len, written))
            continue
        name = f"{split}-{language.code}"
        size = settings.train_sentences if split == "train" else settings.dev_sentences
        tagged = _ner(language, split, size, settings.seed)
        _write(out / f"panx/{name}.tsv.xz", [_rows(sentence) for sentence in tagged])
        pairs = _nli(language, split, size, settings.seed)
        _write(out / f"xnli/{name}.tsv.xz", ["".join("\t".join(pair) + "\n" for pair in pairs)])
        counts["ner_sentences"][name] = len(tagged)
        counts["nli_pairs"][name] = len(pairs)
    progress(len(files), len(files), "written")
    return counts


def _documents(language: Language, settings: SampleSettings) -> Iterator[list[str]]:
    """Yield documents of two to six lines; a document keeps to its people and places, as real ones do."""
    draw = Random(f"{settings.seed} cc100 {language.code}")
    lists = lists_of(language, held_out=False)
    templates = (*language.plain, *language.ner, *(schema.premise for schema in language.nli))

    def line(subject: dict[str, Entry]) -> tuple[str, str]:
        chosen = draw.sample(templates, draw.randint(1, 3))
        text = " ".join(fill(template, bind([template], lists, draw, subject)) for template in chosen)
        return text, text

    seen: set[str] = set()
    left = settings.lines
    while left:
        size = left if left <= 6 else min(draw.randint(2, 6), left - 2)
        subject = {name: draw.choice(lists[name]) for name in TAG_OF_LIST}
        yield _distinct(size, partial(line, subject), seen, language, "lines")
        left -= size


def _ner(language: Language, split: Split, size: int, seed: int) -> list[list[tuple[str, str]]]:
    draw = Random(f"{seed} panx {split} {language.code}")
    lists = lists_of(language, held_out=split == "train")

    def sentence() -> tuple[str, list[tuple[str, str]]] | None:
        template = draw.choice(language.ner)
        bound = bind([template], lists, draw)
        text = fill(template, bound)
        return (text, tag(template, bound)) if _split_of(text) == split else None

    return _distinct(size, sentence, set(), language, f"{split}_sentences")


def _nli(language: Language, split: Split, size: int, seed: int) -> list[tuple[str, str, str]]:
    """Return pairs (premise, hypothesis, label); a premise comes with its three labels in drawn order."""
    draw = Random(f"{seed} xnli {split} {language.code}")
    lists = lists_of(language, held_out=split == "train")

    def triple() -> tuple[str, list[tuple[str, str, str]]] | None:
        schema = draw.choice(language.nli)
        labelled = [("entailment", schema.entailment), ("neutral", schema.neutral)]
        labelled.append(("contradiction", schema.contradiction))
        bound = bind([schema.premise, *(text for _, text in labelled)], lists, draw)
        draw.shuffle(labelled)
        premise = fill(schema.premise, bound)
        pairs = [(premise, fill(text, bound), label) for label, text in labelled]
        return (premise, pairs) if _split_of(premise) == split else None

    triples = _distinct(-(-size // 3), triple, set(), language, f"{split}_sentences")
    return [pair for pairs in triples for pair in pairs][:size]


def _distinct(
    size: int,
    attempt: Callable[[], tuple[str, _Drawn] | None],
    seen: set[str],
    language: Language,
    setting: str,
) -> list[_Drawn]:
    """Return `size` results of `attempt`, no two with the same text; `seen` gains their texts."""
    found: list[_Drawn] = []
    for _ in range(_TRIES_EACH * size):
        result = attempt()
        if result is not None and result[0] not in seen:
            seen.add(result[0])
            found.append(result[1])
            if len(found) == size:
                return found
    raise HalflingError(f"sample, {language.code}: too few different sentences: ask for fewer {setting}")


def _split_of(text: str) -> Split:
    return "train" if hashlib.sha256(text.encode()).digest()[0] % _DEV_EVERY else "dev"


def _rows(sentence: list[tuple[str, str]]) -> str:
    return "".join(f"{token}\t{tag}\n" for token, tag in sentence)


def _write(path: Path, blocks: list[str]) -> None:
    """Write `blocks` with a blank line between them; xz keeps no time, so equal text gives equal bytes."""
    with whole_file(path) as partial:
        partial.write_bytes(lzma.compress("\n".join(blocks).encode(), preset=6))
