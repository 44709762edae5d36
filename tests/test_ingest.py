"""Drain, collect, extract on the real servers: once, twice, at once, and cut short after every durable write."""

import io
import json
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from PIL import Image

from pipeline import ingest
from pipeline.context import Context
from pipeline.events import image_id
from pipeline.features.segments import Segment, segment_key
from pipeline.ingest import GONE, REPLACED, collect, drain, extract, import_source
from pipeline.sources import open_source
from pipeline.sources.kafka import KafkaSource

Result = TypeVar("Result")
NOT_AN_IMAGE = "not an image (JPEG, PNG or WebP expected)"
NO_POINTS = "only 0 distinctive points; at least 6 are needed to recognise it"


def encode(image: Image.Image, format: str = "JPEG") -> bytes:
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


def picture(seed: int, format: str = "JPEG", size: int = 96) -> bytes:
    """Coarse noise: plenty of keypoints, another picture for each seed."""
    noise = np.random.default_rng(seed).integers(0, 255, (12, 12, 3), np.uint8)
    return encode(Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC), format)


def at_once(count: int, work: Callable[[], Result]) -> list[Result]:
    barrier = Barrier(count)

    def run(_: int) -> Result:
        barrier.wait()
        return work()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


class Installation:
    """The bucket, the topics and the catalogue of one test, and the steps as the DAG runs them."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.bucket = context.settings.require("s3_bucket")
        servers = context.settings.kafka_bootstrap_servers
        self._producer = Producer({"bootstrap.servers": servers, "max.in.flight": 1})
        self._runs = 0

    # What producers do

    def put(self, key: str, data: bytes) -> str:
        return self.context.objects.put(self.bucket, key, data)

    def send(self, *messages: bytes | dict[str, Any]) -> None:
        for message in messages:
            value = message if isinstance(message, bytes) else json.dumps({"bucket": self.bucket} | message).encode()
            self._producer.produce(self.context.settings.kafka_topic, value, partition=0)
        assert self._producer.flush(20) == 0

    def s3_event(self, key: str, etag: str | None, name: str = "ObjectCreated:Put") -> bytes:
        stored = {"key": key, "eTag": etag}
        bucket = {"name": self.bucket, "arn": f"arn:aws:s3:::{self.bucket}"}
        return json.dumps({"Records": [{"eventName": name, "s3": {"bucket": bucket, "object": stored}}]}).encode()

    def upload(self, key: str, data: bytes) -> str:
        """Put an object, as a bucket does that sends events."""
        etag = self.put(key, data)
        self.send(self.s3_event(key, etag))
        return etag

    def remove(self, key: str) -> None:
        self.context.objects.delete(self.bucket, key)
        self.send(self.s3_event(key, None, "ObjectRemoved:Delete"))

    # What a run does

    def drain(self, run: str | None = None) -> dict[str, Any]:
        self._runs += run is None
        source = KafkaSource(self.context.settings)
        try:
            return drain(self.context, source, run or f"run-{self._runs}")
        finally:
            source.close()

    def run(self) -> list[dict[str, Any]]:
        """A whole run; returns the results of extract."""
        return [self.finish(shard["shard"]) for shard in self.drain()["shards"]]

    def finish(self, shard: str) -> dict[str, Any]:
        collect(self.context, shard)
        return extract(self.context, shard)

    def index(self) -> None:
        """What publishing a generation notes."""
        self.context.catalog.indexed(self.context.catalog.featured_segments())
        self.context.catalog.settle_duplicates()

    # What came of it

    def documents(self) -> dict[tuple[str, str], dict[str, Any]]:
        """By (key, ETag)."""
        return {(document["key"], document["version"]): document for document in self.context.catalog.images.find()}

    def table(self) -> dict[str, set[tuple[str, str | None]]]:
        """By key: (status, reason) of every content known under it."""
        table: dict[str, set[tuple[str, str | None]]] = {}
        for (key, _), document in self.documents().items():
            table.setdefault(key, set()).add((document["status"], document["reason"]))
        return table

    def dead_letters(self) -> list[tuple[bytes | None, str]]:
        """(value, reason)"""
        consumer = Consumer({"bootstrap.servers": self.context.settings.kafka_bootstrap_servers, "group.id": "test"})
        place = TopicPartition(self.context.settings.kafka_dead_letter_topic, 0, 0)
        end = consumer.get_watermark_offsets(place, timeout=20)[1]
        consumer.assign([place])
        messages = consumer.consume(end, timeout=20)
        consumer.close()
        assert len(messages) == end
        return [(message.value(), dict(message.headers() or [])["reason"].decode()) for message in messages]

    def segment_of(self, key: str, etag: str, folder: Path) -> Segment:
        name = self.documents()[key, etag]["segment"]
        path = folder / f"{name}.safetensors"
        self.context.objects.download(self.context.settings.sleeve_bucket, segment_key(name), path)
        return Segment(path)

    def lag(self) -> int:
        source = KafkaSource(self.context.settings)
        try:
            return source.backlog()
        finally:
            source.close()


@pytest.fixture
def home(context: Context) -> Installation:
    return Installation(context)


def letter(home: Installation, key: str) -> bytes:
    return json.dumps({"bucket": home.bucket, "key": key}).encode()


def test_good_and_bad_images(home: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home.context.settings, "max_image_bytes", 50_000)
    good = {
        f"good/{format.lower()}": home.upload(f"good/{format.lower()}", picture(n, format))
        for n, format in enumerate(("JPEG", "PNG", "WEBP"))
    }
    bad = {
        "empty.jpg": (b"", "empty file"),
        "text.jpg": (b"hello", NOT_AN_IMAGE),
        "scan.jpg": (encode(Image.new("L", (9, 9)), "TIFF"), "TIFF is not accepted; send JPEG, PNG or WebP"),
        "cut.jpg": (picture(9)[:-300], "does not decode: truncated or damaged"),
        "cut.png": (picture(9, "PNG")[:-300], "does not decode: truncated or damaged"),
        "huge.jpg": (bytes(50_001), "larger than 50000 bytes (50001 bytes)"),
        "blank.png": (encode(Image.new("L", (64, 64), 200), "PNG"), NO_POINTS),
        "dot.png": (encode(Image.new("L", (1, 1)), "PNG"), NO_POINTS),
        "line.png": (encode(Image.new("L", (1, 300)), "PNG"), NO_POINTS),
    }  # fmt: skip
    for key, (data, _) in bad.items():
        home.upload(key, data)
    home.send(b"not json")
    [result] = home.run()
    assert (result["images"], result["quarantined"]) == (3, 4)  # what is broken in its header, collect found
    table = home.table()
    assert {key: table[key] for key in bad} == {key: {("quarantined", reason)} for key, (_, reason) in bad.items()}
    assert {key: table[key] for key in good} == {key: {("featured", None)} for key in good}
    letters = home.dead_letters()
    expected = [(letter(home, key), reason) for key, (_, reason) in bad.items()]
    assert sorted(letters[1:]) == sorted(expected)
    assert letters[0][0] == b"not json"
    document = home.documents()["good/png", good["good/png"]]
    assert (document["width"], document["height"], document["format"]) == (96, 96, "PNG")
    assert document["bytes"] == len(picture(1, "PNG"))
    segment = home.segment_of("good/png", good["good/png"], tmp_path)
    assert set(segment.ids) == {image_id(home.bucket, key, etag) for key, etag in good.items()}
    assert segment.info.descriptors == result["descriptors"]
    assert home.lag() == 0
    assert home.run() == []


def test_copies_of_a_picture_that_shows_nothing(home: Installation) -> None:
    """They are not looked at themselves, and must not wait for ever for the original."""
    blank = encode(Image.new("L", (64, 64), 200), "PNG")
    home.upload("one.png", blank)
    home.upload("two.png", blank)
    home.run()
    assert home.table() == {key: {("quarantined", NO_POINTS)} for key in ("one.png", "two.png")}


def snapshot(home: Installation) -> dict[tuple[str, str], dict[str, Any]]:
    """Everything but times and the shards' names."""
    volatile = ("created_at", "updated_at", "shard")
    return {place: {name: v for name, v in d.items() if name not in volatile} for place, d in home.documents().items()}


