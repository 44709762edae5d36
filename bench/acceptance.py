"""The main job, measured from outside on a running stack: what comes in is found, and nothing is lost or done twice.

`python -m bench.acceptance --images photos.zip` starts a fresh stack of real servers and prints one JSON object. The
end-to-end tests run the same steps with smaller numbers.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import boto3
import httpx
import numpy as np
import typer
from confluent_kafka import Producer

from devstack.stack import Stack
from pipeline.cli import progress, wait_for
from pipeline.client import Client
from pipeline.context import Context
from pipeline.doorbell import IngestBacklog
from pipeline.errors import NoFeatures
from pipeline.features.photo import Photo
from pipeline.index.evaluate import photograph
from pipeline.index.reader import Reader
from pipeline.indexing import generations
from pipeline.ingest import import_source
from pipeline.samples import cover, cover_jpeg, snapshot_jpeg, write_covers
from pipeline.settings import Settings
from pipeline.sources import open_source

PARTS = ("kafka", "mongo", "s3", "airflow", "api")
PATIENCE = 600.0


def bring_in(context: Context, uri: str) -> dict[str, int]:
    """Import and wait until every image is searchable or in quarantine. Returns how many ended in which state."""
    source = open_source(uri, context.settings, context.catalog, context.objects)
    ids: set[UUID] = set()
    with progress() as bars:
        bar = bars.add_task("importing", total=source.backlog())
        for accepted in import_source(context, source, None, None, None):
            ids |= accepted.images
            bars.advance(bar, accepted.taken)
        return dict(wait_for(context, ids, bars))


def footprint(context: Context) -> dict[str, Any]:
    """What must not change when nothing new comes in: documents, segments, the current generation."""
    bucket = context.settings.sleeve_bucket
    segments = [stored.key for page in context.objects.pages(bucket, "segments/") for stored in page]
    return {
        "documents": context.catalog.images.count_documents({}),
        "segments": len(segments),
        "generation": context.catalog.current_generation(),
    }


def find_deformed(context: Context, count: int, seed: int = 5) -> int:
    """Search for deformed copies of `count` images of the collection. Returns how many are found at rank 1."""
    documents = list(context.catalog.images.find({"status": "indexed", "duplicate_of": None}).sort("_id"))
    chosen = np.random.default_rng(seed).choice(len(documents), min(count, len(documents)), replace=False)
    right = 0
    with Reader(generations(context)) as reader:
        for number in chosen.tolist():
            document = documents[number]
            original = context.objects.get(document["bucket"], document["key"])
            try:
                query = Photo(photograph(original, seed=number), context.settings).features
            except NoFeatures:
                continue
            matches = reader.search(query, 1, context.settings.similarity_threshold)
            right += bool(matches) and matches[0].image_id == document["_id"]
    return right


def burst(context: Context, messages: int) -> dict[str, Any]:
    """Name the collection's images in `messages` events at once, send nothing after, and wait until all are read."""
    before = footprint(context)
    places = [(one["bucket"], one["key"]) for one in context.catalog.images.find({}, {"bucket": 1, "key": 1})]
    runs = len(ingest_runs(context.settings))
    producer = Producer({"bootstrap.servers": context.settings.require("kafka_bootstrap_servers"), "linger.ms": 20})
    began = time.monotonic()
    for number in range(messages):
        bucket, key = places[number % len(places)]
        producer.produce(context.settings.kafka_topic, json.dumps({"bucket": bucket, "key": key}).encode())
        producer.poll(0)
    producer.flush()
    backlog = IngestBacklog(context)
    await_that(lambda: backlog.backlog() == 0, "the backlog is empty")
    seconds = time.monotonic() - began
    await_that(lambda: all(run["end_date"] for run in ingest_runs(context.settings)), "all runs have ended")
    return {
        "messages": messages,
        "seconds": round(seconds, 1),
        "lag": backlog.backlog(),
        "documents_before": before["documents"],
        "documents_after": footprint(context)["documents"],
        "dag_runs": len(ingest_runs(context.settings)) - runs,
    }


def put_one_by_one(env: dict[str, str], count: int, first: int = 2_000_000) -> list[float]:
    """Put new covers into the bucket with plain boto3, one after another. Seconds from each PUT until it is found."""
    s3 = boto3.client(
        "s3",
        endpoint_url=env["S3_ENDPOINT_URL"],
        region_name=env["S3_REGION"],
        aws_access_key_id=env["S3_ACCESS_KEY_ID"],
        aws_secret_access_key=env["S3_SECRET_ACCESS_KEY"],
    )
    seconds = []
    with Client.of(Settings.of(env)) as client:
        for number in range(first, first + count):
            name, data, photo = f"cover_{number}.jpg", cover_jpeg(number), snapshot_jpeg(cover(number), seed=number)
            began = time.monotonic()
            s3.put_object(Bucket=env["S3_BUCKET"], Key=f"one by one/{name}", Body=data)
            await_that(lambda photo=photo, name=name: found_first(client, photo) == name, f"{name} is found")
            seconds.append(round(time.monotonic() - began, 1))
    return seconds


def found_first(client: Client, photo: bytes) -> str | None:
    """Original filename of the API's first answer."""
    return next((match["original_filename"] for match in client.search_in_detail(photo).values()), None)


def ingest_runs(settings: Settings) -> list[dict[str, Any]]:
    """All runs of the ingest DAG, from Airflow's REST API."""
    url = settings.require("airflow_api_url")
    assert settings.airflow_password is not None
    login = {"username": settings.airflow_username, "password": settings.airflow_password.get_secret_value()}
    token = httpx.post(f"{url}/auth/token", json=login).raise_for_status().json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    runs: list[dict[str, Any]] = []
    while True:
        page = httpx.get(
            f"{url}/api/v2/dags/ingest/dagRuns", params={"limit": 100, "offset": len(runs)}, headers=headers
        )
        answer = page.raise_for_status().json()
        runs += answer["dag_runs"]
        if len(runs) >= answer["total_entries"]:
            return runs


def await_that(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Ask four times a second until it holds. Raises TimeoutError."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {patience:.0f} s it still does not hold that {what}")
        time.sleep(0.25)


def main(
    images: Annotated[
        str | None, typer.Option(help="A folder, an archive or s3://...; sample covers if left out")
    ] = None,
    queries: int = 40,
    messages: int = 10_000,
    objects: int = 10,
) -> None:
    """Run every step on a fresh stack and print what was seen."""
    with tempfile.TemporaryDirectory(prefix="sleeve-acceptance-") as folder:
        state = Path(folder)
        if images is None:
            images = str(state / "covers")
            for _ in write_covers(state / "covers", 300):
                pass
        with Stack(state / "stack", PARTS) as stack:
            context = Context(Settings.of(stack.env))
            context.catalog.prepare()
            result: dict[str, Any] = {"states": bring_in(context, images)}
            result["labels"] = len(context.catalog.images.distinct("labels"))
            result["found_at_rank_1"] = f"{find_deformed(context, queries)} of {queries}"
            before = footprint(context)
            bring_in(context, images)
            result["same_import_again"] = {"before": before, "after": footprint(context)}
            result["burst"] = burst(context, messages)
            seconds = put_one_by_one(stack.env, objects)
            result["seconds_from_put_to_found"] = {"each": seconds, "median": statistics.median(seconds)}
    typer.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    typer.run(main)
