"""People, and images in the catalogue that could be shown, without pictures behind them."""

from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID, uuid4

import pytest

from pipeline.accounts.users import Role, User
from pipeline.context import Context
from pipeline.events import ImageEvent, image_id


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
