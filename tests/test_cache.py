"""Two replicas with a cache each, or one in common: fast the second time, and never behind a write of the other."""

import logging
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from devstack.stack import Stack
from pipeline import cache
from pipeline import context as contexts
from pipeline.cache import Cache
from pipeline.context import Context
from pipeline.events import ImageEvent, image_id
from pipeline.settings import Settings
from pipeline.stores import browse, epoch
from pipeline.stores.catalog import Catalog
from tests.stores.test_catalog import at_once


def event(key: str, **fields: Any) -> ImageEvent:
    return ImageEvent("images", key, etag="e", **fields)


def ids(*keys: str) -> list[UUID]:
    return [image_id("images", key, "e") for key in keys]


@pytest.fixture(params=["redis", "process"])
def where(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Settings with either cache."""
    return settings if request.param == "redis" else settings.model_copy(update={"redis_url": None})


@pytest.fixture
def replicas(where: Settings, catalog: Catalog) -> Iterator[tuple[Context, Context]]:
    both = Context(where), Context(where)
    yield both
    for one in both:
        one.catalog.close()


def test_a_write_by_one_is_seen_by_the_other_at_once(replicas: tuple[Context, Context]) -> None:
    one, other = replicas
    assert other.labels() == {}
    assert set(other.counts().values()) == {0}
    one.catalog.register([event("a", label="cat"), event("b", label="cat"), event("c")])
    assert (other.labels(), other.counts()["pending"]) == ({"cat": 2}, 3)
    other.catalog.register([event("c", label="dog")])
    assert one.labels() == {"cat": 2, "dog": 1}
    one.catalog.delete(ids("a"), "by its owner")
    for both in (one, other):
        assert both.labels() == {"cat": 1, "dog": 1}
        assert (both.counts()["pending"], both.counts()["deleted"]) == (2, 1)


def test_what_is_known_is_not_computed_again(
    replicas: tuple[Context, Context], where: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = replicas
    one.catalog.register([event("a", label="cat")])
    assert one.labels() == {"cat": 1}

    def fail(*_: object) -> dict[str, int]:
        raise AssertionError("computed again")

    monkeypatch.setattr(contexts, "label_counts", fail)
    assert one.labels() == {"cat": 1}
    if where.redis_url:
        assert other.labels() == {"cat": 1}
    one.catalog.register([event("b")])
    with pytest.raises(AssertionError, match="computed again"):
        one.labels()


def test_labels_of_private_images_are_for_their_owners(replicas: tuple[Context, Context]) -> None:
    one, other = replicas
    one.catalog.register([event("a", label="cat"), event("b", label="secret", owner="ann", private=True)])
    for user, seen in {"ann": {"cat": 1, "secret": 1}, "bob": {"cat": 1}, None: {"cat": 1, "secret": 1}}.items():
        assert (one.labels(user), other.labels(user)) == (seen, seen)


A, B = ids("a", "b")
FACTS = {A: {"sha256": "x", "duplicate_of": None}}
DECISION = {
    "_id": uuid4(), "image": B, "revision": 1, "by": "ann", "at": datetime.now(UTC), "kind": "label",
    "labels": ["dog"], "boxes": [], "stage": "labelled",
}  # fmt: skip
WRITES: dict[str, Callable[[Context], object]] = {
    "register": lambda one: one.catalog.register([event("new")]),
    "label": lambda one: one.catalog.register([event("a", label="dog")]),
    "collect": lambda one: one.catalog.collected(FACTS, "shard"),
    "extract": lambda one: one.catalog.featured([A], "segment"),
    "index": lambda one: one.catalog.indexed(["segment"]),
    "unindex": lambda one: one.catalog.unindex([A], "pending"),
    "quarantine": lambda one: one.catalog.quarantine({A: "broken"}),
    "revive": lambda one: one.catalog.revive([A]),
    "group": lambda one: one.catalog.set_groups({A: (A, 2), B: (A, None)}),
    "publish": lambda one: one.catalog.publish_generation("first", None),
    "publish again": lambda one: one.catalog.publish_generation("second", "first"),
    "roll back": lambda one: one.catalog.roll_back_generation("first", one.catalog.published(), ["second"]),
    "decide": lambda one: one.annotations.decide(DECISION),
    "describe": lambda one: browse.change(one.catalog, A, {"private": True}, None),
    "note": lambda one: browse.note_facts(one.catalog, {A: {"width": 800}}),
    "delete": lambda one: one.catalog.delete([A], "by its owner"),
}


def test_every_write_that_pages_show_begins_an_epoch(replicas: tuple[Context, Context]) -> None:
    one, other = replicas
    one.catalog.register([event("a"), event("b")])
    for name, write in WRITES.items():
        before = epoch.current(other.catalog.database)
        shown = list(other.catalog.images.find()), other.catalog.published()
        write(one)
        assert (list(other.catalog.images.find()), other.catalog.published()) != shown, name
        assert epoch.current(other.catalog.database) > before, name


def test_epochs_begun_at_once_all_count(replicas: tuple[Context, Context]) -> None:
    database = replicas[0].catalog.database
    at_once(8, lambda _: epoch.advance(database))
    assert epoch.current(database) == 8


def test_what_a_killed_writer_left_behind_expires(
    replicas: tuple[Context, Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contexts, "CACHED_SECONDS", 0.3)
    one, other = replicas
    one.catalog.register([event("a")])
    assert other.labels() == {}
    # It dies here, before the new epoch.
    one.catalog.images.update_one({"_id": A}, {"$set": {"labels": ["cat"]}})
    deadline = time.monotonic() + 10
    while other.labels() != {"cat": 1}:
        assert time.monotonic() < deadline, "the old answer stays"


def test_entries_expire_and_are_kept_apart(where: Settings) -> None:
    stored, elsewhere = Cache(where), Cache(where.model_copy(update={"database_name": f"t-{uuid4()}"}))
    assert stored.remember("key", lambda: b"first", 0.2) == b"first"
    assert stored.remember("other", lambda: b"", 60) == b""
    assert elsewhere.remember("key", lambda: b"another installation", 60) == b"another installation"
    deadline = time.monotonic() + 10
    while stored.remember("key", lambda: b"second", 60) == b"first":
        assert time.monotonic() < deadline
    assert stored.remember("key", lambda: b"third", 60) == b"second"
    # Nothing at all is an answer as well.
    assert stored.remember("other", lambda: b"something", 60) == b""


def test_a_cache_in_the_process_stays_small(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LOCAL_BYTES", 10_000)
    stored = Cache(settings.model_copy(update={"redis_url": None}))
    for key in "abcde":
        stored.remember(key, lambda: b"old" * 1000, 60)
    computed = []

    def again() -> bytes:
        computed.append(1)
        return b"new"

    assert [stored.remember(key, again, 60)[:3] for key in "eda"] == [b"old", b"old", b"new"]
    assert len(computed) == 1
    # What is too large for it is computed each time, and drives nothing out.
    for _ in range(2):
        assert len(stored.remember("large", lambda: bytes(20_000), 60)) == 20_000
    assert stored.remember("e", again, 60)[:3] == b"old"


def test_used_by_many_threads_at_once(where: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LOCAL_BYTES", 20_000)
    stored = Cache(where)

    def use(number: int) -> bool:
        keys = [f"{(number + step) % 50}" for step in range(300)]
        return all(stored.remember(key, lambda key=key: key.encode() * 100, 60) == key.encode() * 100 for key in keys)

    assert all(at_once(8, use))


# Redis is away


@pytest.fixture
def hanging() -> Iterator[str]:
    """The address of a server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@pytest.mark.parametrize("how", ["refuses", "hangs", "wrong password"])
def test_without_redis_pages_work_and_one_line_says_so(
    settings: Settings, catalog: Catalog, hanging: str, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    closed = "redis://127.0.0.1:1/0"
    stranger = settings.require("redis_url").replace("redis://:", "redis://:not-")
    address = {"refuses": closed, "hangs": hanging, "wrong password": stranger}[how]
    context = Context(settings.model_copy(update={"redis_url": address}))
    began = time.monotonic()
    for number in range(20):
        catalog.register([event(f"{number}", label="cat")])
        assert context.labels() == {"cat": number + 1}
    # Some timeouts, and not two for each page.
    assert time.monotonic() - began < 20 * cache.TIMEOUT
    [line] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "Redis cannot be used" in line.getMessage()
    context.catalog.close()


def test_redis_that_comes_back_is_used_again(
    stack: Stack, settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "PAUSE", 0.0)
    one, other = Cache(settings), Cache(settings)
    assert one.remember("key", lambda: b"before", 60) == b"before"
    stack.kill("redis")
    try:
        assert one.remember("key", lambda: b"without", 60) == b"without"
    finally:
        stack.start_server("redis")
    assert one.remember("key", lambda: b"after", 60) == b"after"
    assert other.remember("key", lambda: b"not kept", 60) == b"after"
    lines = [record.getMessage() for record in caplog.records if record.name == "pipeline.cache"]
    assert [line.split(" (")[0] for line in lines] == ["Redis cannot be used", "Redis can be used again."]
