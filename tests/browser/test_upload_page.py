"""The Upload page: each file says how far it is until it can be searched for, or why it cannot be used."""

import zipfile
from io import BytesIO
from uuid import UUID

from playwright.sync_api import Locator, Page, Route, expect

from pipeline.samples import cover_jpeg
from tests.browser.conftest import Open, Site, keep_screenshot
from tests.steps import index_all

HOSTILE = "<img src=x onerror=window.hacked=1>"
FIRST = 300


def file(name: str, content: bytes) -> dict[str, object]:
    return {"name": name, "mimeType": "", "buffer": content}


def choose(page: Page, *files: dict[str, object]) -> None:
    page.get_by_label("Choose files").set_input_files(files)  # type: ignore[arg-type]


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=name))


def archive() -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as writer:
        for number in (1, 2):
            writer.writestr(f"soul/{number}.jpg", cover_jpeg(FIRST + number))
        writer.writestr("soul/bad.jpg", b"no picture at all")
    return packed.getvalue()


def test_files_are_followed_until_they_are_searchable(site: Site, open_page: Open) -> None:
    page = open_page("/upload")
    page.get_by_label("Label for what you add next").fill(HOSTILE)
    page.get_by_label("Private").check()
    choose(page, file(f"{HOSTILE}.jpg", cover_jpeg(FIRST)))
    page.get_by_label("Label for what you add next").fill("")
    choose(page, file("box.zip", archive()), file("broken.jpg", b"no picture at all"), file("notes.txt", b"hello"))
    one, box = row(page, HOSTILE), row(page, "box.zip")
    expect(one).to_contain_text("Received")
    expect(box).to_contain_text("0 of 2 pictures searchable")
    expect(row(page, "broken.jpg")).to_contain_text("Not usable")
    expect(row(page, "notes.txt")).to_contain_text("Sleeve reads JPEG, PNG and WebP")
    box.get_by_text("1 file refused").click()
    expect(box).to_contain_text("soul/bad.jpg")
    keep_screenshot(page, "upload-going")

    index_all(site.context, "upload")
    expect(one).to_contain_text("Searchable")
    expect(box).to_contain_text("2 of 2 pictures searchable")
    expect(page.get_by_role("status")).to_have_text("2 searchable · 2 refused")
    page.reload()
    expect(row(page, HOSTILE)).to_contain_text("Searchable")
    keep_screenshot(page, "upload-done")
    assert page.evaluate("window.hacked") is None

    link = row(page, HOSTILE).get_by_role("link").get_attribute("href")
    assert link is not None
    found = site.context.catalog.find([UUID(link.rsplit("/", 1)[1])]).popitem()[1]
    assert (found["labels"], found["private"], found["owner"]) == ([HOSTILE], True, "annotator-one")
    folder = site.context.catalog.images.find_one({"original_filename": "1.jpg"})
    assert folder is not None
    assert folder["labels"] == ["soul"]


def test_what_does_not_get_through_is_sent_again_and_what_hangs_is_cancelled(site: Site, open_page: Open) -> None:
    page = open_page("/upload")
    held: list[Route] = []
    page.route("**/image/upload", lambda route: held.append(route))
    choose(page, *(file(f"{number}.jpg", cover_jpeg(FIRST + 10 + number)) for number in range(4)))
    # Three at a time.
    expect(page.get_by_text("Sending, 0 %")).to_have_count(3)
    expect(row(page, "3.jpg")).to_contain_text("Waiting to be sent")
    row(page, "0.jpg").get_by_role("button", name="Cancel").click()
    expect(row(page, "0.jpg")).to_have_count(0)
    expect(row(page, "3.jpg")).to_contain_text("Sending")

    for route in held[1:]:
        route.abort()
    page.unroute("**/image/upload")
    expect(page.get_by_text("The connection broke")).to_have_count(3)
    row(page, "1.jpg").get_by_role("button", name="again").click()
    expect(row(page, "1.jpg")).to_contain_text("Received")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("Received")).to_have_count(3)
    assert site.context.catalog.images.count_documents({"original_filename": "0.jpg"}) == 0


def test_a_file_that_is_too_large_is_not_sent(site: Site, open_page: Open) -> None:
    page = open_page("/upload")
    page.evaluate(
        """() => {
          const file = new File(["x"], "large.jpg"), event = new ClipboardEvent("paste");
          Object.defineProperty(file, "size", { value: 2 ** 40 });
          Object.defineProperty(event, "clipboardData", { value: { files: [file] } });
          dispatchEvent(event);
        }"""
    )
    expect(row(page, "large.jpg")).to_contain_text("It has 1024 GB; 64 MB is the most.")