def test_every_step_twice(home: Installation) -> None:
    for number in range(5):
        home.upload(f"{number}.jpg", picture(number))
    home.upload("copy.jpg", picture(0))
    home.upload("bad.jpg", b"hello")
    [shard] = home.drain("one")["shards"]
    drained = snapshot(home)
    home.send(*[home.s3_event(key, etag) for key, etag in home.documents()])
    assert home.drain("one")["new"] == 0
    assert snapshot(home) == drained
    first = collect(home.context, shard["shard"])
    collected = snapshot(home)
    assert collect(home.context, shard["shard"]) == first
    assert snapshot(home) == collected
    assert (first["collected"], first["duplicates"], first["quarantined"]) == (5, 1, 1)
    result = extract(home.context, shard["shard"])
    extracted = snapshot(home)
    assert collect(home.context, shard["shard"])["collected"] == 5  # a zombie of the step before
    assert extract(home.context, shard["shard"]) == result
    assert snapshot(home) == extracted
    assert result["images"] == 5
    home.index()
    assert home.drain("two")["shards"] == []
    assert {d["status"] for d in home.documents().values()} == {"indexed", "quarantined"}


def test_every_step_twice_at_once(home: Installation) -> None:
    for number in range(12):
        home.upload(f"{number}.jpg", picture(number % 10))
    home.upload("bad.jpg", b"hello")
    one, two = at_once(2, lambda: home.drain("one"))
    assert len(home.documents()) == 13
    assert one["new"] + two["new"] == 13
    [shard] = home.drain("one")["shards"]
    at_once(2, lambda: collect(home.context, shard["shard"]))
    results = at_once(2, lambda: extract(home.context, shard["shard"]))
    assert results[0]["segment"] == results[1]["segment"]
    home.index()
    documents = home.documents()
    assert sorted(d["status"] for d in documents.values()) == ["indexed"] * 12 + ["quarantined"]
    originals = {d["_id"] for d in documents.values() if d["status"] == "indexed" and d["duplicate_of"] is None}
    copies = [d for d in documents.values() if d["duplicate_of"]]
    assert (len(originals), len(copies)) == (10, 2)
    assert {d["duplicate_of"] for d in copies} <= originals
    assert {d["segment"] for d in documents.values() if d["_id"] in originals} == {results[0]["segment"]}


