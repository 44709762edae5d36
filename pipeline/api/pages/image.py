"""Image: one picture from near, what is known of it, who said what of it, and what is like it."""

from uuid import UUID

from pipeline.api.pages.drawn import draw
from pipeline.api.pages.shell import Visit, page


@page("/image/{id}", "Image")
async def image(visit: Visit, id: UUID) -> None:
    draw("image", id=str(id), user=visit.user.name, admin=visit.user.may("admin"), labels=visit.user.may("annotator"))
