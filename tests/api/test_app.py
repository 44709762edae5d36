"""The REST door on real servers: upload, health, limits, and the plain search."""

from uuid import UUID

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from pipeline.api.app import create_app
from pipeline.context import Context
from pipeline.samples import cover, cover_jpeg, snapshot_jpeg
from pipeline.settings import Settings
from tests.steps import index_all

from .conftest import signed_in


def upload(client: TestClient, number: int) -> UUID:
    answer = client.post(
        "/single_upload", files={"file": (f"cover_{number}.jpg", cover_jpeg(number))}, data={"label": "jazz"}
    )
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["id"])


def test_an_upload_is_found_by_its_snapshot(client: TestClient, context: Context) -> None:
    ids = [upload(client, number) for number in range(12)]
    index_all(context, "run")
    client.app.state.reader.refresh()
    answer = client.post("/search", files={"file": snapshot_jpeg(cover(7), seed=1)})
    assert answer.status_code == 200
    scores = answer.json()
    assert next(iter(scores)) == str(ids[7])
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert all(context.settings.similarity_threshold <= score <= 1 for score in scores.values())


def test_a_deleted_image_is_gone_at_the_next_query(client: TestClient, context: Context) -> None:
    one = upload(client, 5)
    index_all(context, "run")
    client.app.state.reader.refresh()
    photo = {"file": snapshot_jpeg(cover(5), seed=3)}
    assert str(one) in client.post("/search", files=photo).json()
    context.catalog.delete([one], "test")
    assert str(one) not in client.post("/search", files=photo).json()


def test_an_empty_collection_answers_nothing(client: TestClient) -> None:
    answer = client.post("/search", files={"file": cover_jpeg(1)})
    assert (answer.status_code, answer.json()) == (200, {})


def test_the_same_upload_twice_is_one_image(client: TestClient, context: Context) -> None:
    assert upload(client, 1) == upload(client, 1)
    assert context.catalog.images.count_documents({}) == 1


@pytest.mark.parametrize("route", ["/search", "/single_upload"])
@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "empty"), (b"hello", "not an image"), (cover_jpeg(1)[:5000], "truncated")]
)
def test_unusable_bytes_are_refused_with_a_reason(client: TestClient, route: str, data: bytes, reason: str) -> None:
    answer = client.post(route, files={"file": ("x.jpg", data)})
    assert answer.status_code == 422
    assert reason in answer.json()["detail"]


def test_a_picture_without_features_says_so(client: TestClient) -> None:
    blank = cv2.imencode(".png", np.full((200, 200), 255, np.uint8))[1].tobytes()
    answer = client.post("/search", files={"file": blank})
    assert answer.status_code == 422
    assert "distinctive points" in answer.json()["detail"]


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused(context: Context, declared: bool) -> None:
    small = context.settings.model_copy(update={"max_image_bytes": 10_000})
    body = (
        b"--x\r\nContent-Disposition: form-data; name=file; filename=a.jpg\r\n\r\n" + bytes(200_000) + b"\r\n--x--\r\n"
    )
    content = body if declared else iter([body[:50_000], body[50_000:]])
    with TestClient(create_app(small)) as nobody:
        client = signed_in(nobody.app, "ada", "admin")
        answer = client.post("/search", content=content, headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 413
    assert "larger than" in answer.json()["detail"]


def test_health_tells_the_truth(client: TestClient, context: Context) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert ready.status_code == 200, ready.text
    gone = context.settings.model_copy(update={"mongodb_uri": "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300"})
    client.app.state.context = Context(Settings.model_validate(gone.model_dump()))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "catalogue" in answer.json()["detail"]
    assert client.get("/healthz").status_code == 200