def test_labels_owner_and_odd_keys(home: Installation) -> None:
    key = "a b+c%20/é & 猫.jpg"
    etag = home.put(key, picture(1))
    home.send({"key": key, "label": "cat", "owner": "eve"}, {"key": key, "label": "grey"})
    home.run()
    document = home.documents()[key, etag]
    assert (document["status"], document["owner"], sorted(document["labels"])) == ("featured", "eve", ["cat", "grey"])
    assert document["original_filename"] == "é & 猫.jpg"


def test_shards(home: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home.context.settings, "shard_images", 4)
    for number in range(10):
        home.upload(f"{number}.jpg", picture(number))
    shards = home.drain()["shards"]
    assert [shard["images"] for shard in shards] == [4, 4, 2]
    images = [image.id for shard in shards for image in ingest.read_shard(home.context, shard["shard"])]
    assert set(images) == {d["_id"] for d in home.documents().values()}
    assert len(images) == 10
    assert len({home.finish(shard["shard"])["segment"] for shard in shards}) == 3


def test_what_an_earlier_run_left_behind_is_taken_up(home: Installation) -> None:
    home.upload("a.jpg", picture(1))
    home.drain()  # and the run dies
    home.upload("b.jpg", picture(2))
    [shard] = home.drain()["shards"]
    collect(home.context, shard["shard"])  # and dies again
    assert home.run()[0]["images"] == 2


def test_shard_that_a_later_run_took_over(home: Installation) -> None:
    """The earlier task may still come to its end; it must not describe the same images in a second segment."""
    home.upload("a.jpg", picture(1))
    old, new = home.drain()["shards"][0]["shard"], home.drain()["shards"][0]["shard"]
    collect(home.context, old)
    collect(home.context, new)
    assert extract(home.context, old)["images"] == 0
    assert extract(home.context, new)["images"] == 1


# Objects that go


def test_removed_and_put_again(home: Installation) -> None:
    home.upload("a.jpg", picture(1))
    home.run()
    home.index()
    home.remove("a.jpg")
    assert home.run() == []
    assert home.table() == {"a.jpg": {("deleted", "removed from the bucket")}}
    home.upload("a.jpg", picture(1))
    home.run()
    assert home.table() == {"a.jpg": {("featured", None)}}


def test_events_out_of_order(home: Installation) -> None:
    """The store is asked, so that a removal that comes late does not take what is there."""
    home.upload("a.jpg", picture(1))
    home.run()
    home.send(home.s3_event("a.jpg", None, "ObjectRemoved:Delete"))
    assert home.drain()["removed"] == 0
    assert home.table() == {"a.jpg": {("featured", None)}}
    etag = home.documents().popitem()[0][1]
    home.remove("a.jpg")
    home.send(home.s3_event("a.jpg", etag))
    home.run()
    assert home.table() == {"a.jpg": {("deleted", "removed from the bucket")}}


