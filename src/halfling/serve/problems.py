"""Everything that goes wrong, in the form of the contract that was asked: none of it is a page or a trace."""

from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from halfling.errors import HalflingError
from halfling.serve.refusal import ErrorType, Refusal, type_of


async def refused(request: Request, refusal: Refusal) -> JSONResponse:
    """Answer what the service does not want to do."""
    headers = {} if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
    return _problem(request, refusal.status, str(refusal), refusal.error_type, headers)


async def misunderstood(request: Request, error: RequestValidationError) -> JSONResponse:
    """Answer a body that is no request: where it is none, and why, without what was sent."""
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        return _problem(request, 422, "body: not JSON", "Validation")
    where = _field(found[0])
    # A value that may be one of several has an error for each.
    same = [one["msg"] for one in found if _field(one) == where]
    return _problem(request, 422, f"{where[:100]}: {', or '.join(dict.fromkeys(same))[:500]}", "Validation")


def _field(error: dict[str, Any]) -> str:
    """Return which field an error is of; the rest of its place says which of several types was tried."""
    place = error["loc"][1:]
    return ".".join(map(str, place[: 2 if place[:1] == ("parameters",) else 1])) or "body"


async def failed(request: Request, error: HTTPException) -> JSONResponse:
    """Answer what the framework refuses: an unknown address, another method, a body that is too large."""
    if error.status_code == 400:  # the framework's word for bytes, depths and numbers that Python's JSON does not read
        return _problem(request, 422, "body: not JSON", "Validation")
    return _problem(
        request, error.status_code, str(error.detail), type_of(error.status_code), {**(error.headers or {})}
    )


async def useless(request: Request, error: HalflingError) -> JSONResponse:
    """Answer what a model says that is no answer."""
    return _problem(request, 424, str(error), "Backend")


async def broken(request: Request, error: Exception) -> JSONResponse:
    """Answer a mistake of ours."""
    return _problem(request, 500, f"internal error ({type(error).__name__})", "Backend")


def _problem(
    request: Request, status: int, reason: str, kind: ErrorType, headers: dict[str, str] | None = None
) -> JSONResponse:
    if request.url.path.endswith("/classify"):  # Infinity's, which is OpenAI's
        said = {"error": {"message": reason, "type": kind, "param": None, "code": status}}
        return JSONResponse(said, status, headers)
    return JSONResponse({"error": reason, "error_type": kind}, status, headers)
