"""Every page, wide and narrow, light and dark: it is there, nothing complains, and it can be read by everybody."""

import pytest
from playwright.sync_api import Page, TimeoutError

from pipeline.accounts.users import ROLES, Role
from tests.browser.conftest import WIDTHS, Open, Site, keep_screenshot, serious_violations

PAGES = {
    "home": "/",
    "search": "/search?image={image}",
    "browse": "/browse",
    "groups": "/browse?duplicates=1",
    "image": "/image/{image}",
    "upload": "/upload",
    "annotate": "/annotate",
    "review": "/annotate?mode=review",
    "quarantine": "/quarantine",
    "generations": "/generations",
    "users": "/users",
    "account": "/account",
    "jobs": "/jobs",
}


def is_too_wide(page: Page) -> bool:
    """Whether the page has to be scrolled sideways, once what moves after a change of the width has come to rest."""
    try:
        page.wait_for_function("() => document.documentElement.scrollWidth <= innerWidth", timeout=5000)
    except TimeoutError:
        return True
    return False


@pytest.mark.parametrize("name", PAGES)
def test_page(site: Site, open_page: Open, name: str) -> None:
    page = open_page(PAGES[name].format(image=site.images[1]), "admin")
    assert page.locator("h1").count() == 1
    problems = []
    for width, (wide, high) in WIDTHS.items():
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": wide, "height": high})
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function(
                "dark => document.body.classList.contains('body--dark') === dark", arg=scheme == "dark"
            )
            keep_screenshot(page, f"{name}-{width}-{scheme}")
            if is_too_wide(page):
                problems.append(f"{width}: has to be scrolled sideways")
            problems += [f"{width} {scheme}: {found}" for found in serious_violations(page)]
    assert problems == []


@pytest.mark.parametrize("path", ["/sign-in", "/sign-up"])
def test_door(open_page: Open, path: str) -> None:
    page = open_page(path, role=None)
    keep_screenshot(page, path.strip("/"))
    assert serious_violations(page) == []


def test_who_is_not_signed_in_is_sent_to_the_door_and_back(open_page: Open) -> None:
    page = open_page("/?x=1", role=None)
    assert page.url.split("/ui")[1] == "/sign-in?next=/?x=1"


@pytest.mark.parametrize("role", ROLES)
def test_navigation_shows_what_the_role_may_do(open_page: Open, role: Role) -> None:
    names = open_page("/", role).locator("nav a").all_inner_texts()
    shown = {name.split("\n")[-1] for name in names}
    assert ("Annotate" in shown) == (role != "viewer")
    assert ("Users" in shown) == (role == "admin")
