"""The way of an image into the index, one function for each task: drain, collect, extract.

Each function may run twice, twice at once, or be killed anywhere. What it writes follows from its input, and the
catalogue only moves forward. Appending to the index, evaluating and publishing are in `pipeline.index`.
"""

import hashlib
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from uuid import UUID

import cv2

from pipeline.context import Context
from pipeline.errors import BadImage, ObjectMissing
from pipeline.events import ImageEvent, image_id
from pipeline.features.photo import Photo
from pipeline.features.segments import segment_key, write_segment
from pipeline.features.sift import Features
from pipeline.images.probe import probe
from pipeline.sources import Batch, Reject, Source
from pipeline.sources.prefix import PrefixSource
from pipeline.stores.objects import StoredObject

# Reads in flight in one task: they hide the latency of the store, and bound memory to READERS * MAX_IMAGE_BYTES.
READERS = 4
HEADS = 16
IMPORT_BATCH = 200
# Keys of what people uploaded; such an object says in its metadata whose it is.
UPLOADS = "uploads/"
GONE = "no such object (removed before it was collected, or never there)"
REPLACED = "replaced by newer content under the same key before it was read"


@dataclass(frozen=True)
class Image:
    """What a shard manifest says of one image."""

    id: UUID
    bucket: str
    key: str
    etag: str


@dataclass(frozen=True)
class Accepted:
    """What became of a batch: things read, images they named, documents made and tombstoned, dead letters."""

    taken: int
    images: set[UUID]
    new: int
    removed: int
    dead: int

    def counts(self) -> dict[str, int]:
        return {**vars(self), "images": len(self.images)}


# Drain: from messages to shards


def drain(context: Context, source: Source | None, run: str) -> dict[str, Any]:
    """Take what waits in `source`, write it to the catalogue, and cut what has to be worked on into shards.

    Images that an earlier run left behind are in the shards too. Returns counts and the shards' URIs.
    """
    limit = context.settings.drain_limit
    batch = source.drain(limit) if source else Batch([])
    result = accept(context, batch).counts()
    shards = _write_shards(context, run, context.catalog.waiting(limit))
    if source:
        source.commit(batch)
    return {**result, "shards": shards}


def accept(context: Context, batch: Batch) -> Accepted:
    """Write a batch down: images to the catalogue, what is not understood to the dead letters."""
    context.dead_letter(batch.rejects)
    # Our own artefacts may lie in a bucket that sends events as well; taking those in would feed the run to itself.
    events = [event for event in batch.events if event.bucket != context.settings.sleeve_bucket]
    removed = _settle_removals(context, {(e.bucket, e.key) for e in events if e.kind == "removed"})
    created = list(dict.fromkeys(event for event in events if event.kind == "created"))
    created = _with_owners(context, _resolve(context, created))
    new = context.catalog.register(created)
    _revive(context, created)
    ids = {image_id(event.bucket, event.key, event.etag or "") for event in created}
    return Accepted(batch.taken, ids, new, removed, len(batch.rejects))


def import_source(
    context: Context, source: Source, label: str | None, owner: str | None, limit: int | None
) -> Iterator[Accepted]:
    """Bring everything that a folder, an archive or a prefix holds into the catalogue, batch by batch.

    `label` and `owner` are given to all images, the label beside the one that their folder says.
    """
    left = limit if limit is not None else sys.maxsize
    while True:
        batch = source.drain(min(IMPORT_BATCH, left))
        extra = [replace(event, label=label) for event in batch.events if label]
        events = [replace(event, owner=owner) for event in [*batch.events, *extra]]
        yield accept(context, replace(batch, events=events))
        left -= batch.taken
        if not batch.taken or not left:
            # The pass is over, the limit included: the same import again looks at the same images again.
            source.commit(Batch([]))
            return
        source.commit(batch)


def sweep(context: Context) -> Iterator[Accepted]:
    """Take in what is in the image bucket and no event told of: events can be lost before they reach us."""
    uri = f"s3://{context.settings.require('s3_bucket')}/"
    # The folders of the whole bucket are ours or the producers', and say nothing about the pictures.
    source = PrefixSource(uri, context.catalog, context.objects, folder_is_label=False)
    return import_source(context, source, None, None, None)


def _settle_removals(context: Context, places: set[tuple[str, str]]) -> int:
    """Tombstone what is not under its key any more. The store is asked, so the order of events does not matter."""
    stored = dict(_heads(context, sorted(places)))
    gone: list[UUID] = []
    for bucket in {bucket for bucket, _ in places}:
        for document in context.catalog.under_keys(bucket, [key for one, key in places if one == bucket]):
            head = stored[bucket, document["key"]]
            if head is None or head.etag != document["version"]:
                gone.append(document["_id"])
    return context.catalog.delete(gone, "removed from the bucket")


