"""Search: which images of the collection does a picture, or a part of it, show?"""

from pipeline.api.pages.drawn import draw
from pipeline.api.pages.shell import Visit, page


@page("/search", "Search")
async def search(visit: Visit) -> None:
    draw("search", uploads=visit.user.may("annotator"))
