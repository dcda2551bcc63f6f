"""What the service says instead of an answer: Text Embeddings Inference's kinds of error and their status codes."""

from typing import Literal

ErrorType = Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]

STATUS: dict[ErrorType, int] = {
    "Empty": 400,
    "Validation": 422,
    "Tokenizer": 422,
    "Backend": 424,
    "Overloaded": 429,
    "Unhealthy": 503,
}
"""The status code of each kind, where nothing else is said."""


class Refusal(Exception):  # noqa: N818  # an answer of its own, not a fault
    """A request that is not answered, with the reason.

    Attributes:
        error_type: Its kind.
        status: Its status code.
        retry_after: After how many seconds it is worth while to ask again; None where that is no use.
    """

    def __init__(
        self, error_type: ErrorType, reason: str, *, status: int | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(reason)
        self.error_type: ErrorType = error_type
        self.status = status or STATUS[error_type]
        self.retry_after = retry_after


def type_of(status: int) -> ErrorType:
    """Return the kind of error that a bare status code is."""
    known: dict[int, ErrorType] = {424: "Backend", 429: "Overloaded", 500: "Backend", 503: "Unhealthy"}
    return known.get(status, "Validation")
