"""The worker of background jobs: one thread in each replica of the API, one job at a time.

A job survives its worker: where that is killed, the heartbeat stops, and another replica takes the job over, from its
beginning; what it does may be done twice. The same happens, a few times, after errors that may pass (a server is down).
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from pymongo.errors import PyMongoError

from pipeline.annotation.export import export_job
from pipeline.annotation.importing import import_job
from pipeline.context import Context
from pipeline.errors import SleeveError
from pipeline.stores.catalog import Document
from pipeline.stores.jobs import FOLDERS, MAX_TRIES, Jobs, Tell
from pipeline.stores.multipart import drop_unfinished

log = logging.getLogger(__name__)

Work = Callable[[Context, Document, Tell], dict[str, int]]

KINDS: dict[str, Work] = {"export": export_job, "import": import_job}
POLL_SECONDS = 5.0
BEAT_SECONDS = 3.0
STOP_SECONDS = 10.0
KEEP = timedelta(days=7)
TIDY_SECONDS = 3600.0


class Interrupted(Exception):
    """The worker is being stopped, or somebody else has the job: leave off at once, whatever state it is in."""


class Worker:
    """Takes jobs and runs them, until it is stopped."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="jobs", daemon=True)
        # Replicas that start together need not tidy up together.
        self._tidy_at = time.monotonic() + random.uniform(0, TIDY_SECONDS)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End; a job that runs is given back for another replica."""
        self._stopping.set()
        self._woken.set()
        self._thread.join(STOP_SECONDS)

    def wake(self) -> None:
        """There is a new job: do not wait for the next look."""
        self._woken.set()

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                busy = self.run_one()
                if time.monotonic() > self._tidy_at:
                    self._tidy_at = time.monotonic() + TIDY_SECONDS
                    tidy(self._context, datetime.now(UTC) - KEEP)
            except Exception:
                # Nobody else would start the thread again, and what is wrong may pass.
                log.exception("Looking for jobs failed; trying again in some seconds.")
                busy = False
            if not busy:
                self._woken.wait(POLL_SECONDS * random.uniform(0.5, 1.5))
                self._woken.clear()

    def run_one(self) -> bool:
        """Run one job, if there is one to run."""
        job = self._context.jobs.take()
        if job is not None:
            run(self._context, job, self._stopping)
        return job is not None


def run(context: Context, job: Document, stopping: threading.Event) -> None:
    """Run a job that was taken, to its end."""
    jobs = context.jobs
    if job["tries"] > MAX_TRIES:
        jobs.fail(
            job, f"It broke off {MAX_TRIES} times. The server's log says why, under {job['_id']}; then try again."
        )
        return
    with _Heart(jobs, job, stopping) as heart:
        try:
            result = KINDS[job["kind"]](context, job, heart.tell)
            jobs.finish(job, heart.done, result)
        except Interrupted:
            jobs.release(job)
        except SleeveError as error:
            jobs.fail(job, str(error))
        except Exception:
            # Left as it is: when its heartbeat is stale it is tried again.
            log.exception("job %s (%s) broke off, try %d", job["_id"], job["kind"], job["tries"])


def tidy(context: Context, before: datetime) -> None:
    """Remove jobs from before then, with everything that was stored for them."""
    bucket, objects = context.settings.sleeve_bucket, context.objects
    for folder in FOLDERS:
        for page in objects.pages(bucket, folder):
            for stored in page:
                if stored.modified < before:
                    objects.delete(bucket, stored.key)
        drop_unfinished(objects, bucket, folder, before)
    # Last: killed in between, whoever looks at the job still finds it, and is told that its result is gone.
    context.jobs.forget(before)


class _Heart:
    """Says every few seconds that a job is worked on, and how far it is."""

    def __init__(self, jobs: Jobs, job: Document, stopping: threading.Event) -> None:
        self._jobs, self._job, self._stopping = jobs, job, stopping
        self.done, self._total = 0, job["total"]
        self._lost = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def tell(self, done: int, total: int | None) -> None:
        self.done, self._total = done, total
        if self._lost or self._stopping.is_set():
            raise Interrupted

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_SECONDS):
            try:
                self._lost = not self._jobs.beat(self._job, self.done, self._total)
            except PyMongoError as error:
                log.warning("job %s: no heartbeat: %s", self._job["_id"], error)
