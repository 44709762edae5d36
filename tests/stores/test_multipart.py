"""Objects written as a stream: whole or not there, and nothing of an unfinished one stays behind."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.settings import Settings
from pipeline.stores.multipart import PART_BYTES, drop_unfinished, written
from pipeline.stores.objects import Objects


def unfinished(objects: Objects, bucket: str) -> list[str]:
    uploads = objects.client(bucket).list_multipart_uploads(Bucket=bucket, Prefix="exports/").get("Uploads", [])
    return [upload["Key"] for upload in uploads]


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, 2 * PART_BYTES + 12345])
def test_what_was_written_in_pieces_is_read_as_one(objects: Objects, settings: Settings, size: int) -> None:
    data = os.urandom(size)
    with written(objects, settings.sleeve_bucket, "exports/a.zip", "application/zip") as out:
        for start in range(0, size, 3_000_001):
            out.write(data[start : start + 3_000_001])
    assert objects.get(settings.sleeve_bucket, "exports/a.zip") == data
    assert unfinished(objects, settings.sleeve_bucket) == []


def test_an_object_is_not_there_before_it_is_whole_nor_after_an_error(objects: Objects, settings: Settings) -> None:
    bucket = settings.sleeve_bucket

    def break_off() -> None:
        with written(objects, bucket, "exports/a.zip", "application/zip") as out:
            out.write(bytes(PART_BYTES + 1))
            assert not objects.exists(bucket, "exports/a.zip")
            assert unfinished(objects, bucket) == ["exports/a.zip"]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert not objects.exists(bucket, "exports/a.zip")
    assert unfinished(objects, bucket) == []


def test_uploads_of_killed_processes_are_removed_after_a_while(objects: Objects, settings: Settings) -> None:
    bucket, now = settings.sleeve_bucket, datetime.now(UTC)
    objects.client(bucket).create_multipart_upload(Bucket=bucket, Key="exports/killed.zip")
    drop_unfinished(objects, bucket, "exports/", now - timedelta(hours=1))
    assert unfinished(objects, bucket) == ["exports/killed.zip"]
    drop_unfinished(objects, bucket, "exports/", now + timedelta(hours=1))
    assert unfinished(objects, bucket) == []
