"""CoNLL files: a word and its columns a line, a blank line between sentences. No library reads them as they come."""

from pathlib import Path

from halfling.errors import HalflingError

_DOCUMENT = "-DOCSTART-"


def read_conll(plain: Path, path: Path, words: str | None, label: str | None) -> dict[str, list[list[str]]]:
    r"""Return the `words` and `tags` of every sentence, as they stand there.

    Columns are parted by tabs where the first line of words has one, else by white space. Only "\n" ends a line: words
    hold other characters that Unicode counts as line ends. Comments (`# ` before a sentence's first word) and
    `-DOCSTART-` lines are passed over.

    Args:
        plain: The file without compression.
        path: As the user named it, for messages.
        words: The number of the words' column, from 1; the first when absent.
        label: The number of the tags' column, from 1; the last when absent.

    Raises:
        HalflingError: A line is malformed, or there is no sentence.
    """
    word_at, tag_at = _number(words) or 1, _number(label) or 0
    found: dict[str, list[list[str]]] = {"words": [], "tags": []}
    sentence: list[tuple[str, str]] = []
    width, separator = 0, None
    with plain.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate([*file, "\n"], start=1):
            # Byte order marks also stand within a file that was joined of several.
            line = line.rstrip("\r\n").lstrip("\ufeff")
            if not line.strip(" \t"):
                if sentence:
                    found["words"].append([word for word, _ in sentence])
                    found["tags"].append([tag for _, tag in sentence])
                    sentence = []
                continue
            if line.startswith(_DOCUMENT) or (not sentence and line.startswith("# ") and not line.endswith(" O")):
                continue
            if not width:
                separator = "\t" if "\t" in line else None
                width = len(_columns(line, separator))
            columns = _columns(line, separator)
            if len(columns) != width or width < 2 or max(word_at, tag_at) > width:
                expected = f"{max(2, width, word_at, tag_at)} columns between {'tabs' if separator else 'spaces'}"
                raise HalflingError(f"{path}, line {number}: malformed: expected {expected}, found {line[:60]!r}")
            word, tag = columns[word_at - 1], columns[tag_at - 1]
            if not word or not tag:
                raise HalflingError(f"{path}, line {number}: malformed: an empty column in {line[:60]!r}")
            sentence.append((word, tag))
    if not found["words"]:
        raise HalflingError(f"{path}: empty: expected labelled sentences")
    return found


def _columns(line: str, separator: str | None) -> list[str]:
    # White space is ASCII's: a word may be any other space.
    return line.split(separator) if separator else [part for part in line.replace("\t", " ").split(" ") if part]


def _number(given: str | None) -> int | None:
    """Return a column's number; None where none is said, or where the task's other files name a column."""
    return int(given) if given is not None and given.isdigit() and int(given) > 0 else None
