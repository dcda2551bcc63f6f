"""What a host's answer to the question for a part of a file may be, and what of it is taken."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx2

from halfling.errors import HalflingError

_BUSY = {408, 425, 429, 500, 502, 503, 504}
_LONGEST_WAIT = 600.0
_MAX_REDIRECTS = 10
_AS_IT_LIES = ("", "identity", "xz", "x-xz")
_NUMBER = r"\d{1,18}"
_RANGE = re.compile(rf"bytes (?:({_NUMBER})-({_NUMBER})|\*)/({_NUMBER}|\*)", re.ASCII)


class AgainError(Exception):
    """This try failed and another may not; `after` is how many seconds the host wants to be left alone."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class Part(NamedTuple):
    """What an answer brings.

    Attributes:
        stop: Where the bytes end that are taken; what a host sends beyond is not.
        total: How large it says the file is, None if it does not say.
        promised: Whether the host said where its answer ends.
    """

    stop: int
    total: int | None
    promised: bool


@contextmanager
def answered(client: httpx2.Client, request: httpx2.Request) -> Iterator[httpx2.Response]:
    """Yield the answer to a request, redirections followed; their bodies are not read, which may be endless.

    Raises:
        HalflingError: The address is none, or the host sends on for ever, from HTTPS to HTTP, or to no host.
        AgainError: The answer makes no sense.
        httpx2.TransportError: There is no answer.
    """
    url, allowed = request.url, ("https",) if request.url.scheme == "https" else ("http", "https")
    try:
        for _ in range(_MAX_REDIRECTS):
            answer = client.send(request, stream=True)
            try:
                if answer.next_request is None:
                    yield answer
                    return
                request = answer.next_request
            finally:
                answer.close()
            if request.url.scheme not in allowed:
                raise HalflingError(
                    f"{url}: the host sends on to {request.url.scheme}://{request.url.host}: "
                    f"only {' and '.join(allowed)} is followed: mend the address"
                )
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        raise HalflingError(f"{url}: {error}: mend the address") from error
    except ValueError as error:  # a length of 5,000 digits
        raise AgainError(f"the host's answer makes no sense ({str(error)[:60]})") from error
    raise HalflingError(f"{url}: the host sends on more than {_MAX_REDIRECTS} times: mend the address")


def part_of(answer: httpx2.Response, begin: int, end: int) -> Part:
    """Return what is taken of an answer to the question for the bytes from `begin` to `end`.

    Raises:
        HalflingError: There is no such file, or it comes in another form.
        AgainError: The host is busy, or answers something else.
    """
    said = f"{answer.status_code} {answer.reason_phrase[:60]}".strip()
    if answer.status_code in _BUSY:
        asked = answer.headers.get("Retry-After", "")
        raise AgainError(
            f"the host answers {said}", min(_LONGEST_WAIT, float(asked)) if re.fullmatch(_NUMBER, asked) else 0.0
        )
    if answer.status_code not in (200, 206, 416):
        raise HalflingError(f"{answer.url}: the host answers {said}: mend the address, or leave the language out")
    encoding = answer.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _AS_IT_LIES and answer.status_code != 416:
        raise HalflingError(
            f"{answer.url}: the host sends the file in Content-Encoding {encoding[:20]!r}: it must send it as it lies"
        )
    if answer.status_code == 200:
        if begin:
            raise AgainError("the host answers with the whole file where a part was asked for")
        length = answer.headers.get("Content-Length", "")
        return Part(int(length), int(length), True) if re.fullmatch(_NUMBER, length) else Part(end, None, False)
    match = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
    total = int(match[3]) if match and match[3] != "*" else None
    if answer.status_code == 416:
        return Part(begin, total, True)
    if not (match and match[1] and int(match[1]) == begin <= int(match[2])):
        raise AgainError("the host answers with another part than was asked for")
    return Part(min(end, int(match[2]) + 1), total, True)
