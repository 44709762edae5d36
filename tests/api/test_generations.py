"""GET /generations and POST /rollback."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from pipeline.context import Context
from pipeline.indexing import generations
from pipeline.samples import cover_jpeg
from tests.steps import bring, index_all


@pytest.fixture
def two(nobody: TestClient, context: Context) -> tuple[str, str]:
    """Two published generations: of three covers, and of four."""
    ids = []
    for covers in ((1, 2, 3), (4,)):
        bring(context, *covers)
        index_all(context, f"run-{covers}")
        current = context.catalog.current_generation()
        assert current
        ids.append(current)
    nobody.app.state.reader.refresh()
    return ids[0], ids[1]


def listed(client: TestClient) -> list[tuple[str, str, int]]:
    answer = client.get("/generations")
    assert answer.status_code == 200, answer.text
    return [(one["id"], one["state"], one["images"]) for one in answer.json()]


def test_going_back_counts_at_once(
    two: tuple[str, str], as_viewer: TestClient, as_admin: TestClient, context: Context
) -> None:
    first, second = two
    assert listed(as_viewer) == [(second, "current", 4), (first, "published", 3)]
    answer = as_admin.post("/rollback")
    assert (answer.status_code, answer.json()) == (200, {"generation": first, "images": 3, "waiting": 1})
    assert listed(as_viewer) == [(second, "rolled back", 4), (first, "current", 3)]
    assert as_viewer.get("/readyz").json()["generation"] == first
    assert as_viewer.post("/search", files={"file": cover_jpeg(4)}).json() == {}
    # Forward again, by its id; and what is current already changes nothing. That the fourth needs not be appended any
    # more is for the next run to notice.
    forward = {"generation": second, "images": 4, "waiting": 1}
    assert [as_admin.post("/rollback", json={"to": second}).json() for _ in range(2)] == [forward, forward]
    assert len(as_viewer.post("/search", files={"file": cover_jpeg(4)}).json()) == 1


def test_only_admins_go_back(
    two: tuple[str, str], nobody: TestClient, as_viewer: TestClient, as_annotator: TestClient, context: Context
) -> None:
    assert [one.post("/rollback").status_code for one in (nobody, as_viewer, as_annotator)] == [401, 403, 403]
    assert nobody.get("/generations").status_code == 401
    assert context.catalog.current_generation() == two[1]


def break_segment(context: Context, generation: str) -> None:
    own = generations(context)
    [key, *_] = own.load(own.uri(generation)).files()
    context.objects.put(context.settings.sleeve_bucket, key, b"damaged")


def drop(context: Context, generation: str) -> None:
    context.objects.delete(context.settings.sleeve_bucket, f"generations/{generation}/manifest.json")


@pytest.mark.parametrize(
    ("spoil", "to", "status", "said"),
    [
        (drop, None, 409, "is not kept"),
        (drop, 0, 404, "There is no generation"),
        (break_segment, 0, 409, "segments/"),
        (lambda *_: None, "../../x", 422, "to"),
        (lambda *_: None, 7, 422, "to"),
    ],
)
def test_what_cannot_be_gone_back_to_is_refused_in_a_sentence(
    two: tuple[str, str],
    as_admin: TestClient,
    context: Context,
    spoil: Callable[[Context, str], None],
    to: Any,
    status: int,
    said: str,
) -> None:
    spoil(context, two[0])
    answer = as_admin.post("/rollback", json={"to": two[0] if to == 0 else to})
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]
    assert context.catalog.current_generation() == two[1]


def test_nothing_to_go_back_to(as_admin: TestClient) -> None:
    assert listed(as_admin) == []
    answer = as_admin.post("/rollback")
    assert (answer.status_code, "nothing is published" in answer.json()["detail"]) == (409, True)
