"""Labelling by keys: suggestions, other labels, undo, boxes, review, and two people at the same picture."""

from collections.abc import Callable
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect

from pipeline.accounts.users import User
from pipeline.annotation import decisions
from pipeline.annotation.said import Said
from tests.browser.conftest import Open, Site


@pytest.fixture
def ann(site: Site) -> User:
    user = site.context.users.find("annotator-one")
    assert user is not None
    return user


def shown(page: Page) -> UUID:
    """The image that the page shows, once it shows one."""
    link = page.locator(".annotate-title a")
    expect(link).to_be_visible()
    return UUID((link.get_attribute("href") or "").rsplit("/", 1)[1])


def unlabelled(page: Page) -> UUID:
    """The image that the page shows, once it is one to label: now and then one comes for a second opinion."""
    image = shown(page)
    while page.locator(".annotate-title .chip").count():
        image = after(page, lambda: page.keyboard.press("s"))
    return image


def after(page: Page, act: Callable[[], None]) -> UUID:
    """The image that the page shows after it has gone on from the present one."""
    before = page.locator(".annotate-title a").get_attribute("href")
    act()
    page.wait_for_function(
        "old => document.querySelector('.annotate-title a')?.getAttribute('href') !== old", arg=before
    )
    return shown(page)


def labels(site: Site, image: UUID) -> list[str]:
    document = site.context.annotations.image(image)
    assert document is not None
    return list(document["labels"])


def test_a_digit_and_space_label_a_picture_and_u_takes_it_back(site: Site, open_page: Open) -> None:
    page = open_page("/annotate")
    first = unlabelled(page)
    label = page.locator(".annotate-label span").first.inner_text()
    page.keyboard.press("1")
    expect(page.locator(".annotate-chosen .chip")).to_have_text([label + "close"])
    after(page, lambda: page.keyboard.press("Space"))
    assert labels(site, first) == [label]
    assert after(page, lambda: page.keyboard.press("u")) == first
    assert labels(site, first) == []


def test_any_label_can_be_typed_and_is_shown_as_text(site: Site, open_page: Open) -> None:
    page = open_page("/annotate")
    first = unlabelled(page)
    label = "<img src=x onerror=alert(1)> soul"
    page.keyboard.press("/")
    page.keyboard.type(label)
    page.keyboard.press("Enter")
    expect(page.locator(".annotate-chosen")).to_contain_text(label)
    after(page, lambda: page.keyboard.press("Space"))
    assert labels(site, first) == [label]


def test_a_box_is_drawn_named_and_saved(site: Site, open_page: Open) -> None:
    page = open_page("/annotate")
    first = unlabelled(page)
    picture = page.locator(".annotate-picture")
    expect(picture).to_be_visible()
    page.wait_for_function("document.querySelector('.annotate-picture').naturalWidth > 0")
    page.keyboard.press("b")
    frame = picture.bounding_box()
    assert frame is not None
    page.mouse.move(frame["x"] + 0.25 * frame["width"], frame["y"] + 0.25 * frame["height"])
    page.mouse.down()
    page.mouse.move(frame["x"] + 0.75 * frame["width"], frame["y"] + 0.5 * frame["height"], steps=4)
    page.mouse.up()
    page.keyboard.press("1")
    after(page, lambda: page.keyboard.press("Space"))
    document = site.context.annotations.image(first)
    assert document is not None
    (box,) = document["boxes"]
    found = [box[name] for name in ("x", "y", "width", "height")]
    assert found == pytest.approx([0.25, 0.25, 0.5, 0.25], abs=0.02)


def test_who_comes_second_sees_what_changed_and_nothing_is_lost(site: Site, open_page: Open) -> None:
    page = open_page("/annotate")
    image = unlabelled(page)
    admin = site.context.users.find("admin-one")
    document = site.context.annotations.image(image)
    assert admin is not None
    assert document is not None
    decisions.label(site.context, admin, image, document.get("revision", 0), Said(["theirs"]))
    mine = page.locator(".annotate-label span").first.inner_text()
    page.keyboard.press("1")
    page.keyboard.press("Space")
    expect(page.get_by_role("alert")).to_contain_text("admin-one decided on this picture meanwhile")
    assert labels(site, image) == ["theirs"]
    after(page, lambda: page.get_by_role("button", name="Keep both").click())
    assert labels(site, image) == ["theirs", mine]


def test_review_accepts_and_rejects_what_others_labelled(site: Site, open_page: Open, ann: User) -> None:
    free = [one for one in site.images if not labels(site, one)][-2:]
    for image in free:
        document = site.context.annotations.image(image)
        assert document is not None
        decisions.label(site.context, ann, image, document.get("revision", 0), Said(["to review"]))
    page = open_page("/annotate?mode=review", "admin")
    stages = {}
    for key in ("a", "r"):
        image = shown(page)
        page.keyboard.press(key)
        if key == "r":
            page.keyboard.type("that is soul")
            page.keyboard.press("Enter")
        page.wait_for_function(
            "old => document.querySelector('.annotate-title a')?.getAttribute('href') !== old", arg=f"/ui/image/{image}"
        )
        found = site.context.annotations.image(image)
        assert found is not None
        stages[key] = (found["stage"], found["review_comment"])
    assert stages == {"a": ("accepted", None), "r": ("rejected", "that is soul")}
