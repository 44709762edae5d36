"""What could not be used: why, and what to do about it. DELETE /image/{id} drops an image from there."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request

from pipeline.api.access import Annotator, changeable, readable, visible_to
from pipeline.api.images import ImageInfo, Page, info
from pipeline.api.problems import documented
from pipeline.context import Context
from pipeline.errors import Conflict
from pipeline.stores import browse

router = APIRouter(tags=["images"])


@router.get("/quarantine", responses=documented(401, 403, 422))
def list_quarantine(
    request: Request,
    user: Annotator,
    limit: Annotated[int, Query(ge=1, le=200, description="Most images")] = 50,
    after: Annotated[str | None, Query(max_length=1000, description="`next` of the page before")] = None,
) -> Page:
    """One's own images that could not be used, newest first, each with its `reason`; admins see everybody's."""
    # To whom everybody's private images are shown, everybody's quarantine is.
    wanted = browse.Wanted(status="quarantined", owner=visible_to(user))
    found, end = browse.page(request.app.state.context.catalog, wanted, limit, after or None)
    return Page(images=[info(document) for document in found], next=end)


@router.post("/quarantine/{id}/retry", responses=documented(401, 403, 404, 409, 422))
def retry(request: Request, user: Annotator, id: UUID) -> ImageInfo:
    """Let the pipeline look at an image again, after a limit was raised, say. Drop it with DELETE /image/{id}."""
    context: Context = request.app.state.context
    document = changeable(context, user, id)
    if document["status"] != "quarantined":
        raise Conflict(f"Image {id} is not in quarantine; it is {document['status']}.", {"status": document["status"]})
    stored = context.objects.head(document["bucket"], document["key"])
    if stored is None or stored.etag != document["version"]:
        gone = f"The file of image {id} is not in the bucket; upload it again, or drop this entry."
        raise Conflict(gone, {"status": document["status"]})
    context.catalog.revive([id])
    return info(readable(context, user, id))
