"""What is around every page: who visits, the navigation, colours, and how work is done without blocking the server.

A page is a function decorated with `page`; it gets a `Visit` and builds what is between the header and the bottom.
Nothing of a visit is kept but what the page itself shows, so replicas need no common memory; a proxy must only send
a browser's requests to the same replica while a page is open (the web socket is one connection).
"""

import inspect
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from fastapi import FastAPI, Request
from nicegui import app as nicegui_app
from nicegui import ui
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from pipeline.accounts.sessions import Session, resume
from pipeline.accounts.users import Role, User
from pipeline.api.access import COOKIE, require
from pipeline.context import Context
from pipeline.errors import NotSignedIn, SleeveError
from pipeline.index.reader import Reader
from pipeline.settings import Settings

log = logging.getLogger(__name__)

PREFIX = "/ui"
SIGN_IN = "/sign-in"
ASSETS = Path(__file__).parent / "assets"
# (path, title, icon, who sees it)
NAVIGATION: list[tuple[str, str, str, Role]] = [
    ("/", "Home", "space_dashboard", "viewer"),
    ("/search", "Search", "image_search", "viewer"),
    ("/browse", "Browse", "grid_view", "viewer"),
    ("/upload", "Upload", "cloud_upload", "annotator"),
    ("/annotate", "Annotate", "sell", "annotator"),
    ("/jobs", "Export and import", "import_export", "annotator"),
    ("/quarantine", "Quarantine", "report", "annotator"),
    ("/generations", "Generations", "layers", "viewer"),
    ("/users", "Users", "group", "admin"),
]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Visit:
    """One person looking at one page."""

    context: Context
    reader: Reader
    session: Session
    held: str
    """The secret of the session, by which it is looked up again before anything is done."""
    path: str
    role: Role
    """The least that the page is for."""

    @property
    def user(self) -> User:
        return self.session.user

    @property
    def settings(self) -> Settings:
        return self.context.settings

    async def work(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of a blocking function, computed in a thread, if the session and the role are still good.

        Raises NotSignedIn or NotAllowed where they were taken away since the page was opened.
        """

        def checked() -> T:
            require(resume(self.context.users, self.held).user, self.role)
            return function(*args, **kwargs)

        return await run_in_threadpool(checked)

    async def attempt(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """As `work`; but what went wrong on purpose is told to the person, and the result is None then."""
        try:
            return await self.work(function, *args, **kwargs)
        except NotSignedIn:
            ui.navigate.to(f"{SIGN_IN}?next={self.path}")
        except SleeveError as error:
            tell(str(error))
        return None


async def rest(method: str, path: str, body: Any = None) -> Any | None:
    """What a route of the REST API answers to this person's browser; {} for no content.

    Pages change things only this way, so who may do what is said in one place. None where it was refused, which the
    person has been told then.
    """
    arguments = ", ".join(json.dumps(one) for one in (method, path, body) if one is not None)
    answer = await ui.run_javascript(f"return sleeve.answer({arguments})", timeout=60)
    if "problem" not in answer:
        return answer["data"] or {}
    if answer["status"] == 401:
        ui.navigate.to(SIGN_IN)
    else:
        tell(answer["problem"])
    return None


def tell(message: str, kind: str = "negative") -> None:
    """A message at the bottom of the page; errors stay until they are dismissed."""
    stays = {"timeout": 0, "close_button": "OK"} if kind == "negative" else {}
    ui.notify(message, type=kind, position="bottom", multi_line=True, **stays)  # type: ignore[arg-type]


def page(
    path: str, title: str, role: Role = "viewer"
) -> Callable[[Callable[Concatenate[Visit, P], Awaitable[None]]], Callable[..., Any]]:
    """Make a page of a coroutine `build(visit, ...)`; its other parameters are those of the path and of the query."""

    def decorate(build: Callable[Concatenate[Visit, P], Awaitable[None]]) -> Callable[..., Any]:
        async def shown(request: Request, **parameters: Any) -> Response | None:
            try:
                visit = await _visit(request, role)
            except NotSignedIn:
                return RedirectResponse(f"{PREFIX}{SIGN_IN}?next={_here(request)}")
            with _frame(visit, title):
                if visit.user.may(role):
                    await build(visit, **parameters)  # type: ignore[call-arg]
                else:
                    empty("lock", "Not for your role", f"This page needs the role {role}. An admin can change yours.")
            return None

        others = list(inspect.signature(build, eval_str=True).parameters.values())[1:]
        first = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)
        shown.__signature__ = inspect.Signature([first, *others])  # type: ignore[attr-defined]
        shown.__name__ = build.__name__
        ui.page(path, title=f"{title} · Sleeve", response_timeout=20)(shown)
        return build

    return decorate


def _here(request: Request) -> str:
    path = request.url.path.removeprefix(PREFIX) or "/"
    return path if not request.url.query else f"{path}?{request.url.query}"


async def _visit(request: Request, role: Role) -> Visit:
    state = nicegui_app.state.sleeve
    held = request.cookies.get(COOKIE)
    if held is None:
        raise NotSignedIn("Sign in.")
    session = await run_in_threadpool(resume, state.context.users, held)
    return Visit(state.context, state.reader, session, held, _here(request), role)


def dress() -> None:
    """Colours, dark mode and style of every page, the sign-in page included."""
    ui.colors(primary="#3b5bdb", secondary="#495057", accent="#a63a08", positive="#237032", negative="#c92a2a")
    ui.add_head_html('<link rel="stylesheet" href="/ui/assets/sleeve.css">')
    ui.add_head_html('<script src="/ui/assets/sleeve.js"></script>')


class _frame:
    """Header, navigation, and the column that a page fills."""

    def __init__(self, visit: Visit, title: str) -> None:
        self._visit, self._title = visit, title

    def __enter__(self) -> None:
        visit = self._visit
        dress()
        with ui.header().classes("sleeve-header"):
            menu = ui.button(icon="menu", color=None).props("flat round aria-label=Menu").classes("lt-md")
            ui.link("Sleeve", "/").classes("sleeve-brand")
            ui.space()
            _user_menu(visit)
        with ui.left_drawer(bordered=True).props("width=220 breakpoint=1023").classes("sleeve-drawer") as drawer:
            with ui.element("nav").props('aria-label="Main"'):
                for path, name, icon, role in NAVIGATION:
                    if visit.user.may(role):
                        _navigation_item(path, name, icon, current=visit.path.split("?")[0] == path)
        menu.on_click(drawer.toggle)
        self._main = ui.element("div").classes("sleeve-main")
        self._main.__enter__()
        ui.element("h1").classes("sleeve-title").add_slot("default", self._title)

    def __exit__(self, *error: Any) -> None:
        self._main.__exit__(*error)


def _navigation_item(path: str, name: str, icon: str, current: bool) -> None:
    with ui.link(target=path).classes("sleeve-nav" + (" is-current" if current else "")) as link:
        ui.icon(icon).props("aria-hidden=true")
        ui.label(name)
    if current:
        link.props("aria-current=page")


def _user_menu(visit: Visit) -> None:
    with ui.button(icon="account_circle", color=None).props(f'flat round aria-label="{visit.user.name}"'), ui.menu():
        with ui.column().classes("q-pa-md gap-0"):
            ui.label(visit.user.name).classes("text-weight-bold")
            ui.label(visit.user.role).classes("sleeve-dim")
        ui.separator()
        ui.menu_item("Account", lambda: ui.navigate.to("/account"))
        ui.menu_item("REST API", lambda: ui.run_javascript("open('/docs')"))
        for name in ("Light", "Dark", "As the system"):
            ui.menu_item(name, partial(_theme, name))
        ui.separator()
        ui.menu_item("Sign out", lambda: ui.run_javascript("sleeve.signOut()"))


def _theme(name: str) -> None:
    ui.run_javascript(f"sleeve.theme({name.split()[0].lower()!r})")


def primary(text: str, on_click: Callable[[], Any]) -> ui.button:
    """The button that does what a page or a dialog is for."""
    return ui.button(text, color=None, on_click=on_click).props("no-caps unelevated").classes("sleeve-primary")


def empty(icon: str, title: str, hint: str) -> None:
    """What a page says where there is nothing to show: what that means and what to do."""
    with ui.column().classes("sleeve-empty"):
        ui.icon(icon, size="48px").props("aria-hidden=true")
        ui.label(title).classes("text-h6")
        ui.label(hint).classes("sleeve-dim")


def mount(app: FastAPI) -> FastAPI:
    """Put the pages beside the REST routes of `app`."""
    from pipeline.api.pages import (  # noqa: F401
        account,
        annotate,
        browse,
        generations,
        home,
        image,
        jobs,
        quarantine,
        search,
        sign_in,
        upload,
        users,
    )

    app.get("/", include_in_schema=False)(lambda: RedirectResponse(f"{PREFIX}/"))
    nicegui_app.state.sleeve = app.state
    # Browsers ask each time whether a file is still the same: an upgrade must not meet old scripts.
    nicegui_app.add_static_files("/assets", ASSETS, max_cache_age=0)
    ui.run_with(app, mount_path=PREFIX, title="Sleeve", favicon=ASSETS / "favicon.svg", dark=None, language="en-GB")
    return app
