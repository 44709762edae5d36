"""Errors as problem details (RFC 9457), each with the id of its request, which the log has too."""

import logging
import re
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.errors import (
    BadImage,
    BadQuery,
    BadSource,
    BrokenGeneration,
    CannotRollBack,
    Conflict,
    NotAllowed,
    NotSignedIn,
    ServerAway,
    SleeveError,
    TooManyTries,
    Unknown,
)

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "x-request-id"
# What a proxy in front of us may have given the request already.
GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
STATUS: dict[type[SleeveError], int] = {
    BadImage: 422,
    BadQuery: 422,
    BadSource: 422,
    BrokenGeneration: 409,
    CannotRollBack: 409,
    Conflict: 409,
    NotAllowed: 403,
    NotSignedIn: 401,
    ServerAway: 503,
    TooManyTries: 429,
    Unknown: 404,
}


class Problem(BaseModel):
    """What went wrong, in a sentence that says what to do."""

    type: str = Field("about:blank", description="The status says what kind of problem it is")
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no image 9f2c6b54-8f0e-5d57-9d5c-3f6f1c0f7f11 in the collection."])
    request_id: str = Field(description="Also in the header X-Request-ID and in the server's log")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route that can answer with these problems."""
    content = {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


def problem(scope: Scope, status: int, detail: str, headers: dict[str, str] | None = None, **more: Any) -> JSONResponse:
    """The answer that says so; `more` are members beside the standard ones."""
    content = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, request_id=scope["request_id"])
    body = {**content.model_dump(), **jsonable_encoder(more)}
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer all errors of `app` as problems, and give each request an id."""
    for error in STATUS:
        app.add_exception_handler(error, _sleeve_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(RequestIds)


def _sleeve_error(request: Request, error: Exception) -> JSONResponse:
    status = next(status for kind, status in STATUS.items() if isinstance(error, kind))
    more: dict[str, Any] = {}
    headers: dict[str, str] = {}
    if isinstance(error, Conflict):
        more = {"current": error.current}
    elif isinstance(error, TooManyTries):
        headers = {"Retry-After": str(error.seconds)}
    elif isinstance(error, NotSignedIn):
        headers = {"WWW-Authenticate": "Bearer"}
    return problem(request.scope, status, str(error), headers, **more)


def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:
        # Of FastAPI, for what cannot be decoded. To who sent it, that is as any other thing that cannot be used.
        return problem(request.scope, 422, f"The body cannot be read ({error.detail}); send JSON in UTF-8, or a form.")
    headers = dict(error.headers or {})
    return problem(request.scope, error.status_code, str(error.detail), headers)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # Without `input`, which may be a password, and `ctx`, which may be no JSON.
    errors = [{"where": list(one["loc"]), "what": one["msg"]} for one in error.errors()]
    said = "; ".join(f"{'.'.join(map(str, one['where']))}: {one['what']}" for one in errors)
    return problem(request.scope, 422, said, errors=errors)


class RequestIds:
    """Gives each request an id, in its scope and in its answer; answers what nobody expected with a problem."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(REQUEST_ID.encode(), b"")
        scope["request_id"] = given.decode() if GIVEN_ID.fullmatch(given) else uuid4().hex
        begun = False

        async def with_id(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                MutableHeaders(scope=message)[REQUEST_ID] = scope["request_id"]
            await send(message)

        try:
            await self._app(scope, receive, with_id)
        except Exception:
            # A fault of ours: the log has it, with the id that the user can tell us.
            log.exception("request %s: %s %s", scope["request_id"], scope["method"], scope["path"])
            if begun:
                raise
            detail = "Something went wrong here. The server's log says what, under this request's id."
            await problem(scope, 500, detail)(scope, receive, with_id)
