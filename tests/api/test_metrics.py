"""GET /metrics: who may read it, what it says, and that it says so while servers are away."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from pipeline import overview
from pipeline.api.app import create_app
from pipeline.context import Context
from pipeline.samples import cover, cover_jpeg, snapshot_jpeg
from tests.steps import bring, index_all

Value = Callable[..., float | None]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine that tests, its servers are not away; and nobody is told what was a moment ago."""
    monkeypatch.setattr(overview, "PATIENCE", 60.0)
    monkeypatch.setattr(overview, "MAX_AGE", 0.001)


def read(client: TestClient) -> Value:
    """What /metrics says: a function that gives a sample's value by its name and labels, None where there is none."""
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    samples = {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}
    return lambda name, **labels: samples.get((name, *sorted(labels.items())))


def test_only_admins_and_scrapers_with_the_token_may_read(
    context: Context, nobody: TestClient, as_viewer: TestClient, as_annotator: TestClient, as_admin: TestClient
) -> None:
    statuses = [one.get("/metrics").status_code for one in (nobody, as_viewer, as_annotator, as_admin)]
    assert statuses == [401, 403, 403, 200]
    # Without METRICS_TOKEN no token lets anybody in.
    assert nobody.get("/metrics", headers={"Authorization": "Bearer None"}).status_code == 401
    settings = context.settings.model_copy(update={"metrics_token": SecretStr("scraper's token")})
    with TestClient(create_app(settings)) as scraped:
        for token, status in (("scraper's token", 200), ("scraper's", 401), ("", 401)):
            assert scraped.get("/metrics", headers={"Authorization": f"Bearer {token}"}).status_code == status


def test_requests_are_counted_by_template_and_status(as_admin: TestClient) -> None:
    for path in ("/healthz", "/healthz", "/image/nonsense", "/nowhere/1", "/nowhere/2"):
        as_admin.get(path)
    as_admin.request("BREW", "/healthz")
    value = read(as_admin)

    def count(method: str, route: str, status: int) -> float | None:
        labels = {"method": method, "route": route, "status": str(status)}
        return value("sleeve_http_request_seconds_count", **labels)

    assert count("GET", "/healthz", 200) == 2
    assert count("GET", "/image/{id}", 422) == 1
    assert count("GET", "none", 404) == 2
    assert count("other", "/healthz", 405) == 1


def test_a_fault_of_ours_is_counted_as_one(as_admin: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.api.stats.stats", lambda *_: 1 / 0)
    assert as_admin.get("/stats").status_code == 500
    labels = {"method": "GET", "route": "/stats", "status": "500"}
    assert read(as_admin)("sleeve_http_request_seconds_count", **labels) == 1


def test_steps_of_a_search_are_measured(as_admin: TestClient, context: Context) -> None:
    bring(context, *range(5))
    index_all(context, "run")
    as_admin.app.state.reader.refresh()
    began = time.perf_counter()
    answer = as_admin.post("/search", files={"file": snapshot_jpeg(cover(3), seed=1)})
    took = time.perf_counter() - began
    assert len(answer.json()) == 1
    value = read(as_admin)
    steps = {
        step: value("sleeve_search_step_seconds_sum", step=step)
        for step in ("wait", "describe", "vote", "catalogue", "verify")
    }
    assert all(seconds and seconds > 0 for seconds in steps.values()), steps
    assert sum(filter(None, steps.values())) < took
    # Decoding and SIFT of a photo take longer than a look at an index of five images.
    assert steps["describe"] > steps["vote"]


def test_the_collection_and_the_index_are_described(as_admin: TestClient, context: Context) -> None:
    assert read(as_admin)("sleeve_index_images") is None
    bring(context, 1, 2, 3)
    index_all(context, "run")
    as_admin.app.state.reader.refresh()
    indexed = datetime.now(UTC)
    times = {"created_at": indexed - timedelta(seconds=90), "indexed_at": indexed}
    context.catalog.images.update_many({}, {"$set": times})
    value = read(as_admin)
    assert value("sleeve_images", status="indexed") == value("sleeve_index_images") == 3
    assert value("sleeve_images", status="quarantined") == 0
    assert value("sleeve_index_recall") == 1.0
    assert 0 < (value("sleeve_index_age_seconds") or 0) < 600
    assert {value("sleeve_freshness_seconds", quantile=quantile) for quantile in ("0.5", "0.95", "1")} == {90}
    assert value("sleeve_consumer_lag") == 0
    assert {value("sleeve_up", server=name) for name in ("catalogue", "artefact bucket", "kafka")} == {1}
    manifest = as_admin.app.state.reader.manifest
    about = {"id": manifest.id, "kind": "rebuild", "codes": "exact"}
    assert value("sleeve_generation_info", **about) == 1


def test_servers_that_are_away_are_said_to_be(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app whose catalogue and Kafka are gone still answers who has the token, soon."""
    # Longer than the catalogue takes to give up, shorter than Kafka does.
    monkeypatch.setattr(overview, "PATIENCE", 5.0)
    settings = context.settings.model_copy(update={"metrics_token": SecretStr("token")})
    with TestClient(create_app(settings), headers={"Authorization": "Bearer token"}) as client:
        gone = {
            "mongodb_uri": "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=300",
            "kafka_bootstrap_servers": "127.0.0.1:1",
        }
        client.app.state.context = Context(settings.model_copy(update=gone))
        began = time.monotonic()
        value = read(client)
        assert time.monotonic() - began < 9
        up = {name: value("sleeve_up", server=name) for name in ("catalogue", "kafka", "artefact bucket")}
        assert up == {"catalogue": 0, "kafka": 0, "artefact bucket": 1}
        assert value("sleeve_images", status="indexed") is value("sleeve_consumer_lag") is None


def test_readers_of_the_metrics_do_not_hammer_the_servers(
    as_admin: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("pipeline.overview.consumer_lag", lambda settings: asked.append(settings) or 7)
    for _ in range(2):
        assert read(as_admin)("sleeve_consumer_lag") == 7
    assert len(asked) == 2
    monkeypatch.setattr(overview, "MAX_AGE", 600.0)
    for _ in range(5):
        assert read(as_admin)("sleeve_consumer_lag") == 7
    assert len(asked) == 3


def test_each_application_has_its_own_measurements(context: Context, as_admin: TestClient) -> None:
    as_admin.get("/healthz")
    other = create_app(context.settings)
    labels = {"method": "GET", "route": "/healthz", "status": "200"}
    assert as_admin.app.state.metrics.registry.get_sample_value("sleeve_http_request_seconds_count", labels) == 1
    other.state.context, other.state.reader = as_admin.app.state.context, as_admin.app.state.reader
    assert other.state.metrics.registry.get_sample_value("sleeve_http_request_seconds_count", labels) is None


def test_an_upload_is_one_request_of_its_route(as_admin: TestClient) -> None:
    assert as_admin.post("/single_upload", files={"file": ("1.jpg", cover_jpeg(1))}).status_code == 201
    labels = {"method": "POST", "route": "/single_upload", "status": "201"}
    assert read(as_admin)("sleeve_http_request_seconds_count", **labels) == 1
