"""How long does `POST /search` take, over HTTP, and how much of that is bare SIFT?

The real application in a process of its own, with real servers for the catalogue and the objects, answers snapshots of
covers that it holds. Between two queries the same bytes are decoded, resized and described by bare OpenCV in one
thread, as many as the server gives to a query. Up to 10,000 images are sample covers, those beyond are simulated.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import cv2
import httpx
import numpy as np
import psutil
from rich.progress import Progress

from bench.bare import bare_sift
from bench.collection import Collection
from bench.growing import grow
from bench.growth import Planted, plant
from bench.indexed import bytes_per_image
from devstack.provision import ROOT
from devstack.stack import Stack
from pipeline.client import Client
from pipeline.context import Context
from pipeline.settings import Settings

SERVERS = ("mongo", "s3")
QUERIES = 200
WARM_UP = 10
PATIENCE = 600.0
DOCUMENTS_AT_ONCE = 2000


def run(collection: Collection, bars: Progress) -> dict[str, Any]:
    """Index what is not indexed yet, serve it, and ask. Raises IndexTooLarge."""
    *_, step = grow(collection, bars)
    queries = plant(collection, collection.real, QUERIES)
    with Stack(collection.work / "stack", SERVERS) as stack:
        settings = Settings.of(stack.env)
        _catalogue(collection, Context(settings), bars)
        with _served(collection, stack.env) as (url, process):
            name, password = settings.require("sleeve_username"), settings.require_secret("sleeve_password")
            with Client(url, name, password) as client:
                asked = _ask(client, queries, settings, bars)
            now = process.memory_info().rss
    opened = json.loads((collection.work / "served.json").read_text())
    choice = step.manifest.choice
    return {
        **asked,
        "images": collection.images,
        "simulated": collection.images - collection.real,
        "bytes_per_image": bytes_per_image(step.manifest),
        "index": choice.model_dump(include={"codes", "per_image", "lists", "probes", "reason"}),
        "build_seconds": round(step.cost.seconds, 1),
        "peak_build_mb": round(step.cost.peak_mb),
        "server_mb": {
            "before_opening": round(opened["before"] / 1e6),
            "opened": round(opened["opened"] / 1e6),
            "after_all_queries": round(now / 1e6),
        },
        "threads": {"build": os.cpu_count(), "query": 1},
    }


def _catalogue(collection: Collection, context: Context, bars: Progress) -> None:
    """A document for every image; they are written in the order of the images, so what is there is the beginning."""
    context.catalog.prepare()
    images = context.catalog.images
    known = images.estimated_document_count()
    bar = bars.add_task("cataloguing", total=collection.images, completed=min(known, collection.images))
    now = datetime.now(UTC)
    for start in range(known, collection.images, DOCUMENTS_AT_ONCE):
        numbers = range(start, min(start + DOCUMENTS_AT_ONCE, collection.images))
        images.insert_many([_document(collection, number, now) for number in numbers])
        bars.advance(bar, len(numbers))


def _document(collection: Collection, number: int, now: datetime) -> dict[str, Any]:
    return {
        "_id": collection.image_id(number),
        "bucket": "bench",
        "key": f"cover_{number:06d}.jpg",
        "version": "1",
        "sha256": f"{number:064x}",
        "status": "indexed",
        "reason": None,
        "original_filename": f"cover_{number:06d}.jpg",
        "owner": None,
        "labels": [],
        "segment": None,
        "duplicate_of": None,
        "created_at": now,
        "updated_at": now,
    }


@contextmanager
def _served(collection: Collection, env: Mapping[str, str]) -> Iterator[tuple[str, psutil.Process]]:
    """The API over the collection: its address, and its process."""
    told = collection.work / "served.json"
    told.unlink(missing_ok=True)
    arguments = [str(collection.work), str(collection.images), str(collection.real)]
    with (collection.work / "served.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.served", *arguments], cwd=ROOT, env={**os.environ, **env}, stderr=log
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not (told.exists() and _answers(url := json.loads(told.read_text())["url"])):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the API did not start: {(collection.work / 'served.log').read_text()[-2000:]}")
            time.sleep(0.1)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").is_success
    except httpx.TransportError:
        return False


def _ask(client: Client, queries: Sequence[Planted], settings: Settings, bars: Progress) -> dict[str, Any]:
    """Every query over HTTP, and bare SIFT of the same bytes right after it."""
    cv2.setNumThreads(1)
    client.sign_in()
    bar = bars.add_task("asking", total=len(queries))
    searched, bare, right = [], [], 0
    for number, query in enumerate([*queries[:WARM_UP], *queries]):
        began = time.perf_counter()
        found = client.search(query.photo)
        between = time.perf_counter()
        bare_sift(query.photo, settings.image_side, settings.num_features)
        ended = time.perf_counter()
        if number >= WARM_UP:
            searched.append((between - began) * 1000)
            bare.append((ended - between) * 1000)
            right += next(iter(found), None) == query.image_id
            bars.advance(bar)
    p50, p95 = np.percentile(searched, [50, 95])
    bare_ms = float(np.median(bare))
    return {
        "p50_ms": round(float(p50), 1),
        "p95_ms": round(float(p95), 1),
        "bare_sift_ms": round(bare_ms, 1),
        "ratio": round(float(p50) / bare_ms, 2),
        "recall_at_1": round(right / len(queries), 4),
        "queries": len(queries),
    }
