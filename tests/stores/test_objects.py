"""The object store: what is there, what is not, and keys of every kind."""

from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from pydantic import SecretStr

from pipeline.errors import BadImage, BadSource, ObjectMissing
from pipeline.settings import Settings
from pipeline.stores.objects import Objects, parse_s3_uri

KEYS = ["a.jpg", "a b+c%20d&e=f/50%.jpg", "é/猫.jpg", "q?x=1#y.jpg", "..hidden", "x" * 200]


@pytest.fixture
def bucket(settings: Settings) -> str:
    return settings.require("s3_bucket")


@pytest.mark.parametrize("key", KEYS)
def test_round_trip(objects: Objects, bucket: str, key: str) -> None:
    etag = objects.put(bucket, key, b"data", "image/jpeg", sha256="abc")
    assert '"' not in etag
    stored = objects.head(bucket, key)
    assert stored is not None
    assert (stored.key, stored.etag, stored.size, stored.metadata) == (key, etag, 4, {"sha256": "abc"})
    assert objects.get(bucket, key) == b"data"
    assert objects.fetch(bucket, key, 4) == (b"data", etag)
    assert objects.exists(bucket, key)
    assert [[entry.key for entry in page] for page in objects.pages(bucket)] == [[key]]
    assert next(objects.pages(bucket))[0].etag == etag
    objects.delete(bucket, key)
    assert not objects.exists(bucket, key)


# The last three are keys that no server would ever store; some refuse the question without saying why.
@pytest.mark.parametrize("key", ["none.jpg", "../../etc/passwd", ".", "x" * 1000])
def test_missing(objects: Objects, bucket: str, tmp_path: Path, key: str) -> None:
    assert objects.head(bucket, key) is None
    assert not objects.exists(bucket, key)
    for read in (lambda: objects.get(bucket, key), lambda: objects.fetch(bucket, key, 10)):
        with pytest.raises(ObjectMissing, match="no object s3://"):
            read()
    with pytest.raises(ObjectMissing):
        objects.download(bucket, key, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_missing_bucket_and_version(objects: Objects, bucket: str) -> None:
    assert objects.head("no-such-bucket-here", "a.jpg") is None
    with pytest.raises(ObjectMissing):
        objects.get("no-such-bucket-here", "a.jpg")
    with pytest.raises(ObjectMissing):
        list(objects.pages("no-such-bucket-here"))
    assert objects.head(bucket, "a.jpg", version_id="nonsense") is None


def test_refused_keys_are_not_taken_for_missing_objects(settings: Settings, objects: Objects, bucket: str) -> None:
    """Wrong credentials must stop the work, not tombstone the collection."""
    objects.put(bucket, "a.jpg", b"data")
    stranger = Objects(settings.model_copy(update={"s3_secret_access_key": SecretStr("wrong")}))
    for key in ("a.jpg", "none.jpg", "../x"):
        with pytest.raises(ClientError):
            stranger.head(bucket, key)
        with pytest.raises(ClientError):
            stranger.fetch(bucket, key, 10)


def test_fetch_refuses_what_is_too_large_before_reading(objects: Objects, bucket: str) -> None:
    objects.put(bucket, "a.jpg", bytes(11))
    with pytest.raises(BadImage, match=r"larger than 10 bytes \(11 bytes\)"):
        objects.fetch(bucket, "a.jpg", 10)
    for _ in range(100):  # connections that were not read to their end must not run out
        with pytest.raises(BadImage):
            objects.fetch(bucket, "a.jpg", 10)


def test_files(objects: Objects, settings: Settings, tmp_path: Path) -> None:
    """Upload in parts, download whole into folders that are made."""
    source, target = tmp_path / "large", tmp_path / "new" / "folder" / "copy"
    source.write_bytes(bytes(range(256)) * (9 << 12))
    objects.upload(settings.sleeve_bucket, "segments/x", source)
    objects.download(settings.sleeve_bucket, "segments/x", target)
    assert target.read_bytes() == source.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["copy"]


def test_pages_are_in_key_order_and_start_after(objects: Objects, bucket: str) -> None:
    for key in ("b/2", "a/1", "b/1", "c"):
        objects.put(bucket, key, b"")
    assert [e.key for page in objects.pages(bucket) for e in page] == ["a/1", "b/1", "b/2", "c"]
    assert [e.key for page in objects.pages(bucket, "b/") for e in page] == ["b/1", "b/2"]
    assert [e.key for page in objects.pages(bucket, "", "b/1") for e in page] == ["b/2", "c"]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("s3://images", ("images", "")),
        ("s3://images/", ("images", "")),
        ("s3://images/a b/c+%20?#.jpg", ("images", "a b/c+%20?#.jpg")),
    ],
)
def test_uri(uri: str, expected: tuple[str, str]) -> None:
    assert parse_s3_uri(uri) == expected


@pytest.mark.parametrize(
    "uri", ["images/a.jpg", "http://images/a.jpg", "s3://", "s3:///a.jpg", "s3://A B/c", "s3://[a/b"]
)
def test_no_uri(uri: str) -> None:
    with pytest.raises(BadSource, match="is not an S3 address"):
        parse_s3_uri(uri)
