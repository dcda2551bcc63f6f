"""From CC100's compressed files to packed blocks: ours, the bare tokenizer and a plain script, side by side.

    python benchmarks/corpus.py [--quick] [--json FILE] [--data ../shared/data/cc100-mini] [--tokenizer FOLDER]

- `bare`: the tokenizer alone, `encode_batch` on all cores, the text already decompressed and in memory.
- `ours`: everything: decompress, clean, de-duplicate, cut into five chunks, tokenise, pack, write. The stages' own
  functions, as `halfling run` calls them.
- `script`: the same steps as one writes them with `datasets`: a generator, `map` and `filter` with a process a core.
  Its cleaning is the simpler one: normal form, length, documents and long lines seen before.

They take turns, round by round; every rate is megabytes of decompressed source text a second, every ratio is taken
within a round, and what is printed is the median and the quartiles. Our token ids are compared with the tokenizer's own
on every document that we packed, the script's on every document that both kept.
Without `--tokenizer`, one of 16,000 pieces is trained first (not timed).
"""

import argparse
import hashlib
import json
import lzma
import os
import shutil
import statistics
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

WANTED = {"bare": 3, "script": 5}
"""How many times as fast as each ours is to be."""
QUICK = ("en", "hi", "sw", "tr", "ur")
BLOCK_TOKENS = 512
_SECONDS = 180  # of a quick run; no round is begun that would not end by then


def read(path: Path) -> Iterator[str]:
    """Yield the documents of one of CC100's files."""
    lines: list[str] = []
    with lzma.open(path, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            if line.strip():
                lines.append(line.strip())
            elif lines:
                yield "\n".join(lines)
                lines = []
    if lines:
        yield "\n".join(lines)


def bare(documents: list[str], tokenizer: Path) -> None:
    """Tokenise and do nothing else."""
    from tokenizers import Tokenizer

    model = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    for begin in range(0, len(documents), 1000):
        model.encode_batch(documents[begin : begin + 1000], add_special_tokens=False)


def ours(source: Path, codes: tuple[str, ...] | str, tokenizer: Path, out: Path) -> None:
    """Run the corpus and the pack stage."""
    from halfling.corpus.build import CorpusSettings, build_corpus
    from halfling.tokens.pack import PackSettings, pack_corpus

    for name in ("corpus", "packed"):
        (out / name).mkdir(parents=True)
    build_corpus(settings=CorpusSettings(languages=codes), source=source, out=out / "corpus")
    settings = PackSettings(block_tokens=BLOCK_TOKENS)
    pack_corpus(settings=settings, corpus=out / "corpus", tokenizer=tokenizer, out=out / "packed")


def script(files: dict[str, Path], tokenizer: Path, out: Path) -> None:
    """Do the same with `datasets`."""
    from datasets import Dataset, disable_progress_bars
    from transformers import PreTrainedTokenizerFast

    disable_progress_bars()
    processes = os.cpu_count() or 1
    model = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer / "tokenizer.json"))
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    rows = Dataset.from_generator(_rows, gen_kwargs={"files": files}, cache_dir=str(out / "cache"))
    rows = rows.map(_clean, num_proc=processes).filter(_is_long, num_proc=processes)
    rows = rows.map(partial(_once, seen=set()), load_from_cache_file=False, new_fingerprint="once")
    rows = rows.filter(_is_long, num_proc=processes)
    rows = rows.map(partial(_tokenise, model=model), batched=True, num_proc=processes)
    for number in range(5):
        chunk = rows.filter(partial(_in_chunk, number=number), num_proc=processes)
        chunk.select_columns(["text", "input_ids"]).save_to_disk(out / f"documents-{number + 1}")
        blocks = chunk.map(_pack, batched=True, num_proc=processes, remove_columns=chunk.column_names)
        blocks.save_to_disk(out / f"chunk-{number + 1}")
    del os.environ["TOKENIZERS_PARALLELISM"]


def _rows(files: dict[str, Path]) -> Iterator[dict[str, str]]:
    for code, path in files.items():
        for text in read(path):
            yield {"lang": code, "text": text}


def _clean(row: dict[str, str]) -> dict[str, str]:
    return {"text": unicodedata.normalize("NFC", row["text"]).strip()}


def _is_long(row: dict[str, str]) -> bool:
    return len(row["text"]) >= 16


def _once(row: dict[str, str], seen: set[bytes]) -> dict[str, str]:
    kept = []
    for line in [row["text"]] if "\n" not in row["text"] else row["text"].split("\n"):
        key = hashlib.blake2b((row["lang"] + line).encode(), digest_size=8).digest()
        if len(line.encode()) < 48 or key not in seen:
            kept.append(line)
        seen.add(key)
    return {"text": "\n".join(kept)}


def _tokenise(rows: dict[str, list[Any]], model: Any) -> dict[str, list[list[int]]]:
    return {"input_ids": model(rows["text"], add_special_tokens=False, return_attention_mask=False)["input_ids"]}


def _in_chunk(row: dict[str, Any], number: int) -> bool:
    return hashlib.blake2b(row["text"].encode(), digest_size=8).digest()[0] % 5 == number


