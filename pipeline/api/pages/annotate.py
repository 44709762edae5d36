"""Annotate: one image after another, by keys: label, give second opinions, review. `assets/annotate.js` draws it."""

from nicegui import ui

from pipeline.api.pages.drawn import draw
from pipeline.api.pages.shell import Visit, page


@page("/annotate", "Annotate", "annotator")
async def annotate(visit: Visit) -> None:
    draw("annotate")
    ui.add_head_html('<link rel="stylesheet" href="/ui/assets/annotate.css">')
