"""The catalogue: one document per image in MongoDB. The only module that talks to it.

Everything rests on single-document atomic writes and unique keys. A document only ever moves forward through
``pending -> collected -> featured -> indexed`` (or to ``quarantined`` or ``deleted``), and each move names the states
it may start from, so that a task that runs twice, or late, changes nothing.

Query shapes and their indexes: see INDEXES.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID, uuid5

from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from pymongo import ASCENDING, MongoClient, ReturnDocument, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, DuplicateKeyError

from pipeline.events import NAMESPACE, ImageEvent, image_id
from pipeline.settings import Settings

Status = Literal["pending", "collected", "featured", "indexed", "quarantined", "deleted"]
Document = dict[str, Any]
STATUSES: tuple[Status, ...] = ("pending", "collected", "featured", "indexed", "quarantined", "deleted")
# Images that a run still has to do something for.
WAITING = ("pending", "collected", "featured")
INDEXES: dict[str, list[tuple[str, int]]] = {
    "bucket_key_version": [("bucket", ASCENDING), ("key", ASCENDING), ("version", ASCENDING)],  # unique; same key again
    "status_id": [("status", ASCENDING), ("_id", ASCENDING)],  # waiting images, pages by status
    "sha256": [("sha256", ASCENDING)],
    "duplicate_of": [("duplicate_of", ASCENDING)],  # duplicates that wait for their original
    "owner": [("owner", ASCENDING)],
    "labels": [("labels", ASCENDING)],
}
CHUNK = 1000
DUPLICATE_KEY = 11000


class Catalog:
    """A thread-safe view of the catalogue."""

    def __init__(self, settings: Settings) -> None:
        self.client: MongoClient[Document] = MongoClient(
            settings.require("mongodb_uri"),
            serverSelectionTimeoutMS=10_000,
            socketTimeoutMS=60_000,
            connectTimeoutMS=5_000,
            appname="sleeve",
        )
        options: CodecOptions[Document] = CodecOptions(uuid_representation=UuidRepresentation.STANDARD, tz_aware=True)
        self.database = self.client.get_database(settings.database_name, codec_options=options)
        self.images: Collection[Document] = self.database["images"]
        self._contents: Collection[Document] = self.database["contents"]
        self._keys: Collection[Document] = self.database["keys"]
        self._pointers: Collection[Document] = self.database["pointers"]

    def prepare(self) -> None:
        """Create the indexes; safe to call at any time, by any number of processes."""
        for name, keys in INDEXES.items():
            self.images.create_index(keys, name=name, unique=name == "bucket_key_version")

    def ping(self) -> None:
        """Raise when the server cannot be reached."""
        self.client.admin.command("ping")

    def close(self) -> None:
        self.client.close()

    # Images come in

    def register(self, events: Sequence[ImageEvent]) -> int:
        """Make sure that every created image has a document; labels are added, an owner is set. Returns new documents.

        Every event must have its `etag`, or a `reason` why the image cannot be used.
        """
        merged: dict[UUID, list[ImageEvent]] = {}
        for event in events:
            merged.setdefault(image_id(event.bucket, event.key, event.etag or ""), []).append(event)
        new = 0
        for chunk in _chunks(list(merged)):
            known = self.find(chunk, ["labels", "owner"])
            new += self._insert([_new_document(one, merged[one]) for one in chunk if one not in known])
            self._add({one: merged[one] for one in chunk if one in known}, known)
        return new

    def _insert(self, documents: list[Document]) -> int:
        """Insert; a document that somebody else inserted meanwhile gets what this one would have added."""
        if not documents:
            return 0
        try:
            self.images.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            failures = error.details["writeErrors"]
            if any(failure["code"] != DUPLICATE_KEY for failure in failures):
                raise
            lost = [documents[failure["index"]] for failure in failures]
            updates = []
            for one in lost:
                owner = {"$set": {"owner": one["owner"]}} if one["owner"] else {}
                update = {"$addToSet": {"labels": {"$each": one["labels"]}}, **owner}
                updates.append(UpdateOne({"_id": one["_id"]}, update))
            self.images.bulk_write(updates)
            return len(documents) - len(lost)
        return len(documents)

    def _add(self, events: Mapping[UUID, list[ImageEvent]], known: Mapping[UUID, Document]) -> None:
        """Labels and owners that known images do not have yet."""
        updates = []
        for one, same in events.items():
            labels = {event.label for event in same if event.label} - set(known[one]["labels"])
            owner = next((event.owner for event in same if event.owner), known[one]["owner"])
            if labels or owner != known[one]["owner"]:
                update = {"$addToSet": {"labels": {"$each": sorted(labels)}}, "$set": {"owner": owner}}
                updates.append(UpdateOne({"_id": one}, update))
        if updates:
            self.images.bulk_write(updates, ordered=False)

    def revive(self, ids: Sequence[UUID]) -> int:
        """Images that were gone and whose object is there again start over. Returns how many."""
        fields = {"status": "pending", "reason": None, "segment": None, "duplicate_of": None}
        return self._move(ids, ["deleted", "quarantined"], fields)

    def under_keys(self, bucket: str, keys: Sequence[str]) -> list[Document]:
        """Living images of all contents known under these keys: their ids, keys and versions."""
        query = {"bucket": bucket, "key": {"$in": list(keys)}, "status": {"$ne": "deleted"}}
        return list(self.images.find(query, {"key": 1, "version": 1}))

    def delete(self, ids: Sequence[UUID], reason: str) -> int:
        """Tombstone images; their duplicates start over, to find a new original. Returns how many were not deleted."""
        # Before, because nobody would look for them any more if this process died after the deletion; and after, for
        # those that were linked meanwhile.
        self._free_duplicates(ids)
        deleted = self._move(ids, [*WAITING, "indexed", "quarantined"], {"status": "deleted", "reason": reason})
        self._free_duplicates(ids)
        return deleted

    def _free_duplicates(self, originals: Sequence[UUID]) -> None:
        for chunk in _chunks(originals):
            query = {"duplicate_of": {"$in": list(chunk)}, "status": {"$ne": "deleted"}}
            self._start_over([document["_id"] for document in self.images.find(query, {"_id": 1})])

    def _start_over(self, ids: Sequence[UUID]) -> None:
        self._move(
            ids, ["collected", "indexed", "quarantined"], {"status": "pending", "reason": None, "duplicate_of": None}
        )

    # Images move on

    def waiting(self, limit: int) -> list[Document]:
        """Images that have to be collected or extracted, in the order of their ids."""
        query = {"status": {"$in": ["pending", "collected"]}, "duplicate_of": None}
        fields = {"bucket": 1, "key": 1, "version": 1}
        return list(self.images.find(query, fields).sort("_id", ASCENDING).limit(limit))

    def waiting_count(self, limit: int) -> int:
        """How many images have to be collected or extracted, counted up to `limit`.

        Those that only wait for an index are left out: where a publish is blocked, that is no reason to ring for ever.
        """
        query = {"status": {"$in": ["pending", "collected"]}, "duplicate_of": None}
        return self.images.count_documents(query, limit=limit)

    def in_segments_count(self) -> int:
        """How many living images have descriptors of their own."""
        return self.images.count_documents({"status": {"$in": ["featured", "indexed"]}, "duplicate_of": None})

    def claim_contents(self, claims: Mapping[UUID, str]) -> dict[UUID, UUID]:
        """For {image: SHA-256}: the first living image with the same content, which may be the image itself."""
        by_hash: dict[str, UUID] = {}
        for image, sha256 in sorted(claims.items()):
            by_hash.setdefault(sha256, image)
        originals: dict[str, UUID] = {}
        for chunk in _chunks(list(by_hash.items())):
            self._contents.bulk_write(
                [UpdateOne({"_id": sha}, {"$setOnInsert": {"image": one}}, upsert=True) for sha, one in chunk],
                ordered=False,
            )
            holders = self._holders([sha for sha, _ in chunk])
            alive = self.alive(list(holders.values()))
            dead = [(sha, image) for sha, image in holders.items() if image not in alive]
            if dead:
                # Only from the dead: of two that want to take over, the second finds the first in place.
                takeovers = [
                    UpdateOne({"_id": sha, "image": one}, {"$set": {"image": by_hash[sha]}}) for sha, one in dead
                ]
                self._contents.bulk_write(takeovers, ordered=False)
                holders |= self._holders([sha for sha, _ in dead])
            originals |= holders
        return {image: originals[sha256] for image, sha256 in claims.items()}

    def _holders(self, hashes: Sequence[str]) -> dict[str, UUID]:
        return {found["_id"]: found["image"] for found in self._contents.find({"_id": {"$in": list(hashes)}})}

    def collected(self, facts: Mapping[UUID, Document], shard: str) -> None:
        """Note what collecting found out (sha256, size, format, duplicate_of), by image, and which shard has them."""
        # Facts follow from the content, so they may be written whatever the state; and servers find a bare _id fastest.
        for chunk in _chunks(list(facts.items())):
            self.images.bulk_write([UpdateOne({"_id": one}, {"$set": fact}) for one, fact in chunk], ordered=False)
        self._move(list(facts), ["pending", "collected"], {"status": "collected", "shard": shard})

    def quarantine(self, reasons: Mapping[UUID, str]) -> None:
        """Put images aside, each with its reason."""
        for reason in sorted(set(reasons.values())):
            ids = [one for one, why in reasons.items() if why == reason]
            self._move(ids, ["pending", "collected"], {"status": "quarantined", "reason": reason})

    def featured(self, ids: Sequence[UUID], segment: str) -> None:
        """Note the segment that holds the images' descriptors."""
        self._move(ids, ["collected", "featured"], {"status": "featured", "segment": segment})

    def featured_segments(self) -> list[str]:
        """Segments with images that no published generation holds yet, in the order of their names."""
        return sorted(self.images.distinct("segment", {"status": "featured"}))

    def indexed(self, segments: Sequence[str]) -> int:
        """Note that the current generation holds the images of these segments. Returns how many are new to it."""
        query = {"status": "featured", "segment": {"$in": list(segments)}}
        return self.images.update_many(
            query, {"$set": {"status": "indexed", "updated_at": datetime.now(UTC)}}
        ).matched_count

    def settle_duplicates(self) -> None:
        """Duplicates share the fate of their original once that is known, and start over where it is gone."""
        waiting = list(self.images.find({"status": "collected", "duplicate_of": {"$ne": None}}, {"duplicate_of": 1}))
        originals = self.find({document["duplicate_of"] for document in waiting}, ["status", "reason"])
        fates: dict[tuple[str, str | None], list[UUID]] = {}
        for document in waiting:
            original = originals.get(document["duplicate_of"], {"status": "deleted", "reason": None})
            fates.setdefault((original["status"], original["reason"]), []).append(document["_id"])
        for (status, reason), ids in fates.items():
            if status == "deleted":
                self._start_over(ids)
            elif status in ("indexed", "quarantined"):
                self._move(ids, ["collected"], {"status": status, "reason": reason})

    def replace_contents(self, places: Mapping[UUID, tuple[str, str]]) -> None:
        """For {image: (bucket, key)}: these are now under their keys; what was there before is deleted."""
        # A task that comes late with an image that was replaced meanwhile must not replace its successor.
        alive = self.alive(list(places))
        keys = {uuid5(NAMESPACE, "\0".join(place)): image for image, place in places.items() if image in alive}
        for chunk in _chunks(list(keys)):
            before = {found["_id"]: found["image"] for found in self._keys.find({"_id": {"$in": list(chunk)}})}
            old = [image for key, image in before.items() if image != keys[key]]
            self.delete(old, "replaced by newer content under the same key")
            new = [key for key in chunk if before.get(key) != keys[key]]
            updates = [UpdateOne({"_id": key}, {"$set": {"image": keys[key]}}, upsert=True) for key in new]
            if updates:
                self._keys.bulk_write(updates, ordered=False)

    # Reading

    def find(self, ids: Iterable[UUID], fields: Sequence[str] | None = None) -> dict[UUID, Document]:
        """Documents by id; ids that are not known are left out."""
        documents: dict[UUID, Document] = {}
        for chunk in _chunks(list(ids)):
            for document in self.images.find({"_id": {"$in": list(chunk)}}, fields):
                documents[document["_id"]] = document
        return documents

    def alive(self, ids: Sequence[UUID]) -> set[UUID]:
        """Those of the ids that are not deleted: a deletion counts from the next query on."""
        return {one for one, document in self.find(ids, ["status"]).items() if document["status"] != "deleted"}

    def counts(self) -> dict[str, int]:
        """Number of images by status."""
        counted = {
            group["_id"]: group["n"]
            for group in self.images.aggregate([{"$group": {"_id": "$status", "n": {"$sum": 1}}}])
        }
        return {status: counted.get(status, 0) for status in STATUSES}

    def quarantined(self, limit: int) -> list[Document]:
        """Images that were put aside, with their reasons."""
        return list(self.images.find({"status": "quarantined"}).sort("_id", ASCENDING).limit(limit))

    # Pointers: small facts that change by one atomic write

    def current_generation(self) -> str | None:
        """Id of the generation that searches use."""
        pointer = self._pointers.find_one({"_id": "generation"})
        return pointer["current"] if pointer else None

    def publish_generation(self, new: str, expected: str | None) -> bool:
        """Make `new` current if `expected` still is; False when somebody else published first."""
        now = datetime.now(UTC)
        if expected is None:
            try:
                self._pointers.insert_one({"_id": "generation", "current": new, "updated_at": now})
            except DuplicateKeyError:
                return False
            return True
        moved = self._pointers.find_one_and_update(
            {"_id": "generation", "current": expected},
            {"$set": {"current": new, "updated_at": now}},
            return_document=ReturnDocument.AFTER,
        )
        return moved is not None

    def watermark(self, source: str) -> str:
        """How far an import of `source` has come; empty at the start of a pass."""
        pointer = self._pointers.find_one({"_id": f"watermark:{source}"})
        return pointer["position"] if pointer else ""

    def set_watermark(self, source: str, position: str) -> None:
        self._pointers.update_one(
            {"_id": f"watermark:{source}"},
            {"$set": {"position": position, "updated_at": datetime.now(UTC)}},
            upsert=True,
        )

    def _move(self, ids: Sequence[UUID], start: Sequence[str], fields: Document) -> int:
        """Set fields of those images that are in one of the `start` states. Returns how many."""
        change = {"$set": {**fields, "updated_at": datetime.now(UTC)}}
        moved = 0
        for chunk in _chunks(ids):
            # One exact match for each image and state: every server answers that from an index.
            updates = [UpdateOne({"_id": one, "status": status}, change) for one in chunk for status in start]
            moved += self.images.bulk_write(updates).matched_count
        return moved


def _new_document(one: UUID, events: list[ImageEvent]) -> Document:
    now, first = datetime.now(UTC), events[0]
    reason = next((event.reason for event in events if event.reason), None)
    return {
        "_id": one,
        "bucket": first.bucket,
        "key": first.key,
        "version": first.etag or "",
        "sha256": None,
        "status": "quarantined" if reason else "pending",
        "reason": reason,
        "width": None,
        "height": None,
        "bytes": None,
        "format": None,
        "original_filename": next(
            (e.original_filename for e in events if e.original_filename), first.key.rsplit("/")[-1]
        ),
        "owner": next((event.owner for event in events if event.owner), None),
        "labels": sorted({event.label for event in events if event.label}),
        "source": first.source,
        "shard": None,
        "segment": None,
        "duplicate_of": None,
        "created_at": now,
        "updated_at": now,
    }


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]
