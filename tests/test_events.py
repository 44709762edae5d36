"""What producers really send, and what nobody should."""

import copy
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import BadEvent
from pipeline.events import ImageEvent, image_id, parse

EVENTS = Path(__file__).parent / "data" / "events"
SPECIAL = "summer 2024/a+b & c=d/Größe 猫.jpg"
AWS = "amzn-s3-demo-bucket"
EMPTY = "d41d8cd98f00b204e9800998ecf8427e"

CASES: dict[str, list[ImageEvent]] = {
    "versitygw_plain": [ImageEvent("images", "2024/cat.jpg", "d399848208da8b80a306af0fd62bb03f")],
    "versitygw_special": [ImageEvent("images", SPECIAL, "d399848208da8b80a306af0fd62bb03f")],
    "versitygw_multipart": [ImageEvent("images", "large/panorama.tif", "9dc2b5968307ce171ec8a2a9251a60d9-1")],
    "versitygw_delete_plain": [ImageEvent("images", "2024/cat.jpg", kind="removed")],
    "versitygw_delete_special": [ImageEvent("images", SPECIAL, kind="removed")],
    "versitygw_test_event": [],
    "aws_put_special": [
        ImageEvent(AWS, "summer 2024/a+b & c=d/50%/Größe 猫.jpg", EMPTY, "096fKKXTRTtl3on89fVO.nfljtsv6qko")
    ],
    "sns_envelope": [
        ImageEvent(AWS, "summer 2024/a+b & c=d/50%/Größe 猫.jpg", EMPTY, "096fKKXTRTtl3on89fVO.nfljtsv6qko")
    ],
    "aws_several_records": [
        ImageEvent(AWS, "one.jpg", "9dc2b5968307ce171ec8a2a9251a60d9-2"),
        ImageEvent(AWS, "two.jpg", kind="removed"),
        ImageEvent(AWS, "three.jpg", kind="removed"),
    ],
    "aws_test_event": [],
    "eventbridge_created": [
        ImageEvent(
            f"{AWS}1",
            "a+b c%20d/Größe 猫.jpg",
            "b1946ac92492d2347c6235b4d2611184",
            "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
        )
    ],
    "eventbridge_deleted": [
        ImageEvent(f"{AWS}1", "example-key", EMPTY, "1QW9g1Z99LUNbvaaYVpW9xDlOLU.qxgF", kind="removed")
    ],
    "minio_put": [ImageEvent("images", "my folder/café+1.jpg", EMPTY)],
}


def own(**fields: Any) -> bytes:
    return json.dumps({"bucket": "images", "key": "a.jpg"} | fields).encode()


def s3(key: str = "a.jpg", **fields: Any) -> dict[str, Any]:
    bucket, stored = {"name": "images", "arn": "arn:aws:s3:::images"}, {"key": key, "eTag": "e"}
    return {"eventName": "ObjectCreated:Put", "s3": {"bucket": bucket, "object": stored | fields}}


