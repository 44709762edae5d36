"""GET /generations and POST /rollback: states of the index, and going back to one."""

import logging
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Body, Request
from pydantic import BaseModel, Field

from pipeline.api.access import Admin, Viewer
from pipeline.api.problems import documented
from pipeline.context import Context
from pipeline.errors import Unknown
from pipeline.index.history import State, entries
from pipeline.indexing import generations, roll_back

log = logging.getLogger(__name__)

router = APIRouter(tags=["index"])


class Generation(BaseModel):
    """A stored state of the index."""

    id: str = Field(examples=["20240531T183000000000-0a1b2c3d"])
    created_at: datetime
    state: State
    readers: int = Field(description="How many processes answer from it now")
    kind: str = Field(description="append or rebuild")
    codes: str = Field(description="How descriptors are stored")
    reason: str = Field(description="Why it was made")
    images: int
    recall: float | None = Field(description="Share of deformed copies of its own images that it found")


class RolledBack(BaseModel):
    """The generation that answers from now on."""

    generation: str
    images: int
    waiting: int = Field(description="Images that the next run appends to it: those it lacks, and new ones")


@router.get("/generations", responses=documented(401, 403))
def list_generations(request: Request, user: Viewer) -> list[Generation]:
    """States of the index that are kept, newest first."""
    context: Context = request.app.state.context
    return [Generation.model_validate(entry.summary()) for entry in entries(generations(context))]


@router.post("/rollback", responses=documented(401, 403, 404, 409, 422))
def roll_back_index(
    request: Request,
    user: Admin,
    to: Annotated[
        str | None,
        Body(embed=True, pattern=r"^[0-9]{8}T[0-9]{12}-[0-9a-f]{8}$", description="Its id; by default the one before"),
    ] = None,
) -> RolledBack:
    """Serve an earlier generation of the index again, at once.

    Those that are gone back over are never published again. Images that the earlier one lacks are appended to it.
    """
    context: Context = request.app.state.context
    if to is not None and not generations(context).is_saved(to):
        raise Unknown(f"There is no generation {to}; GET /generations lists those that are kept.")
    manifest = roll_back(context, to)
    log.info("%s went back to generation %s", user.name, manifest.id)
    request.app.state.reader.refresh()
    counts = context.catalog.counts()
    return RolledBack(
        generation=manifest.id, images=manifest.counts.images, waiting=counts["featured"] + counts["pending"]
    )