def _resolve(context: Context, events: list[ImageEvent]) -> list[ImageEvent]:
    """Give every event its ETag, asking the store for those that came without one."""
    unknown = [event for event in events if event.etag is None and event.reason is None]
    resolved = [event for event in events if event.etag is not None or event.reason is not None]
    with ThreadPoolExecutor(HEADS) as threads:
        heads = threads.map(lambda e: context.objects.head(e.bucket, e.key, e.version_id), unknown)
        for event, stored in zip(unknown, heads, strict=True):
            found = replace(event, etag=stored.etag) if stored else replace(event, reason=GONE)
            resolved.append(found)
    return resolved


def _with_owners(context: Context, events: list[ImageEvent]) -> list[ImageEvent]:
    """Events of uploads, with what only the object says: whose it is, and whether it is private.

    The bucket may tell of an upload before the upload does, or instead of it, if that was killed in between.
    """
    place = (context.settings.s3_bucket, UPLOADS)
    uploads = {image_id(e.bucket, e.key, e.etag or ""): e for e in events if (e.bucket, e.key[: len(UPLOADS)]) == place}
    # What the catalogue knows has been the user's to change since then.
    known = context.catalog.find([one for one, event in uploads.items() if event.owner is None], ["owner"])
    unknown = [e for one, e in uploads.items() if e.owner is None and not known.get(one, {}).get("owner")]
    heads = _heads(context, [(event.bucket, event.key) for event in unknown])
    told = {key: head.metadata for (_, key), head in heads if head and "owner" in head.metadata}
    said = {event: told[event.key] for event in unknown if event.key in told}
    return [
        replace(event, owner=said[event]["owner"], private="private" in said[event]) if event in said else event
        for event in events
    ]


def _revive(context: Context, events: list[ImageEvent]) -> None:
    """An image that was gone and is put again starts over, if the store really has it again."""
    ids = {image_id(e.bucket, e.key, e.etag or ""): e for e in events if e.reason is None}
    known = context.catalog.find(ids, ["status", "reason"])
    gone = [one for one, document in known.items() if document["status"] == "deleted" or document["reason"] == GONE]
    places = sorted({(ids[one].bucket, ids[one].key) for one in gone})
    stored = {place: head.etag for place, head in _heads(context, places) if head}
    context.catalog.revive([one for one in gone if stored.get((ids[one].bucket, ids[one].key)) == ids[one].etag])


def _heads(context: Context, places: list[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], StoredObject | None]]:
    with ThreadPoolExecutor(HEADS) as threads:
        yield from zip(places, threads.map(lambda place: context.objects.head(*place), places), strict=True)


