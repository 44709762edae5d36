"""GET /stats: what the figures are."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from pipeline import overview
from pipeline.context import Context
from pipeline.overview import throughput
from tests.steps import bring, index_all

NOW = datetime(2024, 5, 31, 18, 30, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine that tests, its servers are not away; and nobody is told what was a moment ago."""
    monkeypatch.setattr(overview, "PATIENCE", 60.0)
    monkeypatch.setattr(overview, "MAX_AGE", 0.001)


@pytest.fixture
def collection(nobody: TestClient, context: Context) -> Context:
    """Six indexed covers, one on its way, three in quarantine."""
    bring(context, *range(6))
    index_all(context, "run")
    nobody.app.state.reader.refresh()
    bring(context, 6)
    waiting = [{"_id": UUID(int=number), "status": "collected"} for number in range(1, 4)]
    shape = {"bucket": "b", "version": "", "labels": [], "created_at": NOW, "updated_at": NOW}
    context.catalog.images.insert_many([{**one, **shape, "key": str(one["_id"])} for one in waiting])
    context.catalog.quarantine({UUID(int=1): "truncated", UUID(int=2): "empty file", UUID(int=3): "truncated"})
    return context


def test_a_viewer_sees_how_the_collection_is_doing(collection: Context, as_viewer: TestClient) -> None:
    seen = as_viewer.get("/stats").json()
    assert {name: number for name, number in seen["images"].items() if number} == {
        "indexed": 6,
        "featured": 1,
        "quarantined": 3,
    }
    assert seen["backlog"] == {"messages": 0, "images": 1}
    assert seen["quarantine"] == [{"reason": "truncated", "images": 2}, {"reason": "empty file", "images": 1}]
    assert seen["generation"]["images"] == 6
    assert seen["generation"]["id"] == collection.catalog.current_generation()
    assert 0 < seen["generation"]["age"] < 600
    assert seen["throughput"]["last_hour"] == seen["throughput"]["last_day"] == 6
    assert sum(one["images"] for one in seen["throughput"]["by_minute"]) == 6
    assert seen["away"] == {}


def test_freshness_is_from_the_catalogue_to_the_index(collection: Context, as_viewer: TestClient) -> None:
    images = collection.catalog.images
    ids = [one["_id"] for one in images.find({"status": "indexed"}).sort("_id", 1)]
    now = datetime.now(UTC)
    for number, one in enumerate(ids):
        times = {"indexed_at": now - MINUTE, "created_at": now - MINUTE - timedelta(seconds=10 * (number + 1))}
        images.update_one({"_id": one}, {"$set": times})
    # Long ago: says nothing about now.
    images.update_one({"_id": ids[5]}, {"$set": {"indexed_at": now - timedelta(hours=2)}})
    seen = as_viewer.get("/stats").json()
    assert seen["freshness"] == {"images": 5, "p50": 30.0, "p95": 50.0, "max": 50.0}
    assert (seen["throughput"]["last_hour"], seen["throughput"]["last_day"]) == (5, 6)


def test_what_comes_into_the_index_again_is_not_new(collection: Context, as_viewer: TestClient) -> None:
    images = collection.catalog.images
    [one, *_] = images.find({"status": "indexed"})
    before = {document["_id"]: document["indexed_at"] for document in images.find({"status": "indexed"})}
    collection.catalog.unindex([one["_id"]], "featured")
    assert collection.catalog.indexed([one["segment"]]) >= 1
    assert images.find_one({"_id": one["_id"]})["indexed_at"] == before[one["_id"]]


def test_exact_copies_become_searchable_too(collection: Context) -> None:
    images = collection.catalog.images
    [one, *_] = images.find({"status": "indexed"})
    copy = {**one, "_id": UUID(int=9), "key": "copy", "status": "collected", "duplicate_of": one["_id"]}
    images.insert_one({name: value for name, value in copy.items() if name != "indexed_at"})
    collection.catalog.settle_duplicates()
    assert images.find_one({"_id": UUID(int=9)})["indexed_at"] > one["indexed_at"]


def test_an_empty_collection_has_figures_too(as_viewer: TestClient) -> None:
    seen = as_viewer.get("/stats").json()
    assert set(seen["images"].values()) == {0}
    assert (seen["freshness"], seen["generation"], seen["quarantine"]) == (None, None, [])
    assert len(seen["throughput"]["by_minute"]) == 60
    assert len(seen["throughput"]["by_hour"]) == 24


def test_a_server_that_is_away_takes_only_its_own_figures(
    collection: Context, as_viewer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> int:
        raise OSError("no route to Kafka\nand a long trace")

    monkeypatch.setattr("pipeline.overview.consumer_lag", fail)
    seen = as_viewer.get("/stats").json()
    assert seen["away"] == {"kafka": "no route to Kafka"}
    assert seen["backlog"] == {"messages": None, "images": 1}
    assert seen["images"]["indexed"] == 6


def test_a_slow_catalogue_does_not_keep_anybody_waiting(
    collection: Context, as_viewer: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overview, "PATIENCE", 0.0)
    seen = as_viewer.get("/stats").json()
    assert seen["images"] is None
    assert seen["backlog"]["images"] is None
    assert "no answer within" in seen["away"]["catalogue"]


def test_strangers_see_nothing(nobody: TestClient) -> None:
    assert nobody.get("/stats").status_code == 401


def test_throughput_has_a_place_for_every_minute_and_hour() -> None:
    this = NOW.replace(second=0)
    seen = throughput({this: 1, this - 59 * MINUTE: 2, this - 60 * MINUTE: 4, this - timedelta(hours=23): 8}, NOW)
    assert (seen.last_hour, seen.last_day) == (3, 15)
    assert [seen.by_minute[0].images, seen.by_minute[-1].images] == [2, 1]
    assert [one.at for one in seen.by_minute[-2:]] == [this - MINUTE, this]
    hours = {one.at.hour: one.images for one in seen.by_hour if one.images}
    assert hours == {18: 1, 17: 6, 19: 8}
    assert (seen.by_hour[0].at.hour, seen.by_hour[-1].at.hour) == (19, 18)
