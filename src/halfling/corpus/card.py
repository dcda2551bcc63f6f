"""A folder of the corpus as a Hugging Face data set: the card that `load_dataset` reads."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from halfling.files import write_text
from halfling.languages import CC100
from halfling.records import Settings

CARD = "README.md"

_LICENCE = """The text comes from [CC100](https://data.statmt.org/cc-100/), which was made from Common Crawl. Its makers
claim no right in it; it stands under [Common Crawl's terms of use](https://commoncrawl.org/terms-of-use). Whoever uses
it answers for the rights of those who wrote it."""


def write_card(
    folder: Path, template: Path, codes: Iterable[str], files: str, num_chunks: int, settings: Settings, **facts: Any
) -> None:
    """Write the card of a corpus, packed or not: one configuration for each chunk, a table of languages.

    `files` is the pattern of a chunk's files; `facts` is what else the template, in Jinja, asks for.
    """
    from huggingface_hub import DatasetCard, DatasetCardData

    data = DatasetCardData(
        license="other",
        license_name="common-crawl-terms-of-use",
        license_link="https://commoncrawl.org/terms-of-use",
        task_categories=["fill-mask"],
        tags=["cc100", "halfling"],
        language_bcp47=sorted(codes),
        configs=[
            {"config_name": f"chunk-{number}", "data_files": f"chunk-{number}/{files}"}
            for number in range(1, num_chunks + 1)
        ],
    )
    card = DatasetCard.from_template(
        data,
        template_path=str(template),
        num_chunks=num_chunks,
        names={code: language.name for code, language in CC100.items()},
        settings=yaml.safe_dump(settings.model_dump(mode="json"), allow_unicode=True, sort_keys=False).strip(),
        licence=_LICENCE,
        **facts,
    )
    write_text(folder / CARD, f"{card}\n")
