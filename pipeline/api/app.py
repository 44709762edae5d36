"""The REST door: search by photo, upload, health. Stateless: any number of replicas may run.

Run it with ``uvicorn pipeline.api.app:app``.
"""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import uuid5

import cv2
from fastapi import FastAPI, File, Form, HTTPException, Request, UploadFile
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from pipeline.api.duplicates import list_duplicates
from pipeline.api.limits import BodyLimit
from pipeline.api.search import search
from pipeline.context import Context
from pipeline.errors import BadImage, BadQuery, SleeveError, UnknownImage
from pipeline.events import MAX_LABEL_LENGTH, NAMESPACE, ImageEvent, image_id
from pipeline.health import problems
from pipeline.images.decode import decode_gray
from pipeline.images.probe import EXTENSIONS, MIME_TYPES, probe
from pipeline.index.reader import Reader
from pipeline.indexing import generations
from pipeline.ingest import accept
from pipeline.settings import Settings
from pipeline.sources import Batch

Picture = Annotated[UploadFile, File(description="A JPEG, PNG or WebP picture")]


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context = app.state.context = Context(app.state.settings)
    # Requests run side by side in threads, so each computes on one core.
    cv2.setNumThreads(1)
    await run_in_threadpool(context.catalog.prepare)
    reader = app.state.reader = app.state.reader or Reader(generations(context))
    await run_in_threadpool(reader.start)
    yield
    await run_in_threadpool(reader.stop)
    context.catalog.close()


# What a user got wrong, and how that is said.
_STATUS: dict[type[SleeveError], int] = {BadImage: 422, BadQuery: 422, UnknownImage: 404}
_REFUSED: dict[int | str, dict[str, Any]] = {
    413: {"description": "The picture is too large"},
    422: {"description": "Not a picture that can be used, or not a question that can be asked; `detail` says why"},
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"description": "No such image in the collection, or it is not searchable yet"},
}


def create_app(settings: Settings, reader: Reader | None = None) -> FastAPI:
    """The application for these settings; without a `reader`, searches are answered from the current generation."""
    app = FastAPI(title="Sleeve", summary="Find the picture that a snapshot shows.", lifespan=_lifespan)
    app.state.settings = settings
    app.state.reader = reader
    # The form around a picture takes some bytes as well.
    app.add_middleware(BodyLimit, max_bytes=settings.max_image_bytes + (64 << 10))
    for error in _STATUS:
        app.add_exception_handler(error, _say)
    app.post("/search", responses={**_REFUSED, **_UNKNOWN})(search)
    app.post("/single_upload", status_code=201, responses=_REFUSED)(single_upload)
    app.get("/duplicates", responses={422: _REFUSED[422]})(list_duplicates)
    app.get("/healthz")(healthz)
    app.get("/readyz", responses={503: {"description": "A server that this one needs is away"}})(readyz)
    return app


def _say(_: Request, error: Exception) -> JSONResponse:
    status = next(status for kind, status in _STATUS.items() if isinstance(error, kind))
    return JSONResponse({"detail": str(error)}, status)


def single_upload(
    request: Request,
    file: Picture,
    label: Annotated[str | None, Form(max_length=MAX_LABEL_LENGTH)] = None,
) -> dict[str, str]:
    """Store one picture. It becomes searchable within seconds; `/search` finds it then."""
    context: Context = request.app.state.context
    data = file.file.read()
    found = probe(data, context.settings.max_image_bytes, context.settings.max_image_pixels)
    # Whoever sends a damaged picture should hear it now, not find it in quarantine later.
    decode_gray(data, found, context.settings.image_side)
    bucket = context.settings.require("s3_bucket")
    key = f"uploads/{uuid5(NAMESPACE, hashlib.sha256(data).hexdigest())}.{EXTENSIONS[found.format]}"
    etag = context.objects.put(bucket, key, data, MIME_TYPES[found.format])
    name = (file.filename or "")[-MAX_LABEL_LENGTH:] or None
    event = ImageEvent(bucket, key, etag, label=label, source="upload", original_filename=name)
    accept(context, Batch([event], taken=1))
    return {"id": str(image_id(bucket, key, etag))}


def healthz() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}


def readyz(request: Request) -> dict[str, Any]:
    """The servers that requests need answer too, and the published generation is the one that is served."""
    context: Context = request.app.state.context
    reader: Reader = request.app.state.reader
    found = problems(context)
    if reader.last_error:
        found["index"] = reader.last_error
    if found:
        raise HTTPException(503, found)
    return {"status": "ready", "generation": reader.manifest and reader.manifest.id}


app = create_app(Settings())
