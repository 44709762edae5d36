"""kill -9 in the middle of extraction, of the task and of the scheduler: the result is that of an undisturbed run."""

import contextlib
import os
import signal
from pathlib import Path
from uuid import UUID

import psutil

from bench.acceptance import await_that
from devstack.stack import Stack
from pipeline import ingest
from pipeline.context import Context
from pipeline.features.photo import Photo
from pipeline.index.reader import Reader
from pipeline.indexing import generations
from pipeline.samples import cover, cover_jpeg, snapshot_jpeg
from pipeline.sources.prefix import PrefixSource
from tests.steps import index_all

FIRST, COUNT = 800, 150
PREFIX = "kills/"
TIMES = {"created_at", "updated_at", "indexed_at"}
# Which shard and segment an image is in depends on what else waited at the time, and is no user's business.
PLACES = {"shard", "segment", "source", "labels"}
# Another DAG, find_duplicates, writes these whenever its hour comes.
GROUPS = {"compared", "group", "group_size"}


def extracting(whole: Stack) -> list[psutil.Process]:
    """The processes that run tasks now: children of the scheduler that have a task's id in their title."""
    pid = next(line.pid for line in whole.status() if line.name == "airflow-scheduler")
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "airflow worker -- " in " ".join(process.cmdline()):
                found.append(process)
    return found


def counts(context: Context) -> dict[str, int]:
    states = [one["status"] for one in context.catalog.images.find({"key": {"$regex": f"^{PREFIX}"}}, {"status": 1})]
    return {state: states.count(state) for state in set(states)}


def test_killed_task_and_killed_scheduler(whole: Stack, installed: Context, imported: dict, tmp_path: Path) -> None:
    bucket = installed.settings.require("s3_bucket")
    for number in range(FIRST, FIRST + COUNT):
        installed.objects.put(bucket, f"{PREFIX}cover_{number}.jpg", cover_jpeg(number))

    await_that(lambda: counts(installed).get("collected", 0) > 0, "images are collected")
    await_that(lambda: bool(extracting(whole)), "a task runs")
    for process in extracting(whole):
        os.kill(process.pid, signal.SIGKILL)
    await_that(lambda: bool(extracting(whole)), "the task runs again")
    whole.kill("airflow-scheduler")
    assert counts(installed).get("indexed", 0) < COUNT, "too late: nothing was left to be disturbed"
    whole.start_server("airflow-scheduler")
    await_that(lambda: counts(installed) == {"indexed": COUNT}, "all images are indexed")

    undisturbed = run_undisturbed(installed, bucket, tmp_path)
    assert export(installed) == export(undisturbed)
    for number in range(FIRST, FIRST + COUNT, 10):
        photo = snapshot_jpeg(cover(number), seed=number)
        assert answer(installed, photo) == answer(undisturbed, photo) is not None


def run_undisturbed(installed: Context, bucket: str, home: Path) -> Context:
    """The same objects through the same steps, one after another, into a catalogue and a bucket of their own."""
    own = {"database_name": "undisturbed", "sleeve_bucket": "undisturbed", "sleeve_home": home}
    context = Context(installed.settings.model_copy(update={**own, "kafka_bootstrap_servers": None}))
    context.catalog.prepare()
    context.objects.client(context.settings.sleeve_bucket).create_bucket(Bucket=context.settings.sleeve_bucket)
    source = PrefixSource(f"s3://{bucket}/{PREFIX}", context.catalog, context.objects)
    assert sum(accepted.new for accepted in ingest.import_source(context, source, None, None, None)) == COUNT
    index_all(context, "undisturbed")
    return context


def export(context: Context) -> list[dict]:
    found = context.catalog.images.find({"key": {"$regex": f"^{PREFIX}"}}).sort("_id", 1)
    return [{name: value for name, value in one.items() if name not in TIMES | PLACES | GROUPS} for one in found]


def answer(context: Context, photo: bytes) -> tuple[UUID, int, bytes] | None:
    """The best answer, with all that geometry says of it.

    Not its score, which also asks how many votes other images have: the whole installation holds other covers as well.
    """
    with Reader(generations(context)) as reader:
        matches = reader.search(Photo(photo, context.settings).features, 1, context.settings.similarity_threshold)
    if not matches:
        return None
    return matches[0].image_id, matches[0].geometry.inliers, matches[0].geometry.homography.tobytes()
