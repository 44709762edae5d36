"""How much of bare SIFT's speed is left when everything around it happens too?

A fresh stack of real servers is started, the images are put into the bucket, and one message for each is sent to Kafka.
The clock runs from the first message to the publication of the generation that holds them all: messages, catalogue,
fetching, hashing, descriptors, segments, index, recall, and Airflow's own time. The same images are decoded, resized
and described by bare OpenCV, on the same cores in the same run.
"""

import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import psutil
from confluent_kafka import Producer
from rich.progress import Progress

from bench.bare import bare_sift
from devstack.stack import DEFAULT_STATE, Stack
from pipeline.context import Context
from pipeline.indexing import generations
from pipeline.samples import write_covers
from pipeline.settings import Settings
from pipeline.sources.kafka import KafkaSource

COVERS = DEFAULT_STATE.parent / "covers"
SERVERS = ("kafka", "mongo", "s3")
BARE_IMAGES = 2000
UPLOADS = 8
PATIENCE = 3600.0


def run(images: int, bars: Progress) -> dict[str, float | int]:
    """Take in `images` sample covers. Returns images_per_s, bare_images_per_s, ratio and peak_task_mb among others."""
    bar = bars.add_task("making covers", total=images)
    covers = []
    for path in write_covers(COVERS, images):
        covers.append(path)
        bars.advance(bar)
    bare = _bare_images_per_s(covers[:BARE_IMAGES])
    with tempfile.TemporaryDirectory(prefix="sleeve-bench-") as folder:
        state = Path(folder)
        with Stack(state, SERVERS) as servers:
            context = Context(Settings.of(servers.env))
            context.catalog.prepare()
            messages = _upload(context, covers, bars)
            with Stack(state, (*SERVERS, "airflow")) as stack, peak_of_tasks(stack) as peak:
                seconds, runs = _ingest(context, messages, bars)
    through = images / seconds
    return {
        "images": images,
        "seconds": round(seconds, 1),
        "images_per_s": round(through, 1),
        "bare_images_per_s": round(bare, 1),
        "ratio": round(through / bare, 3),
        "peak_task_mb": round(peak.anonymous / 1e6),
        "peak_task_resident_mb": round(peak.resident / 1e6),
        "generations": runs,
        "cores": os.cpu_count() or 1,
    }


def _describe(path: Path) -> int:
    return bare_sift(path.read_bytes(), side=512, num_features=500)


def _bare_images_per_s(paths: list[Path]) -> float:
    with multiprocessing.get_context("spawn").Pool(initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        pool.map(_describe, paths[: 8 * (os.cpu_count() or 1)])  # imports and first calls are not what is measured
        began = time.monotonic()
        pool.map(_describe, paths, chunksize=16)
        return len(paths) / (time.monotonic() - began)


def _upload(context: Context, covers: list[Path], bars: Progress) -> list[bytes]:
    """Put the covers into the bucket and forget the events of that. Returns an S3 notification for each."""
    bucket = context.settings.require("s3_bucket")
    bar = bars.add_task("uploading", total=len(covers))

    def put(path: Path) -> bytes:
        key = f"bench/{path.name}"
        etag = context.objects.put(bucket, key, path.read_bytes(), "image/jpeg")
        bars.advance(bar)
        stored = {"bucket": {"name": bucket}, "object": {"key": key, "eTag": etag}}
        return json.dumps({"Records": [{"eventName": "ObjectCreated:Put", "s3": stored}]}).encode()

    with ThreadPoolExecutor(UPLOADS) as threads:
        messages = list(threads.map(put, covers))
    source = KafkaSource(context.settings)
    while (batch := source.drain(len(covers))).taken:
        source.commit(batch)
    source.close()
    return messages


def _ingest(context: Context, messages: list[bytes], bars: Progress) -> tuple[float, int]:
    """Send the messages, wait for the generation with all images. Returns seconds and how many generations it took."""
    bar = bars.add_task("through the DAGs", total=len(messages))
    producer = Producer({"bootstrap.servers": context.settings.require("kafka_bootstrap_servers"), "linger.ms": 20})
    began = time.time()
    for message in messages:
        producer.produce(context.settings.kafka_topic, message)
        producer.poll(0)
    producer.flush()
    own = generations(context)
    seen: dict[str, int] = {}
    while time.time() - began < PATIENCE:
        current = own.current_id()
        if current and current not in seen:
            manifest = own.load(own.uri(current))
            seen[current] = manifest.counts.images
            bars.update(bar, completed=manifest.counts.images)
            if manifest.counts.images >= len(messages):
                return time.time() - began, len(seen)
        time.sleep(0.2)
    raise TimeoutError(f"not all images were indexed after {PATIENCE} s: {context.catalog.counts()}")


@dataclass
class Peak:
    """Bytes of memory: everything resident, and the part that no file backs, which the kernel cannot drop."""

    resident: int = 0
    anonymous: int = 0


@contextmanager
def peak_of_tasks(stack: Stack) -> Iterator[Peak]:
    """Watch the largest memory of any process below the scheduler, which runs the tasks."""
    pid = next(line.pid for line in stack.status() if line.name == "airflow-scheduler")
    scheduler, peak, done = psutil.Process(pid), Peak(), threading.Event()

    def watch() -> None:
        while not done.wait(0.25):
            for process in scheduler.children(recursive=True):
                try:
                    memory = process.memory_info()
                except psutil.NoSuchProcess:
                    continue
                peak.resident = max(peak.resident, memory.rss)
                peak.anonymous = max(peak.anonymous, memory.rss - memory.shared)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
