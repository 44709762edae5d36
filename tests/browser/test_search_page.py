"""The Search page: what a photo shows is found, drawn where it is, and told in words."""

import base64

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import Page, expect

from pipeline.samples import cover, cover_jpeg
from tests.browser.conftest import Open, Site, keep_screenshot

SHOWN = (3, 10, 21)
SIDE, WIDTH, HEIGHT = 480, 1700, 1000
STRANGER = 5007


@pytest.fixture(scope="module")
def table() -> tuple[bytes, list[NDArray[np.float64]]]:
    """A photo of three covers on a table, and the corners of each in its pixels."""
    photo = np.full((HEIGHT, WIDTH, 3), (120, 140, 160), np.uint8)
    places = []
    for number, (one, angle) in enumerate(zip(SHOWN, (-8, 5, 12), strict=True)):
        matrix = cv2.getRotationMatrix2D((SIDE / 2, SIDE / 2), angle, 1)
        matrix[:, 2] += (60 + number * 540, 120 + number * 80)
        cv2.warpAffine(cover(one, SIDE), matrix, (WIDTH, HEIGHT), photo, borderMode=cv2.BORDER_TRANSPARENT)
        corners = np.array([[0, 0, 1], [SIDE, 0, 1], [SIDE, SIDE, 1], [0, SIDE, 1]])
        places.append(corners @ matrix.T)
    return cv2.imencode(".jpg", photo)[1].tobytes(), places


def choose(page: Page, data: bytes, name: str = "photo.jpg") -> None:
    page.get_by_label("Choose a picture").set_input_files({"name": name, "mimeType": "image/jpeg", "buffer": data})


def drawn(page: Page) -> dict[str, NDArray[np.float64]]:
    """Image id -> corners of its polygon, in pixels of the query."""
    outlines = page.locator("polygon.outline").evaluate_all(
        "all => all.map(one => [one.dataset.of, one.getAttribute('points')])"
    )
    return {of: np.array([list(map(float, point.split(","))) for point in points.split()]) for of, points in outlines}


def ids(site: Site) -> dict[str, str]:
    found = site.context.catalog.find(site.images, ["key"])
    return {document["key"]: str(one) for one, document in found.items()}


def test_each_cover_of_a_photo_is_drawn_where_it_lies(
    site: Site, open_page: Open, table: tuple[bytes, list[NDArray[np.float64]]]
) -> None:
    data, places = table
    page = open_page("/search")
    choose(page, data)
    expect(page.get_by_role("status")).to_contain_text("3 pictures found")
    keep_screenshot(page, "search-three")
    known = ids(site)
    wanted = {known[f"cover_{number:03}.jpg"]: place for number, place in zip(SHOWN, places, strict=True)}
    outlines = drawn(page)
    assert outlines.keys() == wanted.keys()
    for one, place in wanted.items():
        assert np.abs(outlines[one] - place).max() < 0.03 * WIDTH
        answer = page.locator("li.answer", has=page.locator(f"a[href='/ui/image/{one}']"))
        expect(answer).to_contain_text("sure")
        expect(answer).to_contain_text("points in the same place")

    # Only what lies in the rectangle around the second one, in the same place as before.
    frame = page.locator(".stage").bounding_box()
    assert frame is not None
    left, top = places[1].min(axis=0) - 15
    right, bottom = places[1].max(axis=0) + 15
    scale = frame["width"] / WIDTH
    page.mouse.move(frame["x"] + left * scale, frame["y"] + top * scale)
    page.mouse.down()
    page.mouse.move(frame["x"] + right * scale, frame["y"] + bottom * scale, steps=4)
    page.mouse.up()
    expect(page.get_by_role("status")).to_contain_text("1 picture found")
    [(one, outline)] = drawn(page).items()
    assert one == known[f"cover_{SHOWN[1]:03}.jpg"]
    assert np.abs(outline - places[1]).max() < 0.03 * WIDTH
    keep_screenshot(page, "search-part")

    # The keyboard moves the rectangle off it, and takes it away.
    part = page.get_by_role("group", name="Part to search for")
    part.focus()
    before = part.bounding_box()
    page.keyboard.press("ArrowDown")
    after = part.bounding_box()
    assert before is not None
    assert after is not None
    assert after["y"] > before["y"]
    page.keyboard.press("Escape")
    expect(page.get_by_role("status")).to_contain_text("3 pictures found")


def test_what_is_not_there_is_said_plainly_with_what_to_try(site: Site, open_page: Open) -> None:
    page = open_page("/search")
    # The smaller it is, the sooner every stage has looked at it.
    choose(page, cv2.imencode(".jpg", cover(STRANGER, 256))[1].tobytes())
    expect(page.get_by_role("heading", name="Not in the collection")).to_be_visible()
    expect(page.get_by_role("link", name="Add it to the collection")).to_be_visible()
    expect(page.get_by_text("Take the filters away")).to_be_hidden()
    keep_screenshot(page, "search-nothing")

    # Cover 4 has no label, so a label filters it out.
    page.get_by_role("button", name="Another picture").click()
    page.get_by_text("Only among some images").click()
    page.get_by_label("Label").fill("jazz")
    page.get_by_label("Label").blur()
    choose(page, cover_jpeg(4))
    expect(page.get_by_text("Take the filters away")).to_be_visible()
    page.get_by_label("Label").fill("")
    page.get_by_label("Label").blur()
    expect(page.get_by_role("status")).to_contain_text("1 picture found")


def test_a_picture_from_the_clipboard_in_mirror_writing(site: Site, open_page: Open) -> None:
    page = open_page("/search", "viewer", width="phone")
    flipped = cv2.imencode(".png", np.ascontiguousarray(cover(6)[:, ::-1]))[1].tobytes()
    page.evaluate(
        """data => {
          const bytes = Uint8Array.from(atob(data), one => one.charCodeAt(0)), carried = new DataTransfer();
          carried.items.add(new File([bytes], "clip.png", { type: "image/png" }));
          dispatchEvent(new ClipboardEvent("paste", { clipboardData: carried }));
        }""",
        base64.b64encode(flipped).decode(),
    )
    expect(page.get_by_role("listitem").filter(has_text="mirror image")).to_have_count(1)
    assert drawn(page).keys() == {ids(site)["cover_006.jpg"]}
    keep_screenshot(page, "search-mirrored")


def test_a_file_that_is_no_picture_and_one_with_nothing_on_it(open_page: Open) -> None:
    page = open_page("/search")
    choose(page, b"no picture at all")
    expect(page.get_by_text("photo.jpg cannot be read here")).to_be_visible()
    choose(page, cv2.imencode(".jpg", np.full((400, 400, 3), 200, np.uint8))[1].tobytes())
    expect(page.get_by_role("heading", name="This picture cannot be searched for")).to_be_visible()
    expect(page.get_by_text("photo.jpg cannot be read here")).to_be_hidden()


def test_a_link_searches_for_a_part_of_an_image(site: Site, open_page: Open) -> None:
    page = open_page(f"/search?image={site.images[0]}&part")
    expect(page.get_by_role("group", name="Part to search for")).to_be_focused()
    expect(page.get_by_role("heading", name="Not in the collection")).to_be_visible()
