"""The application: Text Embeddings Inference's contract, Infinity's `/classify`, and `/predict_tokens` for taggers."""

import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from halfling import __version__
from halfling.engine.guess import AUTO
from halfling.errors import HalflingError
from halfling.languages import CODE
from halfling.serve import page, problems
from halfling.serve.answers import entities_of, labels_of
from halfling.serve.door import Door
from halfling.serve.info import info_of
from halfling.serve.meter import Meter
from halfling.serve.model import Answered, Served
from halfling.serve.refusal import Refusal
from halfling.serve.schemas import (
    Classified,
    ClassifyRequest,
    Constrained,
    ErrorResponse,
    OpenAIError,
    PredictRequest,
    PredictResponse,
    TextParameters,
    TokenParameters,
    TokensRequest,
    TokensResponse,
)
from halfling.serve.settings import ServeSettings

UNNAMED = ("default/not-specified", None)
"""What Infinity's clients send where they name no model."""

_REFUSALS: dict[int | str, dict[str, Any]] = {code: {"model": ErrorResponse} for code in (400, 413, 422, 424, 429)}
_OPENAI_REFUSALS: dict[int | str, dict[str, Any]] = {code: {"model": OpenAIError} for code in (400, 413, 422, 424, 429)}


def create_app(models: Mapping[str, Served], settings: ServeSettings, meter: Meter) -> FastAPI:
    """Return the application that answers with some models; it computes while its lifespan lasts."""

    @asynccontextmanager
    async def computing(_: FastAPI) -> AsyncIterator[None]:
        for one in models.values():
            one.batcher.start()
        yield
        for one in models.values():
            one.batcher.stop()

    # Its own pages of documentation load scripts from elsewhere.
    # A redirection would lead to whatever host the request names.
    options: Any = {"docs_url": None, "redoc_url": None, "redirect_slashes": False}
    app = FastAPI(title="halfling", version=__version__, lifespan=computing, **options)
    app.add_middleware(Door, settings=settings, meter=meter)
    for kind, handler in {
        Refusal: problems.refused,
        RequestValidationError: problems.misunderstood,
        HTTPException: problems.failed,
        HalflingError: problems.useless,
        Exception: problems.broken,
    }.items():
        app.add_exception_handler(kind, handler)  # type: ignore[arg-type]
    app.include_router(_router(models, settings, "/"))
    for name, one in models.items():
        app.include_router(_router({name: one}, settings, ""), prefix=f"/models/{name}", include_in_schema=False)

    @app.get("/", include_in_schema=False)
    async def try_it() -> Response:
        return page.response()

    @app.get("/health", responses={503: {"model": ErrorResponse}})
    async def health() -> dict[str, float]:
        """Say whether every model has somebody who computes; the time is Infinity's answer."""
        if not all(one.batcher.is_alive for one in models.values()):
            raise Refusal("Unhealthy", "unhealthy")
        return {"unix": time.time()}

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Return what Prometheus reads."""
        return Response(meter.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/models")
    async def listed() -> dict[str, Any]:
        """List the models, as Infinity does."""
        return {
            "object": "list",
            "data": [{"id": name, "object": "model", **info_of(one)} for name, one in models.items()],
        }

    return app


def _router(models: Mapping[str, Served], settings: ServeSettings, root: str) -> APIRouter:
    """Return what can be asked of some models; without a name the first that can answer does."""
    router = APIRouter()
    first = next(iter(models.values()))

    def chosen(request: Request, named: str | None, tagger: bool) -> Served:
        if named not in UNNAMED and named not in models:
            raise Refusal("Validation", f"no model of this name: there are {', '.join(models)}", status=400)
        asked = models.values() if named in UNNAMED else [models[str(named)]]
        found = next((one for one in asked if one.is_tagger == tagger), None)
        if found is None:
            kinds = "no tagger here: ask /predict" if tagger else "no classifier here: ask /predict_tokens"
            raise Refusal("Backend", kinds)
        request.state.told = {"model": found.name}
        return found

    @router.get("/info")
    async def info() -> dict[str, Any]:
        """Say what is served: of several models the first."""
        return info_of(first)

    @router.post("/predict", response_model=PredictResponse, responses=_REFUSALS)
    async def predict(request: Request, body: PredictRequest) -> Response:
        """Return each text's labels, the likeliest first."""
        served = chosen(request, body.model, False)
        is_batch = isinstance(body.inputs, list) and isinstance(body.inputs[0], list)
        given: Any = body.inputs if is_batch else [body.inputs]
        texts = [one if isinstance(one, str) else one[0] if len(one) == 1 else tuple(one) for one in given]
        _require_few(texts, settings)
        truncate = settings.auto_truncate if body.truncate is None else body.truncate
        answered = await served.ask(texts, truncate=truncate, **_constraint(body, body.parameters))
        _require_text(answered)
        found = labels_of(served, answered, raw=body.raw_scores, exits=body.return_exits, asked=body.parameters)
        return _told(request, found if is_batch or body.parameters is not None else found[0], served, answered)

    @router.post("/predict_tokens", response_model=TokensResponse, responses=_REFUSALS)
    async def predict_tokens(request: Request, body: TokensRequest) -> Response:
        """Return each text's entities."""
        served = chosen(request, body.model, True)
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        _require_few(texts, settings)
        answered = await served.ask(texts, truncate=False, **_constraint(body, body.parameters))
        found = entities_of(served, answered, exits=body.return_exits, asked=body.parameters)
        return _told(request, found[0] if isinstance(body.inputs, str) else found, served, answered)

    @router.post("/classify", response_model=Classified, responses=_OPENAI_REFUSALS)
    async def classify(request: Request, body: ClassifyRequest) -> Response:
        """Return each text's labels in Infinity's form."""
        served = chosen(request, body.model, False)
        answered = await served.ask(body.input, truncate=True, **_constraint(body))
        _require_text(answered)
        labels = labels_of(served, answered, raw=body.raw_scores, exits=body.return_exits)
        tokens = answered.num_tokens
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        found = {"object": "classify", "data": labels, "model": served.name, "usage": usage}
        return _told(request, {**found, "id": f"halfling-{uuid4()}", "created": int(time.time())}, served, answered)

    # What a client that knows nothing but an address asks.
    router.post(root, include_in_schema=False, response_model=None)(predict_tokens if first.is_tagger else predict)
    return router