def test_removal_of_what_nobody_knows(home: Installation) -> None:
    home.remove("never.jpg")
    assert home.drain()["removed"] == 0
    assert home.documents() == {}


def test_removed_original_hands_over_to_its_copy(home: Installation) -> None:
    first = home.upload("a.jpg", picture(1))
    home.run()
    home.index()
    second = home.upload("b.jpg", picture(1))
    assert first == second
    home.run()
    documents = home.documents()
    assert documents["b.jpg", second]["duplicate_of"] == documents["a.jpg", first]["_id"]
    assert documents["b.jpg", second]["status"] == "indexed"
    home.remove("a.jpg")
    home.run()
    copy = home.documents()["b.jpg", second]
    assert (copy["status"], copy["duplicate_of"]) == ("featured", None)


@pytest.mark.parametrize("with_etag", [True, False])
def test_object_that_is_gone_before_it_is_collected(home: Installation, with_etag: bool) -> None:
    etag = home.put("a.jpg", picture(1))
    home.send(home.s3_event("a.jpg", etag if with_etag else None))
    home.drain()
    home.context.objects.delete(home.bucket, "a.jpg")
    home.run()
    assert home.table() == {"a.jpg": {("quarantined", GONE)}}
    assert home.dead_letters() == [(letter(home, "a.jpg"), GONE)]
    home.upload("a.jpg", picture(1))
    home.run()
    assert home.table() == {"a.jpg": {("featured", None)}}


def test_object_that_goes_between_collect_and_extract(home: Installation) -> None:
    """And its copy, which is still there, must not go with it."""
    home.upload("a.jpg", picture(1))
    home.upload("b.jpg", picture(1))
    [shard] = home.drain()["shards"]
    collect(home.context, shard["shard"])
    [copy] = [d for d in home.documents().values() if d["duplicate_of"]]
    original = "a.jpg" if copy["key"] == "b.jpg" else "b.jpg"
    home.context.objects.delete(home.bucket, original)
    assert extract(home.context, shard["shard"])["images"] == 0
    home.run()
    assert home.table() == {original: {("deleted", GONE)}, copy["key"]: {("featured", None)}}


def test_event_for_a_key_that_was_never_there(home: Installation) -> None:
    home.send({"key": "none.jpg"}, {"key": "../../etc/passwd"}, {"key": "x" * 1000}, {"key": "a.jpg", "version": "odd"})
    home.send({"bucket": "no-such-bucket-here", "key": "a.jpg"})
    home.upload("good.jpg", picture(1))
    home.run()
    table = home.table()
    assert table.pop("good.jpg") == {("featured", None)}
    assert set(table) == {"none.jpg", "../../etc/passwd", "x" * 1000, "a.jpg"}
    assert all(states == {("quarantined", GONE)} for states in table.values())
    assert home.lag() == 0


def test_key_that_no_server_holds_does_not_stop_its_shard(home: Installation) -> None:
    """An event with an ETag is believed until the object is fetched."""
    for key in ("../../etc/passwd", ".", "x" * 1000):
        home.send(home.s3_event(key, "e"))
    home.upload("good.jpg", picture(1))
    home.run()
    assert home.table().pop("good.jpg") == {("featured", None)}
    assert home.run() == []


def test_event_without_etag(home: Installation) -> None:
    etag = home.put("a.jpg", picture(1))
    home.send({"key": "a.jpg"})
    home.send(home.s3_event("a.jpg", etag))
    home.run()
    assert list(home.documents()) == [("a.jpg", etag)]


def test_our_own_artefacts_are_no_images(home: Installation) -> None:
    home.context.objects.put(home.context.settings.sleeve_bucket, "a.jpg", picture(1))
    home.send({"bucket": home.context.settings.sleeve_bucket, "key": "a.jpg"})
    assert home.run() == []
    assert home.documents() == {}
    assert home.lag() == 0


# Contents that follow each other under one key


def test_replaced_by_new_content(home: Installation) -> None:
    old = home.upload("a.jpg", picture(1))
    home.run()
    home.index()
    new = home.upload("a.jpg", picture(2))
    home.run()
    documents = home.documents()
    assert (documents["a.jpg", new]["status"], documents["a.jpg", old]["status"]) == ("featured", "deleted")


