"""The one error that users see: a line that says what, where and what to do, and no password."""

import re
import unicodedata

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/+\S+")
_USER = re.compile(
    # All before the last @ of the host's part; with a "/" in the password what follows the colon is no port.
    r"(?<=:/)(?P<slashes>/*)(?:[^\s/?#]*@|[^\s/?#@\[\]]*:(?!\d+(?:[/?#\s]|$))[^\s@]*@)"
)
_QUERY = re.compile(r"([?#])[^\s'\"<>)\]]+?(?=[:.,;]?(?:[\s'\"<>)\]]|$))")


def without_secrets(text: str) -> str:
    """Return a text whose addresses hold neither a user with a password nor a query: it may be a token."""
    return _ADDRESS.sub(lambda found: _QUERY.sub(r"\1***", _USER.sub(r"\g<slashes>", found[0])), text)


class HalflingError(Exception):
    """Something the user can mend. The command line prints it as one line and exits with status 1.

    Whatever it was made of, its message is `without_secrets`: a library's reason may hold an address too.
    """

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(message))


def one_line(text: str) -> str:
    """Return a text as a terminal can show it in one line: control characters and broken ones are written out."""
    plain = " ".join(text.split())
    # Control characters and halves of surrogate pairs; joiners, which letters of some scripts need, stay.
    return "".join(
        each.encode("unicode_escape").decode() if unicodedata.category(each) in ("Cc", "Cs") else each for each in plain
    )
