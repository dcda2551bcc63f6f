"""A folder of the corpus as a Hugging Face data set: the card that `load_dataset` reads."""

from pathlib import Path
from typing import Any

import yaml

from halfling.errors import HalflingError
from halfling.files import MANIFEST, write_text
from halfling.languages import CC100
from halfling.records import Manifest

CARD = "README.md"

_LICENCE = """The text comes from [CC100](https://data.statmt.org/cc-100/), which was made from Common Crawl. Its makers
claim no right in it; it stands under [Common Crawl's terms of use](https://commoncrawl.org/terms-of-use). Whoever uses
it answers for the rights of those who wrote it."""


def write_text_card(corpus: Path, counts: dict[str, Any], settings: dict[str, Any], num_chunks: int) -> None:
    """Write the card of a corpus: one configuration for each chunk, a table of languages, and what was dropped.

    Args:
        corpus: Folder that holds `chunk-{n}/{code}.parquet`.
        counts: What `build_corpus` returns.
        settings: Of the corpus, as its manifest holds them.
        num_chunks: How many chunks there are.
    """
    languages = counts["languages"]
    rows = [
        [code, CC100[code].name, sum(each["documents"]), sum(each["bytes"]), sum(each["dropped"].values())]
        for code, each in sorted(languages.items())
    ]
    reasons: dict[str, int] = {}
    for each in languages.values():
        for reason, number in each["dropped"].items():
            reasons[reason] = reasons.get(reason, 0) + number
    parts = [
        "# Text in " + f"{len(languages)} languages, in {num_chunks} chunks",
        "Every chunk holds an equal share of every language; a document is in exactly one chunk. Columns: `id`, `lang` "
        "(CC100's code), `text` (paragraphs divided by newlines), `chunk`.",
        _example(num_chunks),
        "## Languages",
        _table(["code", "language", "documents", "bytes", "dropped"], rows),
        "## Dropped documents",
        _table(["reason", "documents"], [list(row) for row in sorted(reasons.items())]) if reasons else "None.",
        *_settings(settings),
    ]
    _write(corpus, parts, "parquet", num_chunks, sorted(languages))


def write_packed_card(packed: Path, counts: dict[str, Any], settings: dict[str, Any]) -> None:
    """Write the card of a packed corpus: one configuration for each chunk, a table of languages.

    Args:
        packed: Folder that holds `chunk-{n}/{code}.arrow`.
        counts: What `pack_corpus` returns.
        settings: Of the pack stage, as its manifest holds them.
    """
    blocks = counts["blocks"]
    codes = sorted(counts["tokens"])
    rows = [
        [
            code,
            CC100[code].name,
            counts["tokens"][code],
            sum(chunk.get(code, 0) for chunk in blocks.values()),
            counts["unknown"][code],
            counts["left_over"][code],
        ]
        for code in codes
    ]
    parts = [
        f"# Blocks of {counts['block_tokens']} tokens in {len(codes)} languages, in {len(blocks)} chunks",
        "Columns: `lang` (CC100's code), `input_ids` (one or more sequences `<s> ... </s>`, no padding unless a "
        "language fills no block), `starts` (where each sequence begins: positions and attention can restart there). "
        f"The vocabulary has {counts['vocab_size']} pieces.",
        _example(len(blocks)),
        "## Languages",
        "`left over` are the tokens at the end of a chunk that fill no block.",
        _table(["code", "language", "tokens", "blocks", "unknown", "left over"], rows),
        *_settings(settings),
    ]
    _write(packed, parts, "arrow", len(blocks), codes)


def push(folder: Path, repo: str, *, private: bool = False) -> str:
    """Upload a corpus, packed or not, to the hub as a data set, and return its address.

    Files that are there already are not sent again, so an upload that broke off goes on.

    Raises:
        HalflingError: The folder is no finished corpus, there is no token, or the hub refuses or is not reached.
    """
    import httpx2
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError

    if not (folder / CARD).is_file() or not (folder / MANIFEST).is_file():
        raise HalflingError(f"{folder}: not a finished corpus: build or pack it first")
    Manifest.read(folder / MANIFEST)
    api = HfApi()
    if not get_token():
        raise HalflingError("hub: no token: set HF_TOKEN, or log in with `hf auth login`")
    try:
        address = api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=folder,
            commit_message="Upload a corpus made by halfling",
            ignore_patterns=["*.halfling", "rejected/*"],
        )
    except (httpx2.HTTPError, HFValidationError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise HalflingError(f"hub: {repo}: {reason}: mend it and push again") from error
    return str(address)


def _example(num_chunks: int) -> str:
    return (
        "```python\nfrom datasets import load_dataset\n\n"
        f'chunk = load_dataset(FOLDER, "chunk-1", split="train", streaming=True)  # to "chunk-{num_chunks}"\n```'
    )


def _settings(settings: dict[str, Any]) -> list[str]:
    dumped = yaml.safe_dump(settings, allow_unicode=True, sort_keys=False).strip()
    return ["## Settings", f"```yaml\n{dumped}\n```", "## Licence", _LICENCE]


def _table(head: list[str], rows: list[list[Any]]) -> str:
    aligned = ["---" if isinstance(value, str) else "---:" for value in (rows[0] if rows else head)]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in [head, aligned, *rows])


def _write(folder: Path, parts: list[str], suffix: str, num_chunks: int, codes: list[str]) -> None:
    front = {
        "license": "other",
        "license_name": "common-crawl-terms-of-use",
        "license_link": "https://commoncrawl.org/terms-of-use",
        "task_categories": ["fill-mask"],
        "tags": ["cc100", "halfling"],
        "language_bcp47": codes,
        "configs": [
            {"config_name": f"chunk-{number}", "data_files": f"chunk-{number}/*.{suffix}"}
            for number in range(1, num_chunks + 1)
        ],
    }
    head = yaml.safe_dump(front, sort_keys=False)
    write_text(folder / CARD, f"---\n{head}---\n\n" + "\n\n".join(parts) + "\n")
