"""Image: one picture from near, what is known of it, who said what of it, and what is like it."""

from uuid import UUID

from pipeline.annotation.said import Box
from pipeline.api.access import readable
from pipeline.api.pages.drawn import draw
from pipeline.api.pages.shell import Visit, empty, page
from pipeline.errors import UnknownImage


@page("/image/{id}", "Image")
async def image(visit: Visit, id: UUID) -> None:
    try:
        document = await visit.work(readable, visit.context, visit.user, id)
    except UnknownImage:
        empty("image_not_supported", "No such image", "It was deleted, or it is private and somebody else's.")
        return
    boxes: list[Box] = document.get("boxes", [])
    user = visit.user
    draw("image", id=str(id), boxes=boxes, user=user.name, admin=user.may("admin"), labels=user.may("annotator"))
