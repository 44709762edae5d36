"""The Browse page: filters that live in the address, a grid that grows, many images changed at once, groups."""

from collections.abc import Iterator
from uuid import UUID

import cv2
import pytest
from playwright.sync_api import Locator, Page, expect

from pipeline import duplicates
from pipeline.events import ImageEvent
from pipeline.samples import cover, cover_jpeg
from pipeline.uploads import Given, take_in
from tests.browser.conftest import Open, Site, keep_screenshot
from tests.steps import index_all

HOSTILE = "<img src=x onerror=window.hacked=1>"
CROWD = 150
FIRST = 400
DOT = cv2.imencode(".png", cover(0, 128))[1].tobytes()


@pytest.fixture
def crowd(site: Site) -> Iterator[str]:
    """The owner of CROWD images, of which there are only the entries in the catalogue."""
    owner = "crowd"
    events = [ImageEvent("elsewhere", f"{number:03}.jpg", "etag", owner=owner) for number in range(CROWD)]
    site.context.catalog.register(events)
    yield owner
    site.context.catalog.images.delete_many({"owner": owner})


def tiles(page: Page) -> Locator:
    return page.locator("sleeve-browse .tile")


def names(page: Page) -> list[str]:
    return tiles(page).locator(".caption:not(.is-labels)").all_text_contents()


def test_filters_live_in_the_address(site: Site, open_page: Open) -> None:
    page = open_page("/browse?label=jazz", "viewer")
    jazz = site.context.catalog.images.count_documents({"labels": "jazz"})
    expect(tiles(page)).to_have_count(jazz)
    assert set(page.locator(".caption.is-labels").all_text_contents()) == {"jazz"}
    # Viewers change nothing, so there is nothing to select.
    expect(page.get_by_role("checkbox")).to_have_count(0)

    page.get_by_label("Name begins with").fill("cover_00")
    expect(tiles(page)).to_have_count(2)
    assert names(page) == ["cover_003.jpg", "cover_009.jpg"]
    page.get_by_label("Label", exact=True).fill("no such label")
    page.get_by_label("Label", exact=True).blur()
    expect(page.get_by_role("heading", name="No image passes these filters")).to_be_visible()
    assert page.evaluate("location.search") == "?name=cover_00&label=no+such+label"
    keep_screenshot(page, "browse-nothing")
    page.go_back()
    expect(tiles(page)).to_have_count(2)
    page.reload()
    expect(page.get_by_label("Name begins with")).to_have_value("cover_00")
    expect(tiles(page)).to_have_count(2)


def test_the_grid_grows_as_one_scrolls_and_is_found_again(open_page: Open, crowd: str) -> None:
    page = open_page("/upload")
    page.route("**/image/download/*thumbnail", lambda route: route.fulfill(body=DOT, content_type="image/png"))
    page.goto(f"/ui/browse?owner={crowd}")
    expect(page.get_by_role("status").first).to_have_text("The first 60 images")
    page.mouse.move(700, 500)
    while "first" in page.get_by_role("status").first.inner_text():
        shown = tiles(page).count()
        page.mouse.wheel(0, 20_000)
        expect(tiles(page).nth(shown)).to_be_attached()
    expect(page.get_by_role("status").first).to_have_text(f"{CROWD} images")
    assert len(set(names(page))) == CROWD

    place = page.evaluate("scrollY")
    page.goto(f"/ui/browse?owner={crowd}&status=indexed")
    page.go_back()
    expect(tiles(page)).to_have_count(CROWD)
    page.wait_for_function("place => scrollY === place", arg=place)


def test_many_images_at_once_by_keyboard(site: Site, open_page: Open) -> None:
    given = Given("annotator-one", "before")
    own = [take_in(site.context, cover_jpeg(FIRST + n), f"{HOSTILE}{n}.jpg", given) for n in range(3)]
    page = open_page("/browse?label=before")
    expect(tiles(page)).to_have_count(3)
    assert sorted(names(page)) == [f"{HOSTILE}{n}.jpg" for n in range(3)]
    page.get_by_role("link", name=HOSTILE).first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    selection = page.get_by_role("region", name="Selection")
    expect(selection).to_contain_text("3 selected")
    page.keyboard.press("Escape")
    expect(selection).to_be_hidden()
    page.keyboard.press("Control+a")
    page.get_by_label("Label to add").fill(HOSTILE)
    keep_screenshot(page, "browse-selection")
    page.keyboard.press("Enter")
    expect(selection.get_by_role("status")).to_have_text(f"3 images labelled “{HOSTILE}”.")
    assert set(page.locator(".caption.is-labels").all_text_contents()) == {f"before, {HOSTILE}"}
    assert all(one["labels"] == ["before", HOSTILE] for one in site.context.catalog.find(own).values())
    assert page.evaluate("window.hacked") is None

    # One of them was given to somebody else meanwhile: it stays, and the line says why.
    site.context.catalog.images.update_one({"_id": own[0]}, {"$set": {"owner": "admin-one"}})
    tiles(page).first.hover()
    tiles(page).first.get_by_role("checkbox").click()
    tiles(page).last.click(modifiers=["Shift"])
    selection.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete 3 images").click()
    expect(selection.get_by_role("status")).to_contain_text("2 images deleted. 1 not.")
    expect(selection.get_by_role("status")).to_contain_text("belongs to admin-one")
    expect(tiles(page)).to_have_count(1)
    assert site.context.catalog.alive(own) == {own[0]}
    site.context.catalog.delete([own[0]], "test")


def test_near_duplicates_are_together(site: Site, open_page: Open) -> None:
    copy = cv2.imencode(".jpg", cv2.resize(cover(8), (500, 500)), [cv2.IMWRITE_JPEG_QUALITY, 70])[1].tobytes()
    small = take_in(site.context, copy, "small.jpg", Given("annotator-one"))
    index_all(site.context, "copies")
    for shard in duplicates.plan(site.context):
        duplicates.compare(site.context, shard)
    duplicates.regroup(site.context)
    page = open_page("/browse")
    page.get_by_role("link", name="Near-duplicates").click()
    expect(page.get_by_role("heading", name="2 pictures")).to_be_visible()
    assert sorted(names(page)) == ["cover_008.jpg", "small.jpg"]
    keep_screenshot(page, "browse-groups")
    assert small in linked(page)
    site.context.catalog.delete([small], "test")
    duplicates.regroup(site.context)


def linked(page: Page) -> list[UUID]:
    links = tiles(page).locator("a").evaluate_all("all => all.map(one => one.getAttribute('href'))")
    return [UUID(link.rsplit("/", 1)[1]) for link in links]
