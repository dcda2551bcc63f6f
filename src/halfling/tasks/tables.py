"""Rows of labelled data, by column, from files and from data sets of the Hugging Face hub."""

import csv
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from halfling.errors import HalflingError
from halfling.files import PACKED
from halfling.tasks.conll import read_conll
from halfling.tasks.plain import plain_file, require_text
from halfling.tasks.task import Format, Task

_ENDINGS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "jsonl",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".conll": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
    ".txt": "conll",
}


class Rows(NamedTuple):
    """Labelled data as they lie there.

    Attributes:
        where: What they are, for messages.
        columns: Name -> values, a value a row. Numbers of classes are their names already.
        kind_of_row: "row", or of CoNLL "sentence", for messages.
        classes: Name -> the classes that the data set itself declares, in its order.
    """

    where: str
    columns: Mapping[str, Sequence[Any]]
    kind_of_row: str = "row"
    classes: Mapping[str, tuple[str, ...]] = {}


def read_rows(source: str, task: Task) -> Rows:
    """Return the rows of a source.

    Raises:
        HalflingError: It cannot be had, or is empty, damaged or malformed.
    """
    if source.startswith("hub:"):
        return _hub(source)
    path = Path(source)
    if not path.is_file():
        raise HalflingError(f"{path}: no such file: name one that is there with --train or --dev")
    name = path.name.removesuffix(path.suffix) if path.suffix in PACKED else path.name
    format_ = task.format or _ENDINGS.get(Path(name).suffix)
    if format_ in ("csv", "tsv") and task.kind == "tagging":
        format_ = "conll"
    if format_ is None:
        raise HalflingError(f"{path}: what format is this? Name it {', '.join(_ENDINGS)} (also .xz, .gz, .bz2)")
    if path.stat().st_size == 0:
        raise HalflingError(f"{path}: empty: expected labelled examples")
    with tempfile.TemporaryDirectory() as scratch:
        plain = plain_file(path, Path(scratch))
        if format_ != "parquet":
            require_text(plain, path, json=format_ == "jsonl", carriage_returns=format_ in ("csv", "jsonl"))
        try:
            if format_ == "conll":
                found = read_conll(plain, path, task.words, task.label)
                return Rows(str(path), found, "sentence")
            return _table(plain, str(path), format_, task, Path(scratch))
        except HalflingError:
            raise
        except UnicodeDecodeError as error:
            raise HalflingError(f"{path}: not UTF-8 (byte {error.start}: {error.reason})") from error
        except Exception as error:  # pandas, pyarrow and datasets raise a score of unrelated kinds
            if "corresponds to no data" in (reason := _reason(error)):
                raise HalflingError(f"{path}: empty: expected labelled examples") from error
            raise HalflingError(f"{path}: malformed: no {format_} ({reason})") from error


def _table(plain: Path, where: str, format_: Format, task: Task, scratch: Path) -> Rows:
    # Here, since a process that only answers need not hold a data set library in memory.
    from datasets import Dataset, Features, Value, disable_progress_bars

    disable_progress_bars()

    options: dict[str, Any] = {"cache_dir": str(scratch), "keep_in_memory": True}
    if format_ == "parquet":
        return _rows(where, Dataset.from_parquet(str(plain), **options))
    if format_ == "jsonl":
        return _rows(where, Dataset.from_json(str(plain), **options))
    with plain.open(encoding="utf-8-sig", newline="") as file:
        file.read(1)  # what is no text says so here, in Python's words
        file.seek(0)
        separator = "\t" if format_ == "tsv" else ","
        head = task.columns or tuple(name.lstrip("\ufeff") for name in next(csv.reader(file, delimiter=separator), ()))
    options |= {
        "sep": separator,
        "features": Features({name: Value("string") for name in head}),  # "01" is a label, not the number 1
        "names": list(head),
        "header": None if task.columns else 0,
        "index_col": False,
        "keep_default_na": False,  # "NA" and "null" are words
        "skip_blank_lines": False,
        "encoding": "utf-8-sig",
    }
    if format_ == "tsv":  # as its registered type has it: a tab parts, a line end ends, and nothing is quoted
        options |= {"quoting": csv.QUOTE_NONE, "lineterminator": "\n"}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Length of header")  # a column too many, which would be dropped
        columns = Dataset.from_csv(str(plain), **options)[:]
    # Of files that were joined: a mark within is no part of a text either.
    columns[head[0]] = [value.lstrip("\ufeff") for value in columns[head[0]]]
    if format_ == "tsv":  # of a file with CRLF
        columns[head[-1]] = [value.removesuffix("\r") for value in columns[head[-1]]]
    return Rows(where, columns)


def _hub(source: str) -> Rows:
    import datasets

    name, configuration, split, *more = [*source.removeprefix("hub:").split(":"), "", ""]
    if not name or [part for part in more if part]:
        raise HalflingError(f"{source}: expected hub:NAME:CONFIGURATION:SPLIT, for instance hub:facebook/xnli:sw:test")
    where = " ".join(part for part in (f"{name},", configuration, split) if part).removesuffix(",")
    try:
        data = datasets.load_dataset(name, configuration or None, split=split or "train")
    except Exception as error:  # connection, HTTP, configuration, Parquet: the libraries below raise unrelated kinds
        raise HalflingError(
            f"{where}: cannot be loaded ({_reason(error)}): give files, or a data set of the hub's form"
        ) from error
    return _rows(where, data)


def _rows(where: str, data: Any) -> Rows:
    """Return the rows of a data set, its numbers of classes by their names."""
    columns, classes = dict(data[:]), {}
    for column, feature in data.features.items():
        inner = getattr(feature, "feature", feature)
        if names := getattr(inner, "names", None):
            classes[column] = tuple(names)
            columns[column] = [_named(value, names) for value in columns[column]]
    return Rows(where, columns, classes=classes)


def _named(value: Any, names: Sequence[str]) -> Any:
    """Return the names of class numbers; a number that names no class, as -1 for a withheld label, is None."""
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None


def _reason(error: Exception) -> str:
    inner = error.__cause__ if error.__cause__ is not None and "while generating" in str(error) else error
    return str(inner).strip().partition("\n")[0] or type(inner).__name__
