"""Generations: states of the index, what each finds, and going back to one."""

from functools import partial
from typing import Any

from nicegui import ui

from pipeline.api.pages.home import INK, LINE
from pipeline.api.pages.shell import Visit, empty, page, primary, rest, tell
from pipeline.api.pages.words import ago, number
from pipeline.index.history import Entry, entries
from pipeline.indexing import generations as stored

STATE_COLOURS = {"current": "positive", "published": "secondary", "rolled back": "accent", "unpublished": "secondary"}


@page("/generations", "Generations")
async def generations(visit: Visit) -> None:
    @ui.refreshable
    async def body() -> None:
        found = await visit.work(lambda: entries(stored(visit.context)))
        if not found:
            empty("layers", "No generation yet", "The first images that become searchable make one.")
            return
        if visit.reader.last_error:
            ui.label(f"A generation cannot be served: {visit.reader.last_error}").classes("sleeve-error")
        _recalls(found)
        for entry in found:
            _row(visit, entry, body.refresh)

    await body()


def _recalls(found: list[Entry]) -> None:
    """Recall and size over time, oldest first."""
    measured = [entry.manifest for entry in reversed(found) if entry.manifest.recall]
    axis: dict[str, Any] = {"axisLabel": {"color": INK}, "splitLine": {"lineStyle": {"color": LINE}}}
    recalls = [one.recall.recall_at_1 for one in measured if one.recall]
    options = {
        "animation": False,
        "grid": {"left": 48, "right": 56, "top": 32, "bottom": 24},
        "legend": {"top": 0, "textStyle": {"color": INK}},
        "tooltip": {"trigger": "axis"},
        "xAxis": {"type": "category", "data": [f"{one.created_at:%d %b %H:%M}" for one in measured], **axis},
        "yAxis": [{"type": "value", "min": 0, "max": 1, **axis}, {"type": "value", "minInterval": 1, **axis}],
        "series": [
            {"type": "line", "name": "recall@1", "data": recalls, "color": "#4c6ef5"},
            {
                "type": "bar",
                "name": "images",
                "yAxisIndex": 1,
                "barMaxWidth": 32,
                "data": [one.counts.images for one in measured],
                "color": "rgba(134, 142, 150, .35)",
            },
        ],
    }
    text = f"recall@1 of the last {len(measured)} generations"
    with ui.card().classes("sleeve-card q-mb-md"):
        ui.echart(options).classes("w-full").style("height: 200px").props(f'role=img aria-label="{text}"')


def _row(visit: Visit, entry: Entry, refresh: Any) -> None:
    one = entry.manifest
    with ui.card().classes("sleeve-card q-mb-sm").props(f"id={one.id}"), ui.row().classes("items-center w-full gap-4"):
        with ui.column().classes("gap-0 sleeve-row"):
            with ui.row().classes("items-center gap-2"):
                ui.label(one.id).classes("text-weight-bold sleeve-break")
                ui.badge(entry.state, color=STATE_COLOURS[entry.state])
            ui.label(f"{one.kind}: {one.reason}").classes("sleeve-break")
            recall = f"recall@1 {one.recall.recall_at_1:.3f}" if one.recall else "not measured"
            readers = f"{entry.readers} readers" if entry.readers != 1 else "1 reader"
            facts = [f"{number(one.counts.images)} images", recall, one.choice.codes, readers, ago(one.created_at)]
            ui.label(" · ".join(facts)).classes("sleeve-dim")
        if visit.user.may("admin") and entry.state in ("published", "rolled back"):
            back = ui.button("Go back to it", on_click=partial(_go_back, one.id, refresh)).props("outline no-caps")
            back.props["aria-label"] = f"Go back to generation {one.id}"


async def _go_back(generation: str, refresh: Any) -> None:
    with ui.dialog() as dialog, ui.card().classes("sleeve-card"):
        ui.label("Go back to this generation?").classes("sleeve-heading")
        ui.label("Searches use it at once. Newer ones are never published again; images it lacks are added to it.")
        with ui.row().classes("justify-end w-full"):
            ui.button("Stay", on_click=lambda: dialog.submit(False)).props("flat no-caps")
            primary("Go back", lambda: dialog.submit(True))
    done = await rest("POST", "/rollback", {"to": generation}) if await dialog else None
    if done is not None:
        tell(f"Searches use {done['generation']} now; {number(done['waiting'])} images wait to be added.", "positive")
        refresh()
    dialog.delete()
