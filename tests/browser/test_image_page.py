"""The Image page: from near, labelled by several people at once, given away, and deleted."""

from uuid import UUID, uuid4

import cv2
from playwright.sync_api import Page, expect

from pipeline.annotation import decisions
from pipeline.annotation.said import Box, Said
from pipeline.samples import cover, cover_jpeg
from pipeline.uploads import Given, take_in
from tests.browser.conftest import Open, Site, keep_screenshot

HOSTILE = "<img src=x onerror=window.hacked=1>"
FIRST = 500
# Which part of the picture is in the middle of the frame, and the finest level of the tiles that are there.
MIDDLE = """() => {
  const { left, top, width, height } = document.querySelector(".zoom-frame").getBoundingClientRect();
  const [x, y] = [left + width / 2, top + height / 2];
  const world = document.querySelector(".zoom-world").getBoundingClientRect();
  const covers = (box) => box.left <= x && x < box.right && box.top <= y && y < box.bottom;
  const tiles = [...document.querySelectorAll(".zoom-tile")].filter(one => covers(one.getBoundingClientRect()));
  const level = Math.max(...tiles.map(one => one.style.zIndex));
  return { x: (x - world.left) / world.width, y: (y - world.top) / world.height, level };
}"""


def own(site: Site, number: int, name: str = "own.jpg") -> UUID:
    return take_in(site.context, cover_jpeg(FIRST + number), name, Given("annotator-one", "before"))


def labels(page: Page) -> list[str]:
    chips = page.get_by_role("region", name="Labels").locator(".chip")
    return [text.split("\n")[0] for text in chips.all_inner_texts()]


def test_a_huge_picture_from_near(site: Site, open_page: Open) -> None:
    huge = cv2.imencode(".jpg", cv2.resize(cover(FIRST, 1024), (6000, 4000)))[1].tobytes()
    page = open_page(f"/image/{take_in(site.context, huge, 'huge.jpg', Given('annotator-one'))}")
    expect(page.get_by_role("heading", name="huge.jpg")).to_be_visible()
    picture, frame = page.locator(".zoom[data-scale]"), page.get_by_role("group", name="Picture.")
    whole = float(picture.get_attribute("data-scale") or 0)
    # Far away, the small rendition is enough.
    expect(page.locator(".zoom-tile")).to_have_count(0)
    frame.focus()
    for _ in range(6):
        page.keyboard.press("+")
    near = float(picture.get_attribute("data-scale") or 0)
    assert near > 8 * whole
    page.wait_for_function(
        "() => { const all = [...document.querySelectorAll('.zoom-tile')];"
        " return all.length && all.every(one => one.complete && one.naturalWidth); }"
    )
    # What is in the middle stays there, and there is a tile of the last level.
    middle = page.evaluate(MIDDLE)
    assert abs(middle["x"] - 0.5) < 0.01
    assert abs(middle["y"] - 0.5) < 0.01
    assert middle["level"] == 13
    keep_screenshot(page, "image-near")
    page.keyboard.press("0")
    assert float(picture.get_attribute("data-scale") or 0) == whole


def test_nobodys_label_is_lost(site: Site, open_page: Open) -> None:
    one = own(site, 1, f"{HOSTILE}.jpg")
    box: Box = {"id": "", "label": "logo", "x": 0.1, "y": 0.2, "width": 0.5, "height": 0.25}
    admin = site.context.users.find("admin-one")
    assert admin is not None
    decisions.label(site.context, admin, one, 0, Said(["before"], [box]))
    page = open_page(f"/image/{one}")
    expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    drawn = page.locator(".zoom-marks rect").bounding_box()
    base = page.locator(".zoom-base").bounding_box()
    assert drawn is not None
    assert base is not None
    assert abs((drawn["x"] - base["x"]) / base["width"] - 0.1) < 0.01
    assert abs(drawn["height"] / base["height"] - 0.25) < 0.02

    page.get_by_label("Add a label").fill(HOSTILE)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name=f"Remove {HOSTILE}")).to_be_visible()
    # Somebody else decides while the page is open.
    decisions.label(site.context, admin, one, 2, Said(["before", "soul"], [box]))
    page.get_by_label("Add a label").fill("mine")
    page.keyboard.press("Enter")
    told = page.get_by_role("region", name="Labels").get_by_role("status")
    expect(told).to_contain_text("Not saved. admin-one changed the labels to “before”, “soul” meanwhile.")
    assert labels(page) == ["before", "soul"]
    keep_screenshot(page, "image-conflict")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("button", name="Remove mine")).to_be_visible()
    page.get_by_role("button", name="Remove before").click()
    expect(page.get_by_role("button", name="Remove before")).to_have_count(0)
    expect(told).to_be_empty()

    found = site.context.catalog.find([one])[one]
    assert found["labels"] == ["soul", "mine"]
    assert [each["label"] for each in found["boxes"]] == ["logo"]
    said = page.get_by_role("region", name="History").get_by_role("listitem").all_inner_texts()
    assert [line.split()[0] for line in said] == [
        "annotator-one",
        "annotator-one",
        "admin-one",
        "annotator-one",
        "admin-one",
    ]
    assert HOSTILE in said[3]
    assert page.evaluate("window.hacked") is None


def test_private_and_then_gone(site: Site, open_page: Open) -> None:
    one = own(site, 2)
    page = open_page(f"/image/{one}")
    page.get_by_label("Private").check()
    expect(page.get_by_label("Private")).to_be_checked()
    stranger = open_page(f"/image/{one}", "viewer")
    expect(stranger.get_by_text("No such image")).to_be_visible()
    assert site.context.catalog.find([one])[one]["private"] is True

    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert site.context.catalog.alive([one]) == {one}
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.wait_for_url("**/ui/browse")
    assert site.context.catalog.alive([one]) == set()


def test_who_may_not_change_it_sees_it_all_the_same(site: Site, open_page: Open) -> None:
    page = open_page(f"/image/{site.images[3]}", "viewer")
    expect(page.get_by_role("region", name="Details")).to_contain_text("Searchable")
    for name in ("Delete", "Add", "Remove"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download original").click()
    assert download.value.suggested_filename == site.context.catalog.find([site.images[3]]).popitem()[1]["key"]
    expect(open_page(f"/image/{uuid4()}", "viewer").get_by_text("No such image")).to_be_visible()
