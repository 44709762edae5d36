"""Upload: pictures, folders and archives into the collection, and how far each of them is."""

from typing import Any
from uuid import UUID

from nicegui.events import GenericEventArguments

from pipeline.api.pages.drawn import draw
from pipeline.api.pages.shell import Visit, page
from pipeline.stores.catalog import Catalog

# The page asks for as many at a time, again and again until all are where they can get.
MOST = 500


@page("/upload", "Upload", "annotator")
async def upload(visit: Visit) -> None:
    settings = visit.settings
    drawn = draw("upload", picture_bytes=settings.max_image_bytes, archive_bytes=settings.max_bulk_bytes)

    async def tell(event: GenericEventArguments) -> None:
        ids = [UUID(one) for one in event.args["detail"][:MOST]]
        found = await visit.attempt(states, visit.context.catalog, visit.user.name, ids)
        if found is not None:
            drawn.run_method("told", found)

    drawn.on("ask", tell, ["detail"])


def states(catalog: Catalog, owner: str, ids: list[UUID]) -> dict[str, dict[str, Any]]:
    """How far the user's own images are, as {id: {"status", "reason"}}."""
    found = catalog.find(ids, ["status", "reason", "owner"])
    own = {one: document for one, document in found.items() if document["owner"] == owner}
    return {str(one): {"status": own[one]["status"], "reason": own[one]["reason"]} for one in own}
