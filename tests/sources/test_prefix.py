"""Objects below an S3 prefix: a pass looks at all keys, the next one finds what came meanwhile."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.errors import BadSource
from pipeline.events import image_id
from pipeline.settings import Settings
from pipeline.sources import Source, open_source
from pipeline.stores.catalog import Catalog
from pipeline.stores.objects import Objects


class Bucket:
    def __init__(self, settings: Settings, catalog: Catalog, objects: Objects) -> None:
        self.settings, self.catalog, self.objects = settings, catalog, objects
        self.name = settings.require("s3_bucket")

    def put(self, *keys: str) -> None:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda key: self.objects.put(self.name, key, key.encode()), keys))

    def source(self, prefix: str = "") -> Source:
        return open_source(f"s3://{self.name}/{prefix}", self.settings, self.catalog, self.objects)

    def import_all(self, prefix: str = "", batch_size: int = 100) -> list[str]:
        """A whole pass, as an import makes it; the keys in the order in which they came."""
        source, keys = self.source(prefix), []
        while (batch := source.drain(batch_size)).taken:
            self.catalog.register(batch.events)
            source.commit(batch)
            keys += [event.key for event in batch.events]
        source.commit(batch)
        return keys


@pytest.fixture
def bucket(settings: Settings, catalog: Catalog, objects: Objects) -> Bucket:
    return Bucket(settings, catalog, objects)


def test_events_say_what_and_where(bucket: Bucket) -> None:
    bucket.put("in/top.jpg", "in/cats/grey/a+b %20 é.jpg", "in/notes.txt", "in/.hidden.jpg", "other/x.jpg")
    batch = bucket.source("in/").drain(10)
    assert {event.key: event.label for event in batch.events} == {
        "in/cats/grey/a+b %20 é.jpg": "grey",
        "in/top.jpg": None,
    }
    for event in batch.events:
        stored = bucket.objects.head(bucket.name, event.key)
        assert stored is not None
        assert (event.bucket, event.etag, event.reason) == (bucket.name, stored.etag, None)


def test_label_is_the_folder_below_the_prefix(bucket: Bucket) -> None:
    bucket.put("cats/a.jpg", "cats/tom/b.jpg")
    assert {e.key: e.label for e in bucket.source("cats/").drain(9).events} == {
        "cats/a.jpg": None,
        "cats/tom/b.jpg": "tom",
    }
    assert {e.key: e.label for e in bucket.source("ca").drain(9).events} == {
        "cats/a.jpg": "cats",
        "cats/tom/b.jpg": "tom",
    }


def test_keys_that_sort_before_the_watermark_are_found_in_the_next_pass(bucket: Bucket) -> None:
    bucket.put("m.jpg", "n.jpg")
    source = bucket.source()
    batch = source.drain(1)
    bucket.catalog.register(batch.events)
    source.commit(batch)
    bucket.put("a.jpg", "z.jpg")
    assert bucket.import_all() == ["n.jpg", "z.jpg"]  # the pass that was interrupted goes on
    assert bucket.import_all() == ["a.jpg"]  # the next one begins at the beginning
    assert bucket.import_all() == []


def test_interrupted_pass_goes_on_after_the_last_commit(bucket: Bucket) -> None:
    bucket.put(*(f"{number}.jpg" for number in range(6)))
    source = bucket.source()
    first = source.drain(2)
    bucket.catalog.register(first.events)
    source.commit(first)
    lost = source.drain(2)
    again = bucket.source()
    assert again.backlog() == 4
    assert again.drain(2).events == lost.events


def test_more_than_a_page(bucket: Bucket) -> None:
    keys = [f"p/{number:04}.jpg" for number in range(1050)]
    bucket.put(*keys)
    assert bucket.source("p/").backlog() == 1050
    assert bucket.import_all("p/", batch_size=400) == keys
    bucket.put("p/0000.jpg", "p/0500-new.jpg")
    assert bucket.import_all("p/") == ["p/0500-new.jpg"]


def test_new_content_under_a_known_key(bucket: Bucket) -> None:
    bucket.put("a.jpg", "b.jpg")
    bucket.import_all()
    bucket.objects.put(bucket.name, "a.jpg", b"other")
    assert bucket.import_all() == ["a.jpg"]


def test_deleted_images_come_again_while_their_object_is_there(bucket: Bucket) -> None:
    """Whoever imports a bucket wants what is in it."""
    bucket.put("a.jpg")
    event = bucket.source().drain(1).events[0]
    bucket.catalog.register([event])
    assert bucket.source().drain(1).taken == 0
    bucket.catalog.delete([image_id(event.bucket, event.key, event.etag or "")], "by its owner")
    assert bucket.source().drain(1).events == [event]


def test_empty_prefix(bucket: Bucket) -> None:
    assert bucket.source("none/").backlog() == 0
    assert bucket.source("none/").drain(5).taken == 0


def test_bucket_that_is_not_there(bucket: Bucket) -> None:
    source = open_source("s3://no-such-bucket-here/x", bucket.settings, bucket.catalog, bucket.objects)
    with pytest.raises(BadSource, match="no bucket no-such-bucket-here"):
        source.drain(1)


@pytest.mark.parametrize("uri", ["s3://", "s3:///key", "s3://No Bucket/x", "s3://[x/y", "s3://a?b/c"])
def test_address_that_is_none(bucket: Bucket, uri: str) -> None:
    with pytest.raises(BadSource, match="is not an S3 address; write s3://bucket/prefix"):
        open_source(uri, bucket.settings, bucket.catalog, bucket.objects)
