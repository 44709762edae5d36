"""Account: one's own password."""

from nicegui import ui

from pipeline.accounts.users import MIN_PASSWORD
from pipeline.api.pages.shell import Visit, page, primary, rest, tell


@page("/account", "Account")
async def account(visit: Visit) -> None:
    ui.label(f"You are {visit.user.name}, {visit.user.role}.")
    if visit.user.source == "airflow":
        ui.label("You sign in with your Airflow password; change it there.")
        return
    with ui.card().classes("sleeve-card q-mt-md").style("max-width: 420px"):
        ui.element("h2").classes("sleeve-heading").add_slot("default", "Change the password")
        old = ui.input("Present password", password=True).props("outlined autocomplete=current-password")
        new = ui.input("New password", password=True).props("outlined autocomplete=new-password")
        for field in (old, new):
            field.classes("w-full")
        ui.label(f"At least {MIN_PASSWORD} characters; a few words make a good one.").classes("sleeve-dim")

        async def change() -> None:
            if await rest("POST", "/me/password", {"old": old.value, "new": new.value}) is not None:
                old.value = new.value = ""
                tell("Changed. Everywhere else you are signed out.", "positive")

        primary("Change", change)
