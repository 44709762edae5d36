"""The whole job in a browser, by somebody who has no terminal: sign up, upload, search, label, review, export, leave.

Everything behind the pages is real: Airflow takes the uploads in, and the index suggests labels.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from uuid import UUID

import cv2
import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from bench.acceptance import await_that
from devstack.stack import Stack
from pipeline.context import Context
from pipeline.events import image_id
from pipeline.samples import cover, cover_jpeg, snapshot_jpeg
from tests.browser.conftest import keep_screenshot

UPLOADS, TO_LABEL = 5, 10
# The first cover that no other test brings in.
FIRST = 300
PASSWORD = "a few words make a good one"
SOON = 120_000
# Airflow takes both cores at times.
expect.set_options(timeout=30_000)


@pytest.fixture
def page(browser: Browser, whole: Stack) -> Iterator[Page]:
    context = browser.new_context(base_url=whole.env["SLEEVE_API_URL"], accept_downloads=True)
    page = context.new_page()
    errors: list[str] = []
    # What a page was still asking for while its person signed out is refused, and the browser notes that.
    refused = "the server responded with a status of 401"
    page.on("console", lambda one: errors.append(one.text) if one.type == "error" and refused not in one.text else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    keep_screenshot(page, "story-end")
    context.close()
    assert errors == []


def enter(page: Page, name: str, password: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Home")).to_be_visible()


def leave(page: Page) -> None:
    page.locator("header button").last.click()
    page.get_by_text("Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def go(page: Page, name: str) -> None:
    page.locator("nav").get_by_text(name, exact=True).click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()


def smaller(number: int) -> bytes:
    """A cover, as somebody else might have it: other bytes, the same picture."""
    pixels = cv2.resize(cover(number), (640, 640), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()


@pytest.fixture
def unlabelled(installed: Context) -> list[UUID]:
    """Covers that a producer puts into the bucket, searchable; of the first ones a person has copies."""
    bucket = installed.settings.require("s3_bucket")
    ids = []
    for number in range(FIRST, FIRST + TO_LABEL):
        key = f"producer/{number}.jpg"
        ids.append(image_id(bucket, key, installed.objects.put(bucket, key, cover_jpeg(number), "image/jpeg")))

    def searchable() -> bool:
        found = installed.catalog.find(ids, ["status"]).values()
        return [one["status"] for one in found] == ["indexed"] * TO_LABEL

    await_that(searchable, "the producer's covers are searchable")
    return ids


def test_the_whole_job(page: Page, whole: Stack, installed: Context, unlabelled: list[UUID]) -> None:
    page.goto("/")
    page.get_by_text("Make an account").click()
    enter(page, "ann.other", PASSWORD)

    go(page, "Upload")
    page.get_by_label("Label for what you add next").fill("soul")
    pictures = {f"mine {one}.jpg": smaller(FIRST + one) for one in range(UPLOADS)}
    files = [{"name": name, "mimeType": "image/jpeg", "buffer": data} for name, data in pictures.items()]
    page.locator('input[type=file][accept*="image/*"][multiple]').set_input_files(files)
    expect(page.locator(".uploads").get_by_text("Searchable", exact=True)).to_have_count(UPLOADS, timeout=SOON)

    go(page, "Search")
    snapshot = {"name": "phone.jpg", "mimeType": "image/jpeg", "buffer": snapshot_jpeg(cover(FIRST + 3), seed=3)}
    page.locator("input[type=file]").last.set_input_files(snapshot)
    expect(page.locator(".found")).to_contain_text(re.compile(rf"mine 3\.jpg|{FIRST + 3}\.jpg"), timeout=SOON)

    go(page, "Annotate")
    accepted = label_some(page, TO_LABEL)
    assert accepted >= 1, "the index suggested nothing"
    decided = list(installed.annotations._decisions.find({"by": "ann.other"}))
    assert len(decided) == TO_LABEL
    leave(page)

    page.goto("/ui/")
    enter(page, whole.env["SLEEVE_USERNAME"], whole.env["SLEEVE_PASSWORD"])
    go(page, "Annotate")
    page.locator(".annotate-modes").get_by_text("Review").click()
    expect(page.get_by_role("button", name="Reject")).to_be_visible()
    reviewed = shown(page)
    page.keyboard.press("a")
    page.wait_for_function("old => !document.querySelector(`.annotate-title a[href$='${old}']`)", arg=str(reviewed))
    document = installed.catalog.find([reviewed])[reviewed]
    assert (document["stage"], document["reviewed_by"]) == ("accepted", whole.env["SLEEVE_USERNAME"])

    exported = export(page)
    names = {image["file_name"].split(".")[0] for image in exported["images"]}
    assert {str(one["image"]) for one in decided if one["kind"] == "label"} <= names
    leave(page)
    answer = httpx.get(f"{whole.env['SLEEVE_API_URL']}/image/{reviewed}")
    assert answer.status_code == 401


def shown(page: Page) -> UUID:
    link = page.locator(".annotate-title a")
    expect(link).to_be_visible()
    return UUID((link.get_attribute("href") or "").rsplit("/", 1)[1])


def label_some(page: Page, count: int) -> int:
    """Label pictures by keys alone; returns for how many a suggestion was accepted."""
    accepted = 0
    for _ in range(count):
        image = shown(page)
        expect(page.locator(".annotate-side")).not_to_have_attribute("aria-busy", "true", timeout=SOON)
        if page.locator(".annotate-suggestion").count():
            accepted += 1
        else:
            page.keyboard.press("/")
            page.keyboard.type("jazz")
            page.keyboard.press("Enter")
        page.keyboard.press("Space")
        page.wait_for_function("old => !document.querySelector(`.annotate-title a[href$='${old}']`)", arg=str(image))
    return accepted


def export(page: Page) -> dict[str, list[dict[str, str]]]:
    """The COCO file that the page lets one download."""
    go(page, "Export and import")
    page.get_by_role("button", name="Export", exact=True).click()
    with page.expect_download(timeout=SOON) as download:
        page.get_by_role("link", name="Download").first.click(timeout=SOON)
    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".json"))
        found: dict[str, list[dict[str, str]]] = json.loads(archive.read(name))
        return found
