"""Home: how the collection and the pipeline are doing."""

from nicegui import ui

from pipeline.api.pages.shell import Visit, page


@page("/", "Home")
async def home(visit: Visit) -> None:
    counts = await visit.work(visit.context.catalog.counts)
    with ui.element("div").classes("sleeve-grid"):
        for status, number in counts.items():
            with ui.card().classes("sleeve-card gap-0"):
                ui.label(str(number)).classes("sleeve-number")
                ui.label(status).classes("sleeve-dim")
