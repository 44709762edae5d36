"""Quarantine: what could not be used, why, and what to do about it."""

from functools import partial

from nicegui import ui

from pipeline.api.access import visible_to
from pipeline.api.pages.shell import Visit, empty, page, primary, rest, tell
from pipeline.api.pages.words import ago, number
from pipeline.stores import browse
from pipeline.stores.catalog import Document

PAGE = 50


@page("/quarantine", "Quarantine", "annotator")
async def quarantine(visit: Visit) -> None:
    wanted = browse.Wanted(status="quarantined", owner=visible_to(visit.user))
    rows = ui.column().classes("w-full gap-2")
    more = ui.button("More", on_click=lambda: show()).props("outline no-caps")
    after: list[str | None] = [None]

    async def show() -> None:
        found, after[0] = await visit.work(browse.page, visit.context.catalog, wanted, PAGE, after[0])
        with rows:
            for document in found:
                _row(document)
        more.set_visibility(after[0] is not None)

    await show()
    if not rows.default_slot.children:
        whose = "Every picture" if visit.user.may("admin") else "Every picture of yours"
        empty("verified", "Nothing is in quarantine", f"{whose} could be used.")


def _row(document: Document) -> None:
    with ui.card().classes("sleeve-card") as card, ui.row().classes("items-center w-full gap-4"):
        with ui.column().classes("gap-0 sleeve-row"):
            ui.label(document["original_filename"] or document["key"]).classes("text-weight-bold sleeve-break")
            ui.label(document["reason"] or "no reason was noted").classes("sleeve-break")
            size = f"{number(document['bytes'])} bytes, " if document.get("bytes") else ""
            owner = f"of {document['owner']}, " if document["owner"] else ""
            ui.label(f"{owner}{size}{ago(document['created_at'])}").classes("sleeve-dim")
        name = document["original_filename"] or str(document["_id"])
        retry = ui.button("Try again", on_click=partial(_retry, document, card)).props("outline no-caps")
        drop = ui.button("Drop", on_click=partial(_drop, document, card)).props("flat no-caps color=negative")
        for button, verb in ((retry, "Try again"), (drop, "Drop")):
            button.props["aria-label"] = f"{verb}: {name}"


async def _retry(document: Document, card: ui.card) -> None:
    if await rest("POST", f"/quarantine/{document['_id']}/retry") is not None:
        card.delete()
        tell("It is on its way again; the next run takes it.", "positive")


async def _drop(document: Document, card: ui.card) -> None:
    with ui.dialog() as dialog, ui.card().classes("sleeve-card"):
        ui.label("Drop this picture?").classes("sleeve-heading")
        ui.label("Its file is removed from the bucket. This cannot be undone.")
        with ui.row().classes("justify-end w-full"):
            ui.button("Keep it", on_click=lambda: dialog.submit(False)).props("flat no-caps")
            primary("Drop", lambda: dialog.submit(True))
    if await dialog and await rest("DELETE", f"/image/{document['_id']}") is not None:
        card.delete()
        tell("Dropped.", "positive")
    dialog.delete()
