"""Export and import of annotations, and how far they are."""

from functools import partial
from typing import Any

from nicegui import ui

from pipeline.annotation.formats import FORMATS
from pipeline.api.access import visible_to
from pipeline.api.pages.shell import Visit, page, primary, rest, tell
from pipeline.api.pages.words import ago, number
from pipeline.stores.catalog import Document

NAMES = {"coco": "COCO", "voc": "Pascal VOC", "yolo": "YOLO", "csv": "CSV"}
SHOWN = 30
AGAIN_SECONDS = 2
# A plain form: the browser streams the file, and shows its own progress.
IMPORT = """
<form id="import" class="sleeve-import">
  <label class="sleeve-field">A zip, or a COCO JSON, VOC XML or CSV file
    <input type="file" name="file" required accept=".zip,.json,.xml,.csv"></label>
  <label><input type="checkbox" name="replace" value="true"> Also where a person decided otherwise</label>
  <button class="sleeve-button" type="submit">Import</button>
</form>
"""
SEND = """
document.getElementById("import").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  emitEvent("imported", await sleeve.answer("POST", "/import/annotations", new FormData(form)));
  form.reset();
});
"""


@page("/jobs", "Export and import", "annotator")
async def jobs(visit: Visit) -> None:
    going_on = False

    @ui.refreshable
    async def listed() -> None:
        nonlocal going_on
        found = await visit.attempt(visit.context.jobs.page, visible_to(visit.user), SHOWN, None) or []
        going_on = any(job["state"] in ("queued", "running") for job in found)
        if not found:
            ui.label("No exports or imports in the last days.").classes("sleeve-dim")
        for job in found:
            _row(job)

    with ui.element("div").classes("sleeve-wide").style("margin: 0 0 16px"):
        _export(listed.refresh)
        _import(listed.refresh)
    ui.element("h2").classes("sleeve-heading").add_slot("default", "Lately")
    await listed()
    ui.timer(AGAIN_SECONDS, lambda: listed.refresh() if going_on else None, immediate=False)


def _export(refresh: Any) -> None:
    with ui.card().classes("sleeve-card"):
        ui.element("h2").classes("sleeve-heading").add_slot("default", "Export labels and boxes")
        options = {one: NAMES[one] for one in FORMATS}
        kind = ui.select(options, value="coco", label="Format").props("outlined dense").classes("w-full")
        label = ui.input("Only this label").props("outlined dense").classes("w-full")
        accepted = ui.checkbox("Only what a reviewer accepted")

        async def start() -> None:
            wanted = {"format": kind.value, "label": label.value or None, "accepted": accepted.value}
            if await rest("POST", "/export", wanted) is not None:
                refresh()

        primary("Export", start)


def _import(refresh: Any) -> None:
    def told(answer: dict[str, Any]) -> None:
        if "problem" in answer:
            tell(answer["problem"])
        else:
            refresh()

    with ui.card().classes("sleeve-card"):
        ui.element("h2").classes("sleeve-heading").add_slot("default", "Import labels and boxes")
        ui.label("Images are found by their ids, or by their file names.").classes("sleeve-dim")
        ui.html(IMPORT, sanitize=False).classes("w-full")
    ui.on("imported", lambda event: told(event.args))
    ui.timer(0, partial(ui.run_javascript, SEND), once=True)


def _row(job: Document) -> None:
    with ui.card().classes("sleeve-card q-mb-sm"), ui.row().classes("items-center w-full gap-4"):
        with ui.column().classes("gap-0 sleeve-row"):
            what = NAMES.get(job["arguments"]["format"] or "", "")
            ui.label(f"{job['kind'].capitalize()} {what}".strip()).classes("text-weight-bold")
            ui.label(_said(job)).classes("sleeve-break")
            ui.label(f"{job['by']} · {ago(job['created_at'])}").classes("sleeve-dim")
            if job["state"] == "running" and job["total"]:
                ui.linear_progress(job["done"] / job["total"], show_value=False).props('aria-label="Progress"')
        if job["state"] == "done":
            name = "Download" if job["kind"] == "export" else "Problems"
            # A plain link: those of NiceGUI lead to pages.
            with ui.element("a").props(f"href=/jobs/{job['_id']}/result download"):
                ui.label(name)


def _said(job: Document) -> str:
    if job["state"] == "failed":
        return str(job["error"])
    if job["state"] == "done":
        return ", ".join(f"{name} {number(count)}" for name, count in job["result"].items())
    of = f" of {number(job['total'])}" if job["total"] else ""
    return "waiting for a worker" if job["state"] == "queued" else f"{number(job['done'])}{of} images"
