"""The ingest DAG's steps one after another, for tests that need an index and no Airflow."""

from pipeline import indexing, ingest
from pipeline.context import Context
from pipeline.events import ImageEvent
from pipeline.samples import cover_jpeg
from pipeline.sources import Batch


def index_all(context: Context, run: str) -> None:
    """What the ingest DAG does, without Airflow."""
    for shard in ingest.drain(context, None, run)["shards"]:
        ingest.collect(context, shard["shard"])
        ingest.extract(context, shard["shard"])
    uri = indexing.append(context)
    if uri:
        indexing.evaluate(context, uri)
        indexing.publish(context, uri)


def bring(context: Context, *covers: int) -> None:
    """Covers as objects of the image bucket, described and waiting for the index."""
    bucket = context.settings.require("s3_bucket")
    events = []
    for number in covers:
        etag = context.objects.put(bucket, f"{number}.jpg", cover_jpeg(number))
        events.append(ImageEvent(bucket, f"{number}.jpg", etag))
    ingest.accept(context, Batch(events, taken=len(events)))
    for shard in ingest.drain(context, None, f"run-{covers[0]}")["shards"]:
        ingest.collect(context, shard["shard"])
        ingest.extract(context, shard["shard"])