def test_every_payload_file_has_a_case() -> None:
    assert {path.stem for path in EVENTS.glob("*.json")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_payload(name: str) -> None:
    message = (EVENTS / f"{name}.json").read_bytes()
    assert parse(message) == CASES[name]
    assert parse(message.decode()) == CASES[name]


def test_raw_key_of_versitygw_is_not_decoded() -> None:
    message = json.loads((EVENTS / "versitygw_plain.json").read_text())
    message["Records"][0]["s3"]["object"]["key"] = "a+b%20c d/100%.jpg"
    assert parse(json.dumps(message))[0].key == "a+b%20c d/100%.jpg"


def test_own_events() -> None:
    assert parse(own()) == [ImageEvent("images", "a.jpg")]
    full = own(key="a+b%20.jpg", version="v1", label="cat", owner="eve")
    assert parse(full) == [ImageEvent("images", "a+b%20.jpg", version_id="v1", label="cat", owner="eve")]
    several = json.dumps([{"bucket": "images", "key": "a.jpg"}, {"bucket": "images", "key": "b.jpg"}])
    assert [event.key for event in parse(several)] == ["a.jpg", "b.jpg"]
    assert parse(b"[]") == []


@pytest.mark.parametrize("version", ["", "null", None])
def test_no_version(version: str | None) -> None:
    assert parse(own(version=version))[0].version_id is None


REFUSED: dict[str, tuple[bytes | None, str]] = {
    "tombstone": (None, "tombstone"),
    "empty": (b"", "not JSON"),
    "invalid UTF-8": (b'{"bucket": "images", "key": "\xff\xfe"}', "not UTF-8"),
    "text": (b"hello", "not JSON"),
    "cut off": (own()[:-3], "not JSON"),
    "2 MB": (own(key="k" * (2 << 20)), "message of 20971"),
    "deep nesting": (b"[" * 100_000, "not JSON"),
    "long number": (b'{"bucket": ' + b"1" * 100_000 + b"}", "not JSON"),
    "a number": (b"42", "int"),
    "null": (b"null", "NoneType"),
    "wrong schema": (b'{"url": "http://example.com/a.jpg"}', "bucket and key"),
    "list of wrong schema": (b'[{"bucket": "images", "key": "a"}, 7]', "bucket and key"),
    "key is a number": (own(key=7), "bucket and key"),
    "no key": (own(key=""), "S3 key"),
    "long key": (own(key="é" * 513), "S3 key"),
    "NUL in the key": (own(key="a\0b"), "S3 key"),
    "lone surrogate in the key": (b'{"bucket": "images", "key": "a\\ud800.jpg"}', "Unicode"),
    "lone surrogate in the label": (own(label="\ud800"), "Unicode"),
    "lone surrogate in the version": (own(version="\ud800"), "Unicode"),
    "label is a list": (own(label=["cat"]), "label"),
    "long label": (own(label="x" * 201), "label is longer than 200"),
    "long owner": (own(owner="x" * 2000), "owner of 2000 bytes"),
    "long version": (own(version="x" * 2000), "version"),
    "no bucket": (own(bucket=""), "bucket"),
    "bucket with a slash": (own(bucket="images/other"), "no name of an S3 bucket"),
    "bucket in capitals": (own(bucket="IMAGES"), "no name of an S3 bucket"),
    "bucket is an address": (own(bucket="10.0.0.1"), "no name of an S3 bucket"),
    "short bucket": (own(bucket="ab"), "no name of an S3 bucket"),
    "records are no list": (b'{"Records": {"0": 1}}', "not a list"),
    "record is a string": (b'{"Records": ["x"]}', "record 0"),
    "second record is broken": (
        json.dumps({"Records": [s3(), {"eventName": "ObjectCreated:Put"}]}).encode(),
        "record 1",
    ),
    "event name is a number": (json.dumps({"Records": [s3() | {"eventName": 1}]}).encode(), "record 0"),
    "version is a number": (json.dumps({"Records": [s3(versionId=5)]}).encode(), "version must be strings"),
    "version is an object": (json.dumps({"Records": [s3(versionId={})]}).encode(), "version must be strings"),
    "ETag is a list": (json.dumps({"Records": [s3(eTag=["e"])]}).encode(), "ETag and version"),
    "unknown EventBridge event": (b'{"detail-type": "Object Baked", "detail": {}}', "Object Baked"),
    "EventBridge without an object": (b'{"detail-type": "Object Created", "detail": {}}', "EventBridge"),
    "SNS around nonsense": (b'{"Type": "Notification", "Message": "hello"}', "not JSON"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_reason(case: str) -> None:
    message, reason = REFUSED[case]
    with pytest.raises(BadEvent, match=reason):
        parse(message)


@pytest.mark.parametrize(
    "message",
    [
        own(bucket="x" * 900_000),
        own(label="x" * 900_000),
        own(key="\ud800" * 100_000),
        b'{"detail-type": "%s"}' % (b"x" * 900_000),
    ],
    ids=["bucket", "label", "key", "detail-type"],
)
def test_reason_stays_short(message: bytes) -> None:
    """It travels in the headers of the dead letter and is read by people."""
    with pytest.raises(BadEvent) as refusal:
        parse(message)
    assert len(str(refusal.value)) < 300


def _mutations(seed: int) -> list[bytes]:
    chance = random.Random(seed)
    seeds = [path.read_bytes() for path in sorted(EVENTS.glob("*.json"))] + [own(version="v", label="l", owner="o")]
    odd: list[Any] = [None, 0, -1.5, True, "", "\ud800", "\0", [], {}, [[]], "x" * 3000, "%FF%", {"name": 1}]
    out = []
    for _ in range(10_000):
        message = chance.choice(seeds)
        if chance.random() < 0.5:
            cut = bytearray(message)
            for _ in range(chance.randint(1, 8)):
                cut[chance.randrange(len(cut))] = chance.randrange(256)
            out.append(bytes(cut[: chance.randint(1, len(cut))] if chance.random() < 0.3 else cut))
        else:
            body = json.loads(message)
            for _ in range(chance.randint(1, 3)):
                _replace_somewhere(body, chance, copy.deepcopy(chance.choice(odd)))
            out.append(json.dumps(body).encode())
    return out


def _replace_somewhere(body: Any, chance: random.Random, value: Any) -> None:
    places = []
    waiting = [body]
    while waiting:
        node = waiting.pop()
        for name in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, name))
            if isinstance(node[name], dict | list):
                waiting.append(node[name])
    if places:
        node, name = chance.choice(places)
        if chance.random() < 0.3:
            del node[name]
        else:
            node[name] = value


@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_payloads_are_understood_or_refused(seed: int) -> None:
    """What comes through must be safe to hash, to store and to ask the object store for."""
    started = time.monotonic()
    understood = refused = 0
    for message in _mutations(seed):
        try:
            events = parse(message)
        except BadEvent:
            refused += 1
            continue
        except Exception as error:
            pytest.fail(f"seed {seed}: {type(error).__name__} {error} for {message!r:.500}")
        understood += 1
        for event in events:
            assert isinstance(hash(event), int)
            texts = (event.bucket, event.key, event.etag, event.version_id, event.label, event.owner)
            assert all(isinstance(text, str | None) and (text or "").encode() is not None for text in texts), message
            assert event.key
    assert understood > 100
    assert refused > 100
    assert time.monotonic() - started < 20


def test_image_id_follows_from_place_and_content() -> None:
    one = image_id("images", "a.jpg", "e1")
    assert one == image_id("images", "a.jpg", "e1")
    others = {image_id("images", "a.jpg", "e2"), image_id("images", "b.jpg", "e1"), image_id("other", "a.jpg", "e1")}
    assert len(others | {one}) == 4
    # Ids are in people's databases and bookmarks: they must never change from one version to the next.
    assert str(one) == "a95781d3-d2e5-5d60-9ce8-9a66b72e37e2"