def _write_shards(context: Context, run: str, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Shard manifests in the store; a shard is [{"shard": URI, "images": count}] for the mapped tasks."""
    bucket, size = context.settings.sleeve_bucket, context.settings.shard_images
    shards = []
    for number, start in enumerate(range(0, len(documents), size)):
        part = documents[start : start + size]
        rows = [[str(document["_id"]), document["bucket"], document["key"], document["version"]] for document in part]
        key = f"runs/{run}/shard-{number:04}.json"
        context.objects.put(bucket, key, json.dumps(rows).encode(), "application/json")
        shards.append({"shard": key, "images": len(part)})
    return shards


def read_shard(context: Context, key: str) -> list[Image]:
    rows = json.loads(context.objects.get(context.settings.sleeve_bucket, key))
    return [Image(UUID(one), bucket, name, etag) for one, bucket, name, etag in rows]


# Collect: fetch, probe, hash, link duplicates, quarantine


def collect(context: Context, shard: str) -> dict[str, Any]:
    """Look at every image of a shard and note what it is; what cannot be used is quarantined. Returns counts."""
    images = read_shard(context, shard)
    records, reasons = _sort_out(_map_images(context, images, _examine))
    originals = context.catalog.claim_contents({one: record["sha256"] for one, record in records.items()})
    for one, record in records.items():
        record["duplicate_of"] = originals[one] if originals[one] != one else None
    context.catalog.collected(records, shard)
    _quarantine(context, images, reasons)
    context.catalog.settle_duplicates()
    # Content that cannot be used has taken the place of what was there before as well.
    present = [image for image in images if reasons.get(image.id) not in (GONE, REPLACED)]
    context.catalog.replace_contents({image.id: (image.bucket, image.key) for image in present})
    duplicates = sum(record["duplicate_of"] is not None for record in records.values())
    collected = len(records) - duplicates
    return {"shard": shard, "collected": collected, "duplicates": duplicates, "quarantined": len(reasons)}


def _examine(context: Context, data: bytes) -> dict[str, Any]:
    found = probe(data, context.settings.max_image_bytes, context.settings.max_image_pixels)
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "width": found.width,
        "height": found.height,
        "bytes": len(data),
        "format": found.format,
    }


# Extract: decode, describe, write the segment


def extract(context: Context, shard: str) -> dict[str, Any]:
    """Describe the collected images of a shard and write them as one segment. Returns its name and counts.

    The segment is in the store before the catalogue points to it, and a task that runs again writes the same segment.
    """
    cv2.setNumThreads(1)  # the pool of this task has a slot for each core
    images = read_shard(context, shard)
    documents = context.catalog.find([image.id for image in images], ["status", "duplicate_of", "shard"])
    todo = [image for image in images if _to_describe(documents.get(image.id), shard)]
    features, reasons = _sort_out(_map_images(context, todo, _describe))
    _quarantine(context, todo, reasons)
    context.catalog.settle_duplicates()
    result = {"shard": shard, "segment": None, "images": 0, "descriptors": 0, "quarantined": len(reasons)}
    if not features:
        return result
    with TemporaryDirectory(prefix="sleeve-") as folder:
        segment = write_segment(Path(folder), sorted(features.items()))
        path = Path(folder) / f"{segment.name}.safetensors"
        context.objects.upload(context.settings.sleeve_bucket, segment_key(segment.name), path)
    context.catalog.featured(sorted(features), segment.name)
    return {**result, "segment": segment.name, "images": segment.images, "descriptors": segment.descriptors}


def _to_describe(document: dict[str, Any] | None, shard: str) -> bool:
    """Whether the image is this shard's: a later run may have taken it over before this task came to run."""
    return (
        document is not None
        and document["status"] in ("collected", "featured")
        and document["duplicate_of"] is None
        and document["shard"] == shard
    )


def _describe(context: Context, data: bytes) -> Features:
    return Photo(data, context.settings).features


# Both steps


Outcome = TypeVar("Outcome")


def _map_images(
    context: Context, images: Sequence[Image], work: Callable[[Context, bytes], Outcome]
) -> Iterator[tuple[Image, Outcome | BadImage]]:
    """Read ahead in threads, work in this one: a task computes on one core, whatever the store's latency."""
    waiting: deque[tuple[Image, Future[bytes]]] = deque()
    rest = iter(images)
    with ThreadPoolExecutor(READERS) as threads:
        while True:
            for image in islice(rest, READERS - len(waiting)):
                waiting.append((image, threads.submit(_fetch, context, image)))
            if not waiting:
                return
            image, future = waiting.popleft()
            try:
                yield image, work(context, future.result())
            except BadImage as error:
                yield image, error


def _fetch(context: Context, image: Image) -> bytes:
    try:
        data, etag = context.objects.fetch(image.bucket, image.key, context.settings.max_image_bytes)
    except ObjectMissing:
        raise BadImage(GONE) from None
    if etag != image.etag:
        raise BadImage(REPLACED)
    return data


def _sort_out(
    outcomes: Iterable[tuple[Image, Outcome | BadImage]],
) -> tuple[dict[UUID, Outcome], dict[UUID, str]]:
    """(what worked, reasons why the rest did not), by image."""
    good: dict[UUID, Outcome] = {}
    reasons: dict[UUID, str] = {}
    for image, outcome in outcomes:
        if isinstance(outcome, BadImage):
            reasons[image.id] = outcome.reason
        else:
            good[image.id] = outcome
    return good, reasons


def _quarantine(context: Context, images: Sequence[Image], reasons: dict[UUID, str]) -> None:
    letters = [
        Reject(json.dumps({"bucket": image.bucket, "key": image.key}).encode(), reasons[image.id], f"image {image.id}")
        for image in images
        if image.id in reasons
    ]
    context.dead_letter(letters)
    gone = [one for one, reason in reasons.items() if reason == GONE]
    seen = {one for one, document in context.catalog.find(gone, ["sha256"]).items() if document["sha256"]}
    # What was there once is deleted, as if the bucket had said so, and its duplicates find a new original.
    context.catalog.delete(sorted(seen), GONE)
    context.catalog.delete([one for one, reason in reasons.items() if reason == REPLACED], REPLACED)
    context.catalog.quarantine({one: why for one, why in reasons.items() if one not in seen and why != REPLACED})
