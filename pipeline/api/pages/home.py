"""Home: how the collection and the pipeline are doing."""

from datetime import datetime, timedelta
from typing import Any

from nicegui import ui

from pipeline.airflow_runs import Runs
from pipeline.api.pages.shell import Visit, empty, page
from pipeline.api.pages.words import ago, duration, number
from pipeline.overview import Span, Stats, stats

AGAIN_SECONDS = 10
RUNS = 8
STATE_ICONS = {"success": "check_circle", "failed": "error", "running": "sync", "queued": "schedule"}
INK, LINE, BAR = "#868e96", "rgba(134, 142, 150, .25)", "#4c6ef5"


@page("/", "Home")
async def home(visit: Visit) -> None:
    @ui.refreshable
    async def body() -> None:
        seen = await visit.attempt(stats, visit.context, visit.reader.manifest)
        runs = await visit.attempt(visit.context.airflow.latest, RUNS)
        if seen is None or runs is None:
            return
        _numbers(seen)
        if seen.images and not any(seen.images.values()):
            empty("cloud_upload", "Nothing here yet", "Upload the first pictures; they are searchable seconds later.")
        with ui.element("div").classes("sleeve-wide"):
            _throughput(seen)
            _generation(seen)
            _runs(runs)
            _quarantine(seen)
        for server, why in seen.away.items():
            ui.label(f"{server} did not answer: {why}").classes("sleeve-error")

    await body()
    ui.timer(AGAIN_SECONDS, body.refresh, immediate=False)


def _numbers(seen: Stats) -> None:
    images = seen.images or {}
    waiting = seen.backlog.images
    tiles = [
        (number(images.get("indexed")), "searchable", "/browse?status=indexed"),
        (number(waiting), "on their way", "/browse?status=pending"),
        (number(seen.backlog.messages), "events unread", None),
        (number(images.get("quarantined")), "in quarantine", "/quarantine"),
        (duration(seen.freshness.p50) if seen.freshness else "–", "until searchable, median", None),
        (number(seen.throughput.last_hour), "in the last hour", None),
    ]
    with ui.element("div").classes("sleeve-grid"):
        for text, what, target in tiles:
            card = ui.link(target=target) if target else ui.element("div")
            with card.classes("sleeve-card sleeve-tile"):
                ui.label(text).classes("sleeve-number")
                ui.label(what).classes("sleeve-dim")


def _heading(text: str) -> None:
    ui.element("h2").classes("sleeve-heading").add_slot("default", text)


def _throughput(seen: Stats) -> None:
    with ui.card().classes("sleeve-card"):
        _heading("Became searchable")
        with ui.tabs().props("dense no-caps align=left") as tabs:
            hour, day = ui.tab("Last hour"), ui.tab("Last day")
        with ui.tab_panels(tabs, value=hour if seen.throughput.last_hour else day).classes("w-full sleeve-panels"):
            with ui.tab_panel(hour):
                _bars(seen.throughput.by_minute, timedelta(minutes=1))
            with ui.tab_panel(day):
                _bars(seen.throughput.by_hour, timedelta(hours=1))
        if seen.freshness:
            fresh = seen.freshness
            times = f"median {duration(fresh.p50)}, 95 % within {duration(fresh.p95)}, slowest {duration(fresh.max)}"
            ui.label(f"From arrival to searchable, last {number(fresh.images)} images: {times}").classes("sleeve-dim")


def _bars(spans: list[Span], width: timedelta) -> None:
    total = sum(span.images for span in spans)
    what = f"{number(total)} images became searchable, by {duration(width.total_seconds())}"
    axis: dict[str, Any] = {"axisLabel": {"color": INK}, "splitLine": {"lineStyle": {"color": LINE}}}
    options = {
        "animation": False,
        "grid": {"left": 40, "right": 8, "top": 12, "bottom": 24},
        "tooltip": {"trigger": "axis"},
        "xAxis": {"type": "category", "data": [f"{span.at:%H:%M}" for span in spans], **axis},
        "yAxis": {"type": "value", "minInterval": 1, **axis},
        "series": [{"type": "bar", "name": "images", "data": [span.images for span in spans], "color": BAR}],
    }
    ui.echart(options).classes("w-full").style("height: 190px").props(f'role=img aria-label="{what}"')


def _generation(seen: Stats) -> None:
    with ui.card().classes("sleeve-card"):
        _heading("Index")
        one = seen.generation
        if one is None:
            ui.label("No generation was published yet: the first images make one.").classes("sleeve-dim")
            return
        rows = [
            ("Images", number(one.images)),
            ("Recall@1 of deformed copies", "–" if one.recall is None else f"{one.recall:.3f}"),
            ("Codes", one.codes),
            ("Made", f"{ago(one.created_at)}, by {one.kind}"),
        ]
        _table(rows)
        ui.link("All generations", "/generations")


def _table(rows: list[tuple[str, str]]) -> None:
    with ui.element("dl").classes("sleeve-facts"):
        for name, value in rows:
            ui.element("dt").add_slot("default", name)
            with ui.element("dd"):
                ui.label(value)


def _runs(found: Runs) -> None:
    with ui.card().classes("sleeve-card"):
        _heading("Last runs")
        if found.away:
            ui.label(found.away).classes("sleeve-dim")
        elif not found.runs:
            ui.label("Nothing has run yet.").classes("sleeve-dim")
        for run in found.runs:
            with ui.row().classes("items-center no-wrap w-full gap-2"):
                ui.icon(STATE_ICONS.get(run.state, "help")).props("aria-hidden=true").classes(
                    f"sleeve-run is-{run.state}"
                )
                ui.link(run.dag, run.address, new_tab=True)
                ui.label(run.state).classes("sleeve-dim")
                ui.space()
                ui.label(_when(run.started_at, run.ended_at)).classes("sleeve-dim")


def _when(started: datetime | None, ended: datetime | None) -> str:
    if started is None:
        return "not begun"
    took = f"{duration((ended - started).total_seconds())}, " if ended else ""
    return took + ago(started)


def _quarantine(seen: Stats) -> None:
    with ui.card().classes("sleeve-card"):
        _heading("Quarantine")
        if not seen.quarantine:
            ui.label("Every picture could be used.").classes("sleeve-dim")
        for reason in seen.quarantine[:RUNS]:
            with ui.row().classes("no-wrap w-full gap-2"):
                ui.label(number(reason.images)).classes("text-weight-bold")
                ui.label(reason.reason)
        if seen.quarantine:
            ui.link("What to do about them", "/quarantine")
