"""People; images in the catalogue without pictures behind them; and pictures that can be searched for."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID, uuid4

import pytest

from pipeline.accounts.users import Role, User
from pipeline.context import Context
from pipeline.events import ImageEvent, image_id
from pipeline.index.reader import Reader
from pipeline.indexing import generations
from pipeline.ingest import accept
from pipeline.sources import Batch
from tests.steps import index_all


def person(name: str, role: Role = "annotator") -> User:
    return User(uuid4(), name, role, False, "local", None, datetime.now(UTC))


ANN, BOB, CLEO, ADA = person("ann"), person("bob"), person("cleo"), person("ada", "admin")


class Images(Protocol):
    def __call__(self, count: int, label: str | None = None, **fields: Any) -> list[UUID]: ...


@pytest.fixture
def images(context: Context) -> Images:
    """Adds images as events do, and lets them be indexed; returns their ids in the order of the queue."""

    def add(count: int, label: str | None = None, **fields: Any) -> list[UUID]:
        events = [ImageEvent("photos", f"{uuid4()}.jpg", "etag", label=label) for _ in range(count)]
        context.catalog.register(events)
        ids = [image_id(event.bucket, event.key, "etag") for event in events]
        context.catalog.images.update_many({"_id": {"$in": ids}}, {"$set": {"status": "indexed", **fields}})
        return sorted(ids)

    return add


class Collect(Protocol):
    def __call__(self, pictures: Mapping[str, bytes], label: str | None = None) -> dict[str, UUID]: ...


@pytest.fixture
def reader(context: Context) -> Iterator[Reader]:
    with Reader(generations(context)) as reader:
        yield reader


@pytest.fixture
def collect(context: Context, reader: Reader) -> Collect:
    """Takes pictures in as the pipeline does, until they can be searched for; returns their ids by name."""

    def take_in(pictures: Mapping[str, bytes], label: str | None = None) -> dict[str, UUID]:
        bucket = context.settings.require("s3_bucket")
        etags = {name: context.objects.put(bucket, name, data, "image/jpeg") for name, data in pictures.items()}
        accept(context, Batch([ImageEvent(bucket, name, etag, label=label) for name, etag in etags.items()]))
        index_all(context, f"run-{uuid4()}")
        reader.refresh()
        return {name: image_id(bucket, name, etag) for name, etag in etags.items()}

    return take_in
