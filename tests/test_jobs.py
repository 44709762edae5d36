"""Background jobs on real servers: one worker for each, another after a kill, and an end that says how it was."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from pipeline import jobs
from pipeline.annotation.importing import upload_key
from pipeline.context import Context
from pipeline.errors import BadSource
from pipeline.events import ImageEvent, image_id
from pipeline.stores.catalog import Document
from pipeline.stores.jobs import result_key
from tests.stores.test_catalog import at_once

EXPORT = {"format": "csv", "accepted": False, "label": None, "owner": None, "since": None, "until": None}
EXPORT["visible_to"] = None


def until(what: Callable[[], Any], seconds: float = 60) -> Any:
    """What `what` gives as soon as that is true."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


def queued(context: Context) -> Document:
    return context.jobs.add("export", "ann", EXPORT)


def now(context: Context, job: Document) -> Document:
    found = context.jobs.find(job["_id"])
    assert found is not None
    return found


def ended(context: Context, job: Document) -> Document:
    return until(lambda: (found := now(context, job))["state"] in ("done", "failed") and found)  # type: ignore[no-any-return]


@pytest.fixture
def at_a_crawl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks for jobs unless woken."""
    monkeypatch.setattr(jobs, "POLL_SECONDS", 10_000.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second without a heartbeat is enough for another to take over."""
    monkeypatch.setattr("pipeline.stores.jobs.STALE", timedelta(seconds=0.5))
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.1)


@pytest.fixture
def worker(context: Context) -> Iterator[jobs.Worker]:
    worker = jobs.Worker(context)
    yield worker
    worker.stop()


def test_of_many_workers_one_has_a_job_and_the_oldest_comes_first(context: Context) -> None:
    first, second = queued(context), queued(context)
    taken = [one["_id"] for one in at_once(8, lambda number: context.jobs.take()) if one]
    assert sorted(taken) == sorted([first["_id"], second["_id"]])
    third = queued(context)
    fourth = queued(context)
    assert [context.jobs.take()["_id"], context.jobs.take()["_id"]] == [third["_id"], fourth["_id"]]  # type: ignore[index]


