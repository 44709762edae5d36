"""The REST door, and the pages beside it. Stateless: any number of replicas may run.

Run it with ``uvicorn pipeline.api.app:app``. Routes are in the modules beside this one, one for each subject.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import cv2
from fastapi import APIRouter, FastAPI, HTTPException, Request
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool

from pipeline import indexing
from pipeline.accounts.passwords import make_first_admin
from pipeline.accounts.tries import Tries
from pipeline.api import (
    accounts,
    duplicates,
    generations,
    images,
    jobs,
    labels,
    metrics,
    problems,
    quarantine,
    search,
    stats,
)
from pipeline.api.limits import BodyLimit
from pipeline.api.pages.shell import mount
from pipeline.context import Context
from pipeline.health import problems as problems_of_servers
from pipeline.index.reader import Reader
from pipeline.jobs import Worker
from pipeline.settings import Settings

# The form around a picture takes some bytes as well.
FORM = 64 << 10
SUBJECTS = (
    accounts,
    images,
    quarantine,
    labels,
    jobs,
    search,
    duplicates,
    generations,
    stats,
    metrics,
)

router = APIRouter(tags=["service"])


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    settings.require_secret("jwt_secret")
    context = app.state.context = Context(settings)
    # Requests run side by side in threads, so each computes on one core.
    cv2.setNumThreads(1)
    await run_in_threadpool(context.catalog.prepare)
    await run_in_threadpool(make_first_admin, settings, context.users)
    reader = app.state.reader = app.state.reader or Reader(indexing.generations(context), app.state.metrics.search)
    await run_in_threadpool(reader.start)
    worker = app.state.worker = Worker(context)
    worker.start()
    yield
    await run_in_threadpool(worker.stop)
    await run_in_threadpool(reader.stop)
    context.catalog.close()


def create_app(settings: Settings, reader: Reader | None = None) -> FastAPI:
    """The application for these settings; without a `reader`, searches are answered from the current generation."""
    app = FastAPIOffline(title="Sleeve", summary="Find the picture that a snapshot shows.", lifespan=_lifespan)
    app.state.settings = settings
    app.state.reader = reader
    app.state.tries = Tries(settings)
    own = {"/bulk_upload": settings.max_bulk_bytes, "/import/annotations": settings.max_bulk_bytes}
    app.add_middleware(BodyLimit, max_bytes=settings.max_image_bytes + FORM, own=own, anonymous=FORM)
    problems.install(app)
    for subject in SUBJECTS:
        app.include_router(subject.router)
    app.include_router(router)
    metrics.install(app)
    return app


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """This process answers. Open to everybody."""
    return {"status": "ok"}


@router.get("/readyz", responses=problems.documented(503))
def readyz(request: Request) -> dict[str, Any]:
    """The servers that requests need answer too, and the published generation is the one that is served."""
    context: Context = request.app.state.context
    reader: Reader = request.app.state.reader
    found = problems_of_servers(context)
    if reader.last_error:
        found["index"] = reader.last_error
    if found:
        raise HTTPException(503, "; ".join(f"{name}: {why}" for name, why in found.items()))
    return {"status": "ready", "generation": reader.manifest and reader.manifest.id}


app = mount(create_app(Settings()))
