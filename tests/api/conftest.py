"""A running API, and covers in its collection."""

from collections.abc import Callable, Iterator, Sequence
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from pipeline.api.app import create_app
from pipeline.context import Context
from pipeline.samples import cover_jpeg
from tests.steps import index_all


@pytest.fixture
def client(context: Context) -> Iterator[TestClient]:
    with TestClient(create_app(context.settings)) as client:
        yield client


Publish = Callable[[Sequence[bytes]], list[UUID]]


@pytest.fixture
def publish(client: TestClient, context: Context) -> Publish:
    """Upload pictures and make them searchable; returns their ids."""

    def done(pictures: Sequence[bytes]) -> list[UUID]:
        ids = []
        for number, picture in enumerate(pictures):
            files = {"file": (f"cover_{number}.jpg", picture)}
            answer = client.post("/single_upload", files=files, data={"label": "jazz"})
            assert answer.status_code == 201, answer.text
            ids.append(UUID(answer.json()["id"]))
        index_all(context, "run")
        client.app.state.reader.refresh()
        return ids

    return done


@pytest.fixture
def covers(publish: Publish) -> list[UUID]:
    """Covers 0 to 6, searchable."""
    return publish([cover_jpeg(number) for number in range(7)])
