"""The main job under a real scheduler: in, found, in again, in a burst, one by one, and with every odd picture."""

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bench.acceptance import await_that, bring_in, burst, find_deformed, footprint, found_first, put_one_by_one
from bench.ingest import peak_of_tasks
from devstack.stack import Stack
from pipeline.client import Client
from pipeline.context import Context
from pipeline.samples import cover, cover_jpeg, snapshot_jpeg
from pipeline.settings import Settings
from pipeline.stores.catalog import WAITING

from .conftest import COVERS


def test_imported_covers_are_found(installed: Context, imported: dict[str, int]) -> None:
    assert imported == {"indexed": COVERS}
    assert installed.catalog.counts()["quarantined"] == 0
    assert find_deformed(installed, 20) >= 19


def test_the_same_import_again_changes_nothing(installed: Context, imported: dict[str, int], covers: Path) -> None:
    before = footprint(installed)
    assert bring_in(installed, str(covers)) == {"indexed": COVERS}
    assert footprint(installed) == before


def test_a_burst_of_events_is_a_handful_of_runs(installed: Context, imported: dict[str, int]) -> None:
    seen = burst(installed, 10_000)
    assert seen["documents_after"] == seen["documents_before"]
    assert seen["lag"] == 0
    assert seen["dag_runs"] <= 10


def test_objects_are_found_without_anyone_doing_anything(whole: Stack, imported: dict[str, int]) -> None:
    assert max(put_one_by_one(whole.env, count=2)) < 120


def bomb(side: int) -> bytes:
    """A PNG of side x side black pixels: hundreds of kilobytes that decode to hundreds of megabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side * 3 + 1)) for _ in range(side)) + packer.flush()
    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def encoded(mode: str, kind: str, number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(cover(number)[:, :, ::-1]).convert(mode).save(buffer, kind)
    return buffer.getvalue()


# What the object holds, and how it has to end: the state, and a word of the reason.
PICTURES: dict[str, tuple[bytes, str, str]] = {
    "odd/truncated.jpg": (cover_jpeg(500)[:20_000], "quarantined", "truncated"),
    "odd/bomb.png": (bomb(15_000), "quarantined", "pixels"),
    "odd/text.jpg": (b"this is no picture", "quarantined", "not an image"),
    "odd/empty.jpg": (b"", "quarantined", "empty"),
    "odd/1x1.png": (cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes(), "quarantined", "distinctive"),
    "odd/with space + plus & ümlaut ☂.jpg": (cover_jpeg(501), "indexed", ""),
    "odd/16 bit.png": (cv2.imencode(".png", cover(502).astype(np.uint16) * 257)[1].tobytes(), "indexed", ""),
    "odd/cmyk.jpg": (encoded("CMYK", "JPEG", 503), "indexed", ""),
    "odd/grey.png": (encoded("L", "PNG", 504), "indexed", ""),
    "odd/alpha.png": (encoded("RGBA", "PNG", 505), "indexed", ""),
    "odd/photo.webp": (encoded("RGB", "WEBP", 506), "indexed", ""),
}


def test_every_odd_picture_is_indexed_or_quarantined(
    whole: Stack, installed: Context, imported: dict[str, int]
) -> None:
    bucket = installed.settings.require("s3_bucket")
    with peak_of_tasks(whole) as peak:
        for key, (data, _, _) in PICTURES.items():
            installed.objects.put(bucket, key, data)
        send_event_for_a_missing_key(installed, bucket)
        await_that(lambda: settled(installed, bucket, len(PICTURES) + 1), "every odd picture is settled")
    documents = {one["key"]: one for one in installed.catalog.images.find({"key": {"$regex": "^odd/"}})}
    for key, (_, state, word) in PICTURES.items():
        assert documents[key]["status"] == state, (key, documents[key]["reason"])
        assert word in (documents[key]["reason"] or "")
    assert documents["odd/missing.jpg"]["status"] == "quarantined"
    assert "no such object" in documents["odd/missing.jpg"]["reason"]
    assert peak.resident < 1e9


def send_event_for_a_missing_key(context: Context, bucket: str) -> None:
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": context.settings.require("kafka_bootstrap_servers")})
    producer.produce(context.settings.kafka_topic, f'{{"bucket": "{bucket}", "key": "odd/missing.jpg"}}'.encode())
    assert producer.flush(10) == 0


def settled(context: Context, bucket: str, count: int) -> bool:
    states = [one["status"] for one in context.catalog.images.find({"bucket": bucket, "key": {"$regex": "^odd/"}})]
    return len(states) == count and not set(states) & set(WAITING)


@pytest.mark.parametrize("number", [502, 503, 504, 505, 506])
def test_odd_pictures_are_found(whole: Stack, imported: dict[str, int], number: int) -> None:
    names = {502: "16 bit.png", 503: "cmyk.jpg", 504: "grey.png", 505: "alpha.png", 506: "photo.webp"}
    photo = snapshot_jpeg(cover(number), seed=number)
    with Client.of(Settings.of(whole.env)) as client:
        await_that(lambda: found_first(client, photo) == names[number], f"{names[number]} is found", patience=30)
