"""What tells Sleeve of images: its own ImageEvent, and the parsers of what servers really send.

Accepted on Kafka and SQS alike, several records in one message too:

- S3 event notifications (AWS; MinIO, which adds two fields; versitygw, which leaves keys unencoded), also inside an
  SNS envelope: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
- EventBridge "Object Created" and "Object Deleted":
  https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
- Sleeve's own ``{"bucket", "key", "version"?, "label"?, "owner"?}``, or a list of them.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote_plus
from uuid import UUID, uuid5

from pipeline.errors import BadEvent

# Fixed for ever: image ids follow from it.
NAMESPACE = UUID("9f2c6b54-8f0e-5d57-9d5c-3f6f1c0f7f11")
MAX_MESSAGE_BYTES = 1 << 20
MAX_KEY_BYTES = 1024  # the limit of S3 itself
MAX_LABEL_LENGTH = 200
MAX_TEXT_BYTES = 1024
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html; clients refuse to ask for others.
BUCKET_NAME = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)


@dataclass(frozen=True)
class ImageEvent:
    """One image that came or went.

    `etag` names the content under the key; producers that do not know it leave it out and it is looked up. `reason`
    is set by sources that already know why the image cannot be used, `private` by uploads: no message can set it.
    """

    bucket: str
    key: str
    etag: str | None = None
    version_id: str | None = None
    kind: Literal["created", "removed"] = "created"
    label: str | None = None
    owner: str | None = None
    source: str = "event"
    original_filename: str | None = None
    reason: str | None = None
    private: bool = False


def image_id(bucket: str, key: str, etag: str) -> UUID:
    """The id of an image: the same for every delivery of every event about the same content under the same key."""
    return uuid5(NAMESPACE, "\0".join((bucket, key, etag)))


def parse(message: bytes | str | None) -> list[ImageEvent]:
    """Events of one Kafka or SQS message; none for a test event. Raises BadEvent, which names what is wrong."""
    if message is None:
        raise BadEvent("empty message (a tombstone)")
    if len(message) > MAX_MESSAGE_BYTES:
        raise BadEvent(f"message of {len(message)} bytes; at most {MAX_MESSAGE_BYTES} are read")
    try:
        body = json.loads(message)
    except UnicodeDecodeError as error:
        raise BadEvent(f"not UTF-8: {error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:
        raise BadEvent(f"not JSON: {error}") from None
    if isinstance(body, list):
        return [_own(record) for record in body]
    return _parse_object(body)


def _parse_object(body: Any) -> list[ImageEvent]:
    if not isinstance(body, dict):
        raise BadEvent(f"a JSON object or list was expected, not {type(body).__name__}")
    if body.get("Type") == "Notification" and isinstance(body.get("Message"), str):
        return parse(body["Message"])
    if body.get("Event") == "s3:TestEvent":
        return []
    if "Records" in body:
        return _each(body["Records"], _s3_record)
    if "detail-type" in body:
        return _event_bridge(body)
    return [_own(body)]


def _each(records: Any, parser: Callable[[dict[str, Any]], ImageEvent | None]) -> list[ImageEvent]:
    if not isinstance(records, list):
        raise BadEvent("Records is not a list")
    events = []
    for number, record in enumerate(records):
        try:
            event = parser(record)
        except (KeyError, TypeError, AttributeError) as error:
            raise BadEvent(f"record {number} lacks or mistypes {error}") from None
        if event:
            events.append(event)
    return events


def _s3_record(record: dict[str, Any]) -> ImageEvent | None:
    name = record["eventName"].removeprefix("s3:")
    kind = _kind(name.split(":")[0])
    if kind is None:
        return None
    bucket, stored = record["s3"]["bucket"], record["s3"]["object"]
    # AWS and MinIO URL-encode the key, with + for a space; versitygw sends it raw and gives itself away by the slash
    # in the bucket's ARN.
    raw = str(bucket.get("arn", "")).startswith("arn:aws:s3:::/")
    key = stored["key"] if raw else unquote_plus(stored["key"])
    return _checked(bucket["name"], key, etag=stored.get("eTag"), version_id=stored.get("versionId"), kind=kind)


def _event_bridge(body: dict[str, Any]) -> list[ImageEvent]:
    kind = _kind(str(body["detail-type"]).replace(" ", ""))
    if kind is None:
        raise BadEvent(f"unknown detail-type {body['detail-type']!r:.100}")
    try:
        stored = body["detail"]["object"]
        # EventBridge, unlike the notifications, sends the key as it is.
        return [
            _checked(
                body["detail"]["bucket"]["name"],
                stored["key"],
                etag=stored.get("etag"),
                version_id=stored.get("version-id"),
                kind=kind,
            )
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadEvent(f"EventBridge event lacks or mistypes {error}") from None


def _own(record: Any) -> ImageEvent:
    if (
        not isinstance(record, dict)
        or not isinstance(record.get("bucket"), str)
        or not isinstance(record.get("key"), str)
    ):
        raise BadEvent("neither an S3 nor an EventBridge event, nor an object with the strings bucket and key")
    for name in ("label", "owner", "version"):
        if not isinstance(record.get(name), str | None):
            raise BadEvent(f"{name} is not a string")
    label = record.get("label")
    if label and len(label) > MAX_LABEL_LENGTH:
        raise BadEvent(f"label is longer than {MAX_LABEL_LENGTH} characters")
    return _checked(
        record["bucket"], record["key"], version_id=record.get("version"), label=label, owner=record.get("owner")
    )


def _kind(name: str) -> Literal["created", "removed"] | None:
    if name.startswith("ObjectCreated"):
        return "created"
    # "LifecycleExpiration" is how S3 says that a rule removed the object.
    if name.startswith(("ObjectRemoved", "ObjectDeleted", "LifecycleExpiration")):
        return "removed"
    return None


def _checked(bucket: str, key: str, etag: str | None = None, version_id: str | None = None, **rest: Any) -> ImageEvent:
    texts = [key, bucket, *(text for text in (etag, version_id, *rest.values()) if text is not None)]
    if not all(isinstance(text, str) for text in texts):
        raise BadEvent("bucket, key, ETag and version must be strings")
    try:
        # JSON can carry half a surrogate pair, which no store would take.
        key_size, *sizes = (len(text.encode()) for text in texts)
    except UnicodeEncodeError as error:
        raise BadEvent(f"not a Unicode text: {error.object!r:.100}") from None
    if not BUCKET_NAME.fullmatch(bucket):
        raise BadEvent(f"{bucket!r:.100} is no name of an S3 bucket")
    if not 0 < key_size <= MAX_KEY_BYTES or "\0" in key:
        raise BadEvent(f"the key is no S3 key (1 to {MAX_KEY_BYTES} bytes, no NUL)")
    if max(sizes) > MAX_TEXT_BYTES:
        raise BadEvent(f"an ETag, version, label or owner of {max(sizes)} bytes; at most {MAX_TEXT_BYTES} are taken")
    return ImageEvent(
        bucket,
        key,
        etag=etag.strip('"') if etag else None,
        version_id=version_id if version_id not in ("", "null") else None,
        **rest,
    )