def _pack(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    blocks: dict[str, list[Any]] = {"lang": [], "input_ids": []}
    for code in dict.fromkeys(rows["lang"]):
        stream: list[int] = []
        for language, ids in zip(rows["lang"], rows["input_ids"], strict=True):
            if language == code:
                stream += [0, *ids, 2]
        for begin in range(0, len(stream) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            blocks["lang"].append(code)
            blocks["input_ids"].append(stream[begin : begin + BLOCK_TOKENS])
    return blocks


def compare(tokenizer: Path, mine: Path, theirs: Path) -> dict[str, int]:
    """Return how many documents were compared, ours and the script's, and how many tokens; they are equal.

    Raises:
        SystemExit: A token differs.
    """
    from datasets import load_from_disk

    from halfling.corpus.store import read_texts
    from halfling.tokens.blocks import PackedBlocks
    from halfling.tokens.encode import load_tokenizer

    model = load_tokenizer(tokenizer)
    num_documents = num_tokens = num_script = 0
    expected_of: dict[str, list[int]] = {}
    for path in sorted((mine / "corpus").glob("chunk-*/*.parquet")):
        expected = []
        for texts in read_texts(path):
            batch = texts.to_pylist()
            for text, each in zip(batch, model.encode_batch(batch, add_special_tokens=False), strict=True):
                expected_of[text] = each.ids
                expected.append(each.ids)
        flat = np.array([id_ for ids in expected for id_ in ids])
        # Special tokens written in a text are text: the unknown token.
        flat[(flat < 3) | (flat == model.get_vocab_size() - 1)] = 3
        blocks = mine / "packed" / path.parent.name / f"{path.stem}.arrow"
        packed = np.concatenate([run.input_ids.reshape(-1) for run in PackedBlocks(blocks).runs])
        packed = packed[packed > 2]
        if not np.array_equal(packed, flat[: len(packed)]) or len(flat) - len(packed) >= BLOCK_TOKENS:
            raise SystemExit(f"{blocks}: its ids are not the tokenizer's")
        num_documents, num_tokens = num_documents + len(expected), num_tokens + len(packed)
    for number in range(1, 6):
        for row in load_from_disk(theirs / f"documents-{number}"):
            if row["text"] in expected_of:
                if row["input_ids"] != expected_of[row["text"]]:
                    raise SystemExit(f"the script's ids differ: {row['text'][:60]!r}")
                num_script += 1
    return {"documents": num_documents, "tokens": num_tokens, "script_documents": num_script}


def train(source: Path, codes: tuple[str, ...] | str, out: Path) -> Path:
    """Return the folder of a tokenizer trained on the same text."""
    from halfling.corpus.build import CorpusSettings, build_corpus
    from halfling.tokens.tokenizer import TokenizerSettings, build_tokenizer

    for name in ("text", "tokenizer"):
        (out / name).mkdir(parents=True)
    build_corpus(settings=CorpusSettings(languages=codes, total_bytes=8_000_000), source=source, out=out / "text")
    settings = TokenizerSettings(vocab_size=16_000, max_training_bytes=5_000_000)
    build_tokenizer(settings=settings, corpus=out / "text", out=out / "tokenizer")
    return out / "tokenizer"


def _verdict(name: str, ratios: list[float] | None) -> str:
    if ratios is None:
        return ""
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    met = "pass" if median >= WANTED[name] else "FAIL"
    return f"  ours is {median:.2f} x as fast, quartiles {low:.2f} and {high:.2f}: {met} (>= {WANTED[name]})"


def main() -> None:
    """Measure, compare, print, and write JSON where asked."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK)} alone, under four minutes")
    options.add_argument("--json", type=Path, help="write every figure here")
    options.add_argument("--data", type=Path, default=Path("../shared/data/cc100-mini"), help="CC100's files")
    options.add_argument("--tokenizer", type=Path, help="a tokenizer of XLM-R's layout")
    options.add_argument("--rounds", type=int, default=3, help="at most")
    chosen = options.parse_args()
    began = time.monotonic()
    files = {path.name.removesuffix(".txt.xz"): path for path in sorted(chosen.data.glob("*.txt.xz"))}
    files = {code: path for code, path in files.items() if not chosen.quick or code in QUICK}
    codes = tuple(files)
    documents = [text for path in files.values() for text in read(path)]
    size = sum(len(text.encode()) for text in documents)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        tokenizer = chosen.tokenizer or train(chosen.data, codes, scratch / "trained")
        candidates: dict[str, Callable[[], None]] = {
            "bare": partial(bare, documents, tokenizer),
            "ours": partial(ours, chosen.data, codes, tokenizer, scratch / "ours"),
            "script": partial(script, files, tokenizer, scratch / "script"),
        }
        seconds: dict[str, list[float]] = {name: [] for name in candidates}
        for number in range(chosen.rounds):
            if (
                chosen.quick
                and number
                and time.monotonic() - began + sum(each[-1] for each in seconds.values()) > _SECONDS
            ):
                break
            for name, work in candidates.items():
                shutil.rmtree(scratch / name, ignore_errors=True)
                start = time.perf_counter()
                work()
                seconds[name].append(time.perf_counter() - start)
        same = compare(tokenizer, scratch / "ours", scratch / "script")
    rounds = len(seconds["ours"])
    ratios = {
        other: [theirs / mine for theirs, mine in zip(seconds[other], seconds["ours"], strict=True)]
        for other in ("bare", "script")
    }
    print(f"{size / 1e6:.1f} MB of text, {len(files)} languages, {os.cpu_count()} cores, {rounds} rounds")
    for name, each in seconds.items():
        print(f"{name:8} {size / 1e6 / statistics.median(each):7.2f} MB/s{_verdict(name, ratios.get(name))}")
    print(
        f"ids equal: {same['documents']} documents, {same['tokens']} tokens; {same['script_documents']} of the script's"
    )
    if chosen.json:
        found = {
            "bytes": size,
            "languages": len(files),
            "cores": os.cpu_count(),
            "seconds": seconds,
            "ours_over": ratios,
            "wanted": WANTED,
            "compared": same,
        }
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
