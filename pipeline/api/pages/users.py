"""Users: who has an account, with which role; for admins."""

from functools import partial
from typing import Any

from nicegui import ui
from nicegui.events import ValueChangeEventArguments

from pipeline.accounts.users import ROLES, User
from pipeline.api.pages.shell import Visit, page, rest, tell
from pipeline.api.pages.words import ago

PAGE = 100


@page("/users", "Users", "admin")
async def users(visit: Visit) -> None:
    ui.label("Viewers search and browse; annotators upload, label and review as well; admins may everything.")
    rows = ui.column().classes("w-full gap-2 q-mt-md")
    more = ui.button("More", on_click=lambda: show()).props("outline no-caps")
    after = [""]

    async def show() -> None:
        found = await visit.work(visit.context.users.page, PAGE, after[0])
        with rows:
            for user in found:
                _row(user)
        after[0] = found[-1].name if found else after[0]
        more.set_visibility(len(found) == PAGE)

    await show()


def _row(user: User) -> None:
    held = {"role": user.role, "disabled": user.disabled}
    change = partial(_change, user.name, held)
    with ui.card().classes("sleeve-card"), ui.row().classes("items-center w-full gap-4"):
        with ui.column().classes("gap-0 sleeve-row"):
            ui.label(user.name).classes("text-weight-bold sleeve-break")
            source = "signs in with Airflow, which says the role" if user.source == "airflow" else "signs in here"
            ui.label(f"{source} · since {ago(user.created_at)}").classes("sleeve-dim")
        role = ui.select(list(ROLES), value=user.role, label="Role", on_change=partial(change, "role"))
        role.props(f'dense outlined options-dense aria-label="Role of {user.name}"').classes("sleeve-select")
        off = ui.switch("Disabled", value=user.disabled, on_change=partial(change, "disabled"))
        off.props["aria-label"] = f"{user.name} is disabled"
        out = ui.button("Sign out everywhere", on_click=partial(_sign_out, user.name)).props("flat no-caps")
        out.props["aria-label"] = f"Sign {user.name} out everywhere"


async def _change(name: str, held: dict[str, Any], field: str, event: ValueChangeEventArguments[Any]) -> None:
    if event.value == held[field]:
        return
    if await rest("PATCH", f"/users/{name}", {field: event.value}) is not None:
        held[field] = event.value
        tell(f"{name}: {field} is {event.value} now.", "positive")
    else:
        event.sender.set_value(held[field])  # type: ignore[attr-defined]


async def _sign_out(name: str) -> None:
    ended = await rest("DELETE", f"/users/{name}/sessions")
    if ended is not None:
        tell(f"{name} is signed out of {ended['sessions']} sessions.", "positive")