def _require_few(texts: list[Any], settings: ServeSettings) -> None:
    if len(texts) > (most := settings.max_client_batch_size):
        raise Refusal("Validation", f"batch size {len(texts)} > maximum allowed batch size {most}", status=413)


def _require_text(answered: Answered) -> None:
    if not all(one.sequences for one in answered.questions):
        raise Refusal("Empty", "inputs cannot be empty")


def _constraint(body: Constrained, parameters: TextParameters | TokenParameters | None = None) -> dict[str, Any]:
    """Return what a request says of where to exit; its language may stand at either of two places."""
    elsewhere = parameters.language if parameters is not None else None
    if None not in (body.language, elsewhere) and body.language != elsewhere:
        raise Refusal("Validation", "language and parameters.language differ: say one of them", status=422)
    language = body.language if body.language is not None else elsewhere
    if language not in (None, AUTO) and not re.fullmatch(CODE, language):
        raise Refusal("Validation", f"language: {language!r} is no code of a language, as sw or zh-Hant", status=422)
    return {"language": language, "flops_share": body.flops_share, "max_latency_ms": body.max_latency_ms}


def _told(request: Request, found: Any, served: Served, answered: Answered) -> Response:
    """Return an answer with Text Embeddings Inference's headers: what was read, and milliseconds.

    Once it is sent a share of the texts is compared with full depth.
    """
    job = answered.job
    total = time.perf_counter() - job.began + answered.prepare_seconds
    request.state.told |= {"texts": len(answered.questions), "tokens": answered.num_tokens}
    headers = {
        "x-compute-type": "cpu",
        "x-compute-tokens": str(answered.num_tokens),
        "x-tokenization-time": f"{1000 * answered.prepare_seconds:.0f}",
        "x-queue-time": f"{1000 * job.queue_seconds:.0f}",
        "x-inference-time": f"{1000 * job.compute_seconds:.0f}",
        "x-total-time": f"{1000 * total:.0f}",
        "x-compute-time": f"{1000 * total:.0f}",
    }
    body = json.dumps(found, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    later = BackgroundTask(served.watch, answered) if served.settings.watch_share else None
    return Response(body, media_type="application/json", headers=headers, background=later)
