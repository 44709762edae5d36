"""The ingest DAG's steps one after another, for tests that need an index and no Airflow."""

from pipeline import indexing, ingest
from pipeline.context import Context


def index_all(context: Context, run: str) -> None:
    """What the ingest DAG does, without Airflow."""
    for shard in ingest.drain(context, None, run)["shards"]:
        ingest.collect(context, shard["shard"])
        ingest.extract(context, shard["shard"])
    uri = indexing.append(context)
    if uri:
        indexing.evaluate(context, uri)
        indexing.publish(context, uri)