def test_replaced_by_content_that_cannot_be_used(home: Installation) -> None:
    """The old picture is not in the bucket any more, so it must not be found either."""
    home.upload("a.jpg", picture(1))
    home.run()
    home.index()
    home.upload("a.jpg", b"hello")
    home.run()
    reasons = {("deleted", "replaced by newer content under the same key"), ("quarantined", NOT_AN_IMAGE)}
    assert home.table() == {"a.jpg": reasons}


def test_replaced_before_it_was_read_and_put_back(home: Installation) -> None:
    first = home.upload("a.jpg", picture(1))
    second = home.upload("a.jpg", picture(2))
    home.run()
    documents = home.documents()
    assert (documents["a.jpg", second]["status"], documents["a.jpg", second]["reason"]) == ("featured", None)
    assert (documents["a.jpg", first]["status"], documents["a.jpg", first]["reason"]) == ("deleted", REPLACED)
    home.index()
    home.upload("a.jpg", picture(1))
    home.run()
    documents = home.documents()
    assert (documents["a.jpg", first]["status"], documents["a.jpg", second]["status"]) == ("featured", "deleted")


# Imports


def test_import_counts_and_labels(home: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "album"
    for name, data in (
        ("cats/1.jpg", picture(1)),
        ("cats/2.jpg", picture(2)),
        ("3.jpg", picture(3)),
        ("cats/4.jpg", b""),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    context = home.context

    def imported(limit: int | None = None) -> tuple[int, int]:
        source = open_source(str(folder), context.settings, context.catalog, context.objects)
        batches = list(import_source(context, source, "pets", "eve", limit))
        return len(set().union(*(batch.images for batch in batches))), sum(batch.new for batch in batches)

    assert imported(limit=2) == (2, 2)
    assert imported() == (4, 2)
    assert imported() == (4, 0)
    home.run()
    documents = {d["original_filename"]: d for d in home.documents().values()}
    assert sorted(documents["1.jpg"]["labels"]) == ["cats", "pets"]
    assert documents["3.jpg"]["labels"] == ["pets"]
    assert {d["owner"] for d in documents.values()} == {"eve"}
    assert {name: d["status"] for name, d in documents.items()} == {
        "1.jpg": "featured", "2.jpg": "featured", "3.jpg": "featured", "4.jpg": "quarantined",
    }  # fmt: skip


def test_import_of_an_archive_with_a_bad_entry(home: Installation, tmp_path: Path) -> None:
    path = tmp_path / "album.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../out.jpg", picture(1))
        archive.writestr("cats/in.jpg", picture(2))
    context = home.context
    source = open_source(str(path), context.settings, context.catalog, context.objects)
    assert sum(batch.new for batch in import_source(context, source, None, None, None)) == 2
    home.run()
    found = {d["original_filename"]: (d["status"], d["reason"]) for d in home.documents().values()}
    assert found == {"in.jpg": ("featured", None), "out.jpg": ("quarantined", "its path leads out of the archive")}


# Crashes


class Crash(Exception):
    """The process dies here."""


# Every durable write of the three steps, in the order in which they come.
WRITES = [
    ("context", "dead_letter"), ("catalog", "delete"), ("catalog", "register"), ("catalog", "revive"),
    ("objects", "put"), ("kafka", "commit"), ("catalog", "claim_contents"), ("catalog", "collected"),
    ("catalog", "quarantine"), ("catalog", "settle_duplicates"), ("catalog", "replace_contents"),
    ("objects", "upload"), ("catalog", "featured"),
]  # fmt: skip


class Fault:
    """Dies once, right after the `count`-th call of a method has done its work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, context: Context, owner: str, name: str, count: int) -> None:
        target: Any = {
            "context": context,
            "kafka": KafkaSource,
            "catalog": context.catalog,
            "objects": context.objects,
        }[owner]
        work = getattr(target, name)
        self.left = count

        def dying(*arguments: Any, **options: Any) -> Any:
            result = work(*arguments, **options)
            self.left -= 1
            if self.left == 0:
                raise Crash(name)
            return result

        monkeypatch.setattr(target, name, dying)


def again_after_crash(step: Callable[[], Result]) -> Result:
    try:
        return step()
    except Crash:
        return step()


def eventful(home: Installation) -> None:
    """A catalogue with a past, and a batch in which everything happens."""
    for key, seed in (("old.jpg", 1), ("gone.jpg", 2), ("kept.jpg", 3), ("back.jpg", 4)):
        home.upload(key, picture(seed))
    home.run()
    home.index()
    home.upload("copy-of-gone.jpg", picture(2))
    home.remove("back.jpg")
    home.run()
    home.index()
    home.upload("new.jpg", picture(10))
    home.upload("copy-of-new.jpg", picture(10))
    home.upload("copy-of-kept.jpg", picture(3))
    home.upload("old.jpg", picture(11))
    home.upload("back.jpg", picture(4))
    home.upload("text.jpg", b"hello")
    home.upload("blank.png", encode(Image.new("L", (64, 64)), "PNG"))
    home.remove("gone.jpg")
    home.send({"key": "none.jpg"}, b"poison")


OUTCOME = {
    "old.jpg": {("deleted", "replaced by newer content under the same key"), ("indexed", None)},
    "gone.jpg": {("deleted", "removed from the bucket")},
    "kept.jpg": {("indexed", None)},
    "back.jpg": {("indexed", None)},
    "copy-of-gone.jpg": {("indexed", None)},
    "new.jpg": {("indexed", None)},
    "copy-of-new.jpg": {("indexed", None)},
    "copy-of-kept.jpg": {("indexed", None)},
    "text.jpg": {("quarantined", NOT_AN_IMAGE)},
    "blank.png": {("quarantined", NO_POINTS)},
    "none.jpg": {("quarantined", GONE)},
}


def check_outcome(home: Installation, folder: Path) -> None:
    assert home.table() == OUTCOME
    assert home.lag() == 0
    documents = home.documents()
    living = {d["_id"]: d for d in documents.values() if d["status"] == "indexed"}
    for document in living.values():
        # Found either by its own descriptors or as a copy of a living image that has some.
        owner = living[document["duplicate_of"]] if document["duplicate_of"] else document
        assert owner["duplicate_of"] is None
        segment = home.segment_of(owner["key"], owner["version"], folder)
        assert owner["_id"] in segment.ids
    copies = {d["key"] for d in living.values() if d["duplicate_of"]}
    assert "copy-of-kept.jpg" in copies
    assert "copy-of-gone.jpg" not in copies
    assert len(copies & {"new.jpg", "copy-of-new.jpg"}) == 1
    letters = {reason for _, reason in home.dead_letters()}
    assert {NOT_AN_IMAGE, NO_POINTS} < letters
    assert any("not JSON" in reason for reason in letters)


def test_undisturbed(home: Installation, tmp_path: Path) -> None:
    eventful(home)
    home.run()
    home.index()
    check_outcome(home, tmp_path)
    assert len(home.dead_letters()) == 3
    assert home.run() == []


@pytest.mark.parametrize("write", WRITES, ids=lambda write: ".".join(write))
def test_crash_after(
    home: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: tuple[str, str]
) -> None:
    eventful(home)
    fault = Fault(monkeypatch, home.context, *write, count=1)
    shards = again_after_crash(lambda: home.drain("crash"))["shards"]
    for shard in shards:
        again_after_crash(lambda shard=shard: collect(home.context, shard["shard"]))
        again_after_crash(lambda shard=shard: extract(home.context, shard["shard"]))
    assert fault.left <= 0
    home.index()
    for _ in range(2):  # what a crash put back to the start, the next run takes
        home.run()
        home.index()
    check_outcome(home, tmp_path)


def test_crash_after_every_write_in_turn(home: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run gets one write further than the one before, and nobody retries a task: only the next run goes on."""
    eventful(home)
    for count in range(1, 4):
        for write in WRITES:
            with monkeypatch.context() as patch:
                Fault(patch, home.context, *write, count=count)
                try:
                    home.run()
                except Crash:
                    continue
    home.run()
    home.index()
    home.run()
    home.index()
    check_outcome(home, tmp_path)


def test_image_ids_in_shards_are_those_of_the_catalogue(home: Installation) -> None:
    etag = home.upload("a.jpg", picture(1))
    [shard] = home.drain()["shards"]
    [image] = ingest.read_shard(home.context, shard["shard"])
    assert image == ingest.Image(image_id(home.bucket, "a.jpg", etag), home.bucket, "a.jpg", etag)
    assert isinstance(image.id, UUID)
    assert replace(image, key="b") != image
