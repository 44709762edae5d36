"""Browse: the collection as a grid, what is like what, and changes to many images at once."""

from pipeline.api.pages.drawn import draw
from pipeline.api.pages.shell import Visit, page


@page("/browse", "Browse")
async def browse(visit: Visit) -> None:
    draw("browse", user=visit.user.name, admin=visit.user.may("admin"), labels=visit.user.may("annotator"))