def test_a_job_is_run_at_once_and_says_how_far_it_is(
    context: Context, worker: jobs.Worker, at_a_crawl: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def work(context: Context, job: Document, tell: Any) -> dict[str, int]:
        tell(3, 10)
        assert go_on.wait(30)
        tell(10, 10)
        return {"images": 10}

    monkeypatch.setitem(jobs.KINDS, "export", work)
    monkeypatch.setattr(jobs, "BEAT_SECONDS", 0.05)
    worker.start()
    job = queued(context)
    worker.wake()
    half = until(lambda: (found := now(context, job))["done"] and found)
    assert (half["state"], half["done"], half["total"]) == ("running", 3, 10)
    go_on.set()
    done = ended(context, job)
    assert (done["state"], done["done"], done["total"], done["result"]) == ("done", 10, 10, {"images": 10})


def test_a_job_that_cannot_be_done_says_why(
    context: Context, worker: jobs.Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(context: Context, job: Document, tell: Any) -> dict[str, int]:
        raise BadSource("The zip is damaged; pack it again.")

    monkeypatch.setitem(jobs.KINDS, "export", work)
    job = queued(context)
    worker.start()
    assert (ended(context, job)["state"], now(context, job)["error"]) == (
        "failed",
        "The zip is damaged; pack it again.",
    )


def test_an_error_that_may_pass_is_tried_again_but_not_for_ever(
    context: Context, worker: jobs.Worker, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def work(context: Context, job: Document, tell: Any) -> dict[str, int]:
        tries.append(job["tries"])
        if job["arguments"].get("passes") and len(tries) == 2:
            return {"images": 0}
        raise ConnectionError("away")

    monkeypatch.setitem(jobs.KINDS, "export", work)
    worker.start()
    job = context.jobs.add("export", "ann", {"passes": True})
    assert (ended(context, job)["state"], tries) == ("done", [1, 2])
    tries.clear()
    job = queued(context)
    assert (ended(context, job)["state"], tries) == ("failed", [1, 2, 3])
    assert str(job["_id"]) in now(context, job)["error"]


def test_a_worker_that_is_stopped_gives_its_job_back(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def work(context: Context, job: Document, tell: Any) -> dict[str, int]:
        begun.set()
        while True:
            tell(1, 2)
            time.sleep(0.01)

    monkeypatch.setitem(jobs.KINDS, "export", work)
    job = queued(context)
    first = jobs.Worker(context)
    first.start()
    assert begun.wait(30)
    first.stop()
    assert (now(context, job)["state"], now(context, job)["tries"]) == ("queued", 0)
    monkeypatch.setitem(jobs.KINDS, "export", lambda context, job, tell: {"images": 1})
    second = jobs.Worker(context)
    second.start()
    assert ended(context, job)["state"] == "done"
    second.stop()


def test_who_was_thought_dead_changes_nothing_any_more(
    context: Context, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queued(context)
    slow = context.jobs.take()
    assert slow is not None
    other = until(context.jobs.take)
    assert other["_id"] == job["_id"]
    assert not context.jobs.beat(slow, 5, 10)
    assert not context.jobs.finish(slow, 10, {"images": 10})
    assert not context.jobs.fail(slow, "no")
    context.jobs.release(slow)
    assert now(context, job)["worker"] == other["worker"]
    assert context.jobs.finish(other, 1, {"images": 1})
    assert now(context, job)["result"] == {"images": 1}
    # And it notices, so it stops working.
    monkeypatch.setattr(jobs, "BEAT_SECONDS", 0.01)

    def work(context: Context, job: Document, tell: Any) -> dict[str, int]:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            tell(0, None)
        raise AssertionError("it was not told")

    monkeypatch.setitem(jobs.KINDS, "export", work)
    jobs.run(context, slow, threading.Event())
    assert now(context, job)["result"] == {"images": 1}


def test_jobs_and_what_they_made_are_removed_after_some_days(context: Context) -> None:
    bucket = context.settings.sleeve_bucket
    job, waiting = queued(context), queued(context)
    taken = context.jobs.take()
    assert taken is not None
    jobs.run(context, taken, threading.Event())
    context.objects.put(bucket, upload_key(uuid4()), b"of a request that broke off")
    context.objects.put(bucket, "segments/1", b"not of a job")

    def keys() -> list[str]:
        return [stored.key for page in context.objects.pages(bucket) for stored in page]

    jobs.tidy(context, datetime.now(UTC) - timedelta(hours=1))
    assert now(context, job)["state"] == "done"
    assert len(keys()) == 3
    jobs.tidy(context, datetime.now(UTC) + timedelta(hours=1))
    assert context.jobs.find(job["_id"]) is None
    assert now(context, waiting)["state"] == "queued"
    assert keys() == ["segments/1"]


# Kills

RUN_ONE = """
import sys, threading
from pipeline import jobs
from pipeline.context import Context
from pipeline.settings import Settings
jobs.BEAT_SECONDS = 0.1
context = Context(Settings())
job = context.jobs.take()
{before}
print("taken", flush=True)
jobs.run(context, job, threading.Event())
"""
# An export that stops in the middle, with parts of it sent, and waits to be killed.
HANG = """
from pipeline.annotation import export
records = export.labelled
def some(*arguments):
    for number, record in enumerate(records(*arguments)):
        if number == 30:
            print("half", flush=True)
            threading.Event().wait()
        yield record
export.labelled = some
"""


@contextmanager
def process(before: str = "") -> Iterator[subprocess.Popen[str]]:
    """A replica that runs one job; it is killed at the end, however the test goes."""
    command = [sys.executable, "-c", RUN_ONE.format(before=before)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def labelled(context: Context, count: int, label: str | None = None) -> list[UUID]:
    events = [ImageEvent("photos", f"{number}.jpg", "etag", label=label) for number in range(count)]
    context.catalog.register(events)
    context.catalog.images.update_many({}, {"$set": {"status": "indexed", "width": 640, "height": 480}})
    return [image_id(event.bucket, event.key, "etag") for event in events]


def test_an_export_survives_the_kill_of_its_worker(environment: Context, worker: jobs.Worker, impatient: None) -> None:
    labelled(environment, 60, "jazz")
    whole = queued(environment)
    taken = environment.jobs.take()
    assert taken is not None
    jobs.run(environment, taken, threading.Event())
    job = queued(environment)
    with process(HANG) as first:
        assert first.stdout is not None
        assert [first.stdout.readline().strip() for _ in range(2)] == ["taken", "half"]
        # As long as it lives, nobody takes the job away.
        began = time.monotonic()
        while time.monotonic() < began + 1.5:
            assert environment.jobs.take() is None
            time.sleep(0.1)
        first.kill()
    bucket = environment.settings.sleeve_bucket
    assert not environment.objects.exists(bucket, result_key(job))
    worker.start()
    done = ended(environment, job)
    assert (done["state"], done["result"], done["tries"]) == ("done", {"images": 60}, 2)
    assert environment.objects.get(bucket, result_key(job)) == environment.objects.get(bucket, result_key(whole))


def test_an_import_survives_the_kill_of_its_worker(environment: Context, worker: jobs.Worker, impatient: None) -> None:
    context = environment
    images = labelled(context, 150)
    context.users.add("ann", None, "annotator")
    rows = ["file_name,label", *(f"{number}.jpg,jazz" for number in range(150))]
    job = uuid4()
    context.objects.put(context.settings.sleeve_bucket, upload_key(job), "\n".join(rows).encode())
    added = context.jobs.add("import", "ann", {"format": "csv", "replace": False, "visible_to": "ann"}, job)
    decided = context.catalog.database["decisions"]
    with process() as first:
        until(lambda: decided.count_documents({}) >= 20)
        first.kill()
    assert 20 <= decided.count_documents({}) < 150
    worker.start()
    done = ended(context, added)
    assert done["state"] == "done", done["error"]
    # The counts are those of the whole import, and each image was decided on once.
    assert {name: number for name, number in done["result"].items() if number} == {"matched": 150, "changed": 150}
    assert decided.count_documents({}) == 150
    found = context.catalog.find(images)
    assert {tuple(document["labels"]) for document in found.values()} == {("jazz",)}
    assert {document["revision"] for document in found.values()} == {1}
