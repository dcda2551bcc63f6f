"""Where labelled data comes from: a folder of files in one form, or a Hugging Face data set."""

import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from halfling.errors import HalflingError
from halfling.files import files_in
from halfling.languages import task_name

Split = Literal["train", "dev", "test"]

HUB = "hub"
"""The source that stands for the data sets' own places on the Hugging Face hub."""

_FILE_FOLDERS = ("xnli", "panx")
_HUB_SPLITS = {"train": "train", "dev": "validation", "test": "test"}


def labelled_file(source: str | Path, folder: str, split: Split, language: str) -> Path | None:
    """Return the file that holds a split, or None when `source` is read by `hub_split` instead.

    Args:
        source: A data folder with `xnli/` or `panx/`, a folder in the hub's form, or "hub".
        folder: "xnli" or "panx".
        split: Which part of the data.
        language: Two-letter code.

    Raises:
        HalflingError: `source` is no folder, or the split is train in another language than English:
            everything here is trained in English and carried over to the others.
    """
    if split == "train" and language != "en":
        raise HalflingError(f"{folder} train in {language!r}: fine-tuning is in English only, use language en")
    if str(source) == HUB:
        return None
    root = Path(source)
    if not root.is_dir():
        raise HalflingError(f'{root}: no such data folder: give a folder with xnli/ and panx/, or "{HUB}"')
    if any((root / name).is_dir() for name in _FILE_FOLDERS):
        return root / folder / f"{split}-{language}.tsv.xz"
    return None


def labelled_files(settings: Any, source: Path) -> list[Path]:
    """Return what a stage reads of a data folder: its task's files in English and in the languages it names."""
    if not any((source / name).is_dir() for name in _FILE_FOLDERS):
        return files_in(source)
    folder = source / ("panx" if settings.task == "wikiann" else settings.task)
    names = {task_name(settings.task, code) for code in ("en", *getattr(settings, "languages", ()))}
    found = [folder / f"{split}-{name}.tsv.xz" for split in ("train", "dev") for name in names]
    return [path for path in found if path.is_file()]


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    r"""Yield (line number from 1, line without its end) of an xz-compressed UTF-8 file.

    Only "\n" ends a line: tokens hold other characters that Unicode counts as line ends.

    Raises:
        HalflingError: The file is missing, empty, truncated, not xz or not UTF-8.
    """
    if not path.is_file():
        raise HalflingError(f"{path}: no such file: does the data folder hold this language and split?")
    number = 0
    try:
        if path.stat().st_size:
            with lzma.open(path, "rt", encoding="utf-8", newline="\n") as file:
                for number, line in enumerate(file, start=1):
                    yield number, line.removesuffix("\n")
    except EOFError as error:
        raise HalflingError(f"{path}: truncated after line {number}: fetch the file again") from error
    except lzma.LZMAError as error:
        raise HalflingError(f"{path}: broken after line {number}, or not an xz file ({error})") from error
    except UnicodeDecodeError as error:
        raise HalflingError(f"{path}: not UTF-8 after line {number} ({error.reason})") from error
    if number == 0:
        raise HalflingError(f"{path}: empty: expected labelled examples")


def label_id(label: str, labels: Sequence[str], where: str) -> int:
    """Return the number of a label.

    Raises:
        HalflingError: The label is outside the scheme `labels`.
    """
    if label not in labels:
        raise HalflingError(f"{where}: label {label!r} is outside the scheme: allowed are {', '.join(labels)}")
    return labels.index(label)


def hub_split(source: str | Path, hub_id: str, split: Split, language: str) -> Any:
    """Return a split as a `datasets.Dataset`, from the hub or from a local folder of the same form.

    Args:
        source: "hub" for `hub_id`, otherwise the local folder.
        hub_id: Owner and name on the hub.
        split: Our name of the split; the hub calls dev "validation".
        language: The hub's name of the configuration.

    Raises:
        HalflingError: It cannot be had: offline, no such language, no such split.
    """
    # Here, since a process that only answers need not hold a data set library in memory.
    import datasets

    name = hub_id if str(source) == HUB else str(source)
    try:
        return datasets.load_dataset(name, language, split=_HUB_SPLITS[split])
    # The libraries below raise a score of unrelated kinds: connection, HTTP, configuration, Parquet.
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise HalflingError(
            f"{name}, {language} {split}: cannot be loaded ({reason}): give a folder with xnli/ and panx/, "
            "or a data set of the hub's form"
        ) from error


def hub_label_ids(data: Any, column: str, labels: Sequence[str], where: str) -> list[int]:
    """Return our number of each of the data set's own label numbers.

    Raises:
        HalflingError: The column is missing, is not made of class labels, or names one outside the scheme.
    """
    feature = data.features.get(column)
    feature = getattr(feature, "feature", feature)
    names = getattr(feature, "names", None)
    if names is None:
        raise HalflingError(f"{where}: column {column!r} holds no class labels: expected {', '.join(labels)}")
    return [label_id(name, labels, where) for name in names]
