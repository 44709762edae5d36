"""Upload: pictures, folders and archives into the collection, and how far each of them is."""

from pipeline.api.pages.drawn import draw
from pipeline.api.pages.shell import Visit, page


@page("/upload", "Upload", "annotator")
async def upload(visit: Visit) -> None:
    draw("upload")
