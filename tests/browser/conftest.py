"""The site in a process of its own, and headless Chromium in front of it.

Each page that a test opens is watched: an error in the browser's console fails the test. Screenshots go to
`.devstack/screenshots`, which CI keeps.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
import tenacity
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from devstack.stack import Stack
from pipeline.accounts.passwords import hasher
from pipeline.accounts.sessions import open_session
from pipeline.accounts.users import ROLES, Role
from pipeline.api.access import COOKIE
from pipeline.context import Context
from pipeline.events import ImageEvent
from pipeline.ingest import accept
from pipeline.samples import cover_jpeg
from pipeline.settings import ROOT, Settings
from pipeline.sources import Batch
from tests.steps import index_all

SCREENSHOTS = ROOT / ".devstack" / "screenshots"
PASSWORD = "correct horse battery"
LABELS = ("jazz", "rock", "folk")
COVERS = 24
BROKEN = "<b>broken</b>.jpg"
WIDTHS = {"wide": (1280, 800), "phone": (390, 844)}
Width = Literal["wide", "phone"]
# A search takes seconds on a machine that does other things as well.
expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def site(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Site"]:
    """The API and the pages over a database of their own with COVERS searchable covers, half of them labelled."""
    name = f"b-{uuid4().hex[:12]}"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    env = {
        **stack.env,
        "DATABASE_NAME": name,
        "S3_BUCKET": f"{name}-images",
        "SLEEVE_BUCKET": f"{name}-sleeve",
        "SLEEVE_HOME": str(tmp_path_factory.mktemp("site")),
        "SLEEVE_API_URL": url,
    }
    context = Context(Settings.of(env))
    for bucket in (env["S3_BUCKET"], env["SLEEVE_BUCKET"]):
        context.objects.client(bucket).create_bucket(Bucket=bucket)
    context.catalog.prepare()
    for role in ROLES:
        context.users.add(f"{role}-one", hasher().hash(PASSWORD), role)
    images = put_covers(context)
    log = tmp_path_factory.mktemp("log") / "api.log"
    command = [sys.executable, "-m", "uvicorn", "pipeline.api.app:app", "--port", url.rsplit(":")[-1]]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**os.environ, **env}, cwd=ROOT, stdout=output, stderr=output)
    try:
        await_answer(url, process, log)
        yield Site(url, context, images, log)
    finally:
        process.terminate()
        process.wait(20)
        context.catalog.client.drop_database(name)
        context.catalog.close()


def put_covers(context: Context) -> list[UUID]:
    bucket = context.settings.require("s3_bucket")
    events = []
    for number in range(COVERS):
        etag = context.objects.put(bucket, f"cover_{number:03}.jpg", cover_jpeg(number), "image/jpeg")
        label = LABELS[number % len(LABELS)] if number % 2 else None
        events.append(ImageEvent(bucket, f"cover_{number:03}.jpg", etag, label=label))
    etag = context.objects.put(bucket, BROKEN, b"no picture at all", "image/jpeg")
    ids = accept(context, Batch(events, taken=len(events))).images
    accept(context, Batch([ImageEvent(bucket, BROKEN, etag)], taken=1))
    index_all(context, "browser")
    return sorted(ids)


def await_answer(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    def ask() -> None:
        assert process.poll() is None, log.read_text()
        httpx.get(f"{url}/readyz").raise_for_status()

    tenacity.Retrying(stop=tenacity.stop_after_delay(60), wait=tenacity.wait_fixed(0.2), reraise=True)(ask)


class Site:
    """Where the site is, what is in it, and how to be somebody there."""

    def __init__(self, url: str, context: Context, images: list[UUID], log: Path) -> None:
        self.url, self.context, self.images, self.log = url, context, images, log

    def cookie(self, role: Role) -> str:
        """The secret of a fresh session of the user with this role."""
        user = self.context.users.find(f"{role}-one")
        assert user is not None
        return open_session(self.context.users, user)


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, site: Site) -> Iterator[Open]:
    """Open a page as somebody: `open_page("/browse", "annotator", width="phone", dark=True)`; role None is nobody.

    After the test, none of its pages may have written an error to the browser's console. What a REST route refuses is
    noted there by the browser, and told to the person by the page.
    """
    contexts = []
    errors: list[str] = []

    def note(message: ConsoleMessage) -> None:
        path = urlsplit(message.location.get("url", "")).path
        refused = message.text.startswith("Failed to load") and not path.startswith(("/ui", "/image/download"))
        if message.type == "error" and not refused:
            errors.append(f"{message.location.get('url')}: {message.text}")

    def opened(path: str, role: Role | None = "annotator", width: Width = "wide", dark: bool = False) -> Page:
        wide, high = WIDTHS[width]
        context = browser.new_context(
            viewport={"width": wide, "height": high},
            color_scheme="dark" if dark else "light",
            base_url=site.url,
            reduced_motion="reduce",
        )
        contexts.append(context)
        if role is not None:
            context.add_cookies([{"name": COOKIE, "value": site.cookie(role), "url": site.url}])
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"/ui{path}")
        page.wait_for_load_state("networkidle")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == []


def keep_screenshot(page: Page, name: str) -> Path:
    """Keep what the page looks like now, all of its length."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    return path


def serious_violations(page: Page) -> list[str]:
    """What axe-core finds on the page and calls serious or critical."""
    found = Axe().run(page)["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
