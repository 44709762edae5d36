"""The catalogue: one document per image in MongoDB. The only module that talks to it.

Everything rests on single-document atomic writes and unique keys. A document only ever moves forward through
``pending -> collected -> featured -> indexed`` (or to ``quarantined`` or ``deleted``), and each move names the states
it may start from, so that a task that runs twice, or late, changes nothing.

Query shapes and their indexes: see `schema.py`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID, uuid4, uuid5

from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from pymongo import ASCENDING, DESCENDING, MongoClient, UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, DuplicateKeyError

from pipeline.events import NAMESPACE, ImageEvent, image_id
from pipeline.settings import Settings
from pipeline.stores import epoch
from pipeline.stores.schema import UNTOUCHED, Tell, labelling, migrate

Status = Literal["pending", "collected", "featured", "indexed", "quarantined", "deleted"]
Document = dict[str, Any]
Group = tuple[UUID | None, int | None]
"""Which group of near-duplicates an image is in, and the group's size if it is named by this image."""
STATUSES: tuple[Status, ...] = ("pending", "collected", "featured", "indexed", "quarantined", "deleted")
# Images that a run still has to do something for.
WAITING = ("pending", "collected", "featured")
CHUNK = 1000
HISTORY = 200
# Of a reader that does not say for so long that it is there, nothing is kept.
LEASE = timedelta(minutes=5)
DUPLICATE_KEY = 11000


@dataclass(frozen=True)
class Filter:
    """Which images may be answers of a search. What is None lets everything through."""

    label: str | None = None
    owner: str | None = None
    since: datetime | None = None
    """Created then or later."""
    until: datetime | None = None
    """Created before then."""
    visible_to: str | None = None
    """A user's name: private images of others do not exist. None is for admins and for our own tasks."""

    def query(self) -> Document:
        """The living images that pass: an equality on label or owner, a range of created_at, each with its index."""
        wanted: Document = {"status": {"$ne": "deleted"}, **visible(self.visible_to)}
        if self.label is not None:
            wanted["labels"] = self.label
        if self.owner is not None:
            wanted["owner"] = self.owner
        created = {"$gte": self.since, "$lt": self.until}
        if created := {operator: moment for operator, moment in created.items() if moment is not None}:
            wanted["created_at"] = created
        return wanted


def visible(to: str | None) -> Document:
    """What to add to a query so that private images of others than `to` are left out; nothing for None."""
    return {} if to is None else {"$nor": [{"private": True, "owner": {"$ne": to}}]}


EVERYTHING = Filter()


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
        self._pairs: Collection[Document] = self.database["near_duplicates"]

    def prepare(self, tell: Tell = lambda step, done, total: None) -> list[str]:
        """Bring indexes, validators and documents to this version: at any time, by any number of processes.

        Returns what was migrated, as sentences. Raises NewerCatalogue.
        """
        return migrate(self.database, tell)

    def changed(self) -> None:
        """Tell all caches that something changed that pages show: after the write, once for many that belong together.

        Methods of this class do so themselves.
        """
        epoch.advance(self.database)

    def ping(self) -> None:
        """Raise when the server cannot be reached."""
        self.client.admin.command("ping")

    def close(self) -> None:
        self.client.close()

    # Images come in

    def register(self, events: Sequence[ImageEvent]) -> int:
        """Make sure that every created image has a document. Returns how many are new.

        An image that is known gets labels, unless people have decided on it, and an owner if it has none.
        Every event must have its `etag`, or a `reason` why the image cannot be used.
        """
        merged: dict[UUID, list[ImageEvent]] = {}
        for event in events:
            merged.setdefault(image_id(event.bucket, event.key, event.etag or ""), []).append(event)
        new = 0
        for chunk in _chunks(list(merged)):
            known = self.find(chunk, ["labels", "owner", "private", "revision"])
            new += self._insert([_new_document(one, merged[one]) for one in chunk if one not in known])
            self._add({one: _told(merged[one]) for one in chunk if one in known}, known)
        self.changed()
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
            self._add({one["_id"]: one for one in lost}, {one["_id"]: {} for one in lost})
            return len(documents) - len(lost)
        return len(documents)

    def _add(self, told: Mapping[UUID, Document], known: Mapping[UUID, Document]) -> None:
        """What known images do not have yet of what events told."""
        updates = [update for one, facts in told.items() for update in _additions(one, facts, known[one])]
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
        # What comes into the index, for the first time or again, is looked at for near-duplicates.
        moved = self.images.update_many(query, _change({"status": "indexed", "compared": False})).matched_count
        self.changed()
        return moved

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

    def alive(self, ids: Sequence[UUID], wanted: Filter = EVERYTHING) -> set[UUID]:
        """Those of the ids that are not deleted and pass the filter: a deletion counts from the next query on."""
        found: set[UUID] = set()
        for chunk in _chunks(ids):
            query = {"_id": {"$in": list(chunk)}, **wanted.query()}
            found.update(document["_id"] for document in self.images.find(query, {"_id": 1}))
        return found

    def matching(self, wanted: Filter, but: UUID | None = None) -> dict[UUID, UUID]:
        """Images, except `but`, that are not deleted and pass the filter, by the image whose features they share:
        themselves, or the original of an exact copy. A copy answers for an original that does not pass."""
        answers: dict[UUID, UUID] = {}
        for document in self.images.find(wanted.query(), {"duplicate_of": 1}):
            one, original = document["_id"], document.get("duplicate_of")
            if one == but:
                continue
            if original is None:
                answers[one] = one
            else:
                # Any copy will do; the smallest id, so that the same search has the same answer.
                answers[original] = min(one, answers.get(original, one), key=lambda image: (image != original, image))
        return answers

    def answering(self, ids: Set[UUID], wanted: Filter, but: UUID | None = None) -> dict[UUID, UUID]:
        """What `matching` says of these images alone, for a filter that asks at most for what a user may see."""
        passing = self.alive(list(ids), wanted)
        answers = {one: one for one in passing if one != but}
        hidden = self.alive(list(ids - passing)) if wanted.visible_to is not None else set()
        for chunk in _chunks(list(hidden)):
            query = {"duplicate_of": {"$in": list(chunk)}, **wanted.query()}
            for copy in self.images.find(query, {"duplicate_of": 1}).sort("_id", DESCENDING):
                if copy["_id"] != but:
                    answers[copy["duplicate_of"]] = copy["_id"]
        return answers

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

    # Near-duplicates: pairs that were found, and the groups that follow from them
    #
    # An image of a group names it in `group`: the smallest id in it. That image also says how many they are, in
    # `group_size`. Pairs are the evidence; groups are derived from them and may be derived again at any time.

    def to_compare(self, first: UUID, last: UUID) -> list[UUID]:
        """Indexed images that were not searched for near-duplicates yet, with ids from `first` to `last`."""
        query = {"compared": {"$ne": True}, "_id": {"$gte": first, "$lte": last}, "status": "indexed"}
        return [one["_id"] for one in self.images.find({**query, "duplicate_of": None}, {"_id": 1}).sort("_id")]

    def compared(self, pairs: Iterable[Document], ids: Sequence[UUID]) -> None:
        """Store the pairs that were found for these images, then note that they need not be searched for again.

        A pair is {"images": [smaller id, larger id], "score", "inliers", "mirrored"}.
        """
        updates = []
        for pair in pairs:
            one, other = pair["images"]
            updates.append(UpdateOne({"_id": f"{one}:{other}"}, {"$set": pair}, upsert=True))
        for chunk in _chunks(updates):
            self._pairs.bulk_write(list(chunk), ordered=False)
        self._update([({"_id": one}, {"compared": True}) for one in ids])

    def compare_again(self) -> None:
        """Forget all pairs, so that every image is searched for again and every group is derived anew."""
        # The marks last: killed before, the next pass must not believe that there is nothing to do.
        self._pairs.delete_many({})
        self.images.update_many({"compared": True}, {"$set": {"compared": False}})

    def pairs(self, ids: Iterable[UUID] | None = None) -> Iterator[Document]:
        """Pairs that were found; with `ids`, those that one of these images is in."""
        if ids is None:
            yield from self._pairs.find()
            return
        for chunk in _chunks(list(ids)):
            yield from self._pairs.find({"images": {"$in": list(chunk)}})

    def drop_pairs(self, pairs: Iterable[Document]) -> None:
        """Forget pairs, by their documents."""
        for chunk in _chunks([pair["_id"] for pair in pairs]):
            self._pairs.delete_many({"_id": {"$in": list(chunk)}})

    def exact_copies(self) -> dict[UUID, UUID]:
        """Indexed images that have the same bytes as an earlier one, and that one."""
        found = self.images.find({"duplicate_of": {"$gt": UUID(int=0)}, "status": "indexed"}, {"duplicate_of": 1})
        return {one["_id"]: one["duplicate_of"] for one in found}

    def grouped(self) -> dict[UUID, Group]:
        """Group of each image that is in one; and its size, where the image is the one that the group is named by."""
        found = self.images.find({"group": {"$gt": UUID(int=0)}}, {"group": 1, "group_size": 1})
        return {one["_id"]: (one["group"], one.get("group_size")) for one in found}

    def set_groups(self, groups: Mapping[UUID, Group]) -> None:
        """Move images into groups, or out of any."""
        self._update([({"_id": one}, {"group": group, "group_size": size}) for one, (group, size) in groups.items()])
        self.changed()

    def groups(self, limit: int, after: tuple[int, UUID] | None = None) -> list[tuple[int, UUID]]:
        """A page of groups, largest first: their sizes and ids. `after` is the last of the page before."""
        if after is None:
            query: Document = {"group_size": {"$gt": 0}}
        else:
            size, last = after
            same, smaller = {"group_size": size, "_id": {"$gt": last}}, {"group_size": {"$gt": 0, "$lt": size}}
            query = {"$or": [same, smaller]}
        order = [("group_size", DESCENDING), ("_id", ASCENDING)]
        found = self.images.find(query, {"group_size": 1}).sort(order).limit(limit)
        return [(one["group_size"], one["_id"]) for one in found]

    def members(self, groups: Sequence[UUID], visible_to: str | None = None) -> list[Document]:
        """Living images of these groups, in the order of their ids."""
        query = {"group": {"$in": list(groups)}, **Filter(visible_to=visible_to).query()}
        return list(self.images.find(query).sort("_id", ASCENDING))

    def _update(self, rows: Sequence[tuple[Document, Document]]) -> None:
        """Set fields of single images, as (which, fields)."""
        for chunk in _chunks(rows):
            self.images.bulk_write([UpdateOne(which, {"$set": fields}) for which, fields in chunk], ordered=False)

    # Pointers: small facts that change by one atomic write

    def current_generation(self) -> str | None:
        """Id of the generation that searches use."""
        return self.published().current

    def published(self) -> "Published":
        """Which generation searches use, and which were before."""
        pointer = self._pointers.find_one({"_id": "generation"}) or {}
        return Published(**{name: pointer[name] for name in Published._fields if name in pointer})

    def publish_generation(self, new: str, expected: str | None) -> bool:
        """Make `new` current if `expected` still is, and `new` was not rolled back; False otherwise."""
        now = datetime.now(UTC)
        if expected is None:
            pointer = {"_id": "generation", "current": new, "history": [new], "rolled_back": [], "updated_at": now}
            try:
                self._pointers.insert_one(pointer)
            except DuplicateKeyError:
                return False
            self.changed()
            return True
        return self._point({"current": expected, "rolled_back": {"$ne": new}}, new, now, {})

    def roll_back_generation(self, to: str, seen: "Published", over: Sequence[str]) -> bool:
        """Make an earlier generation current if nothing was published since `seen`; False otherwise.

        What is gone back `over` can never be published again.
        """
        return self._point(
            {"current": seen.current}, to, datetime.now(UTC), {"$addToSet": {"rolled_back": {"$each": list(over)}}}
        )

    def _point(self, expected: Document, new: str, now: datetime, more: Document) -> bool:
        change = {
            "$set": {"current": new, "updated_at": now},
            "$push": {"history": {"$each": [new], "$slice": -HISTORY}},
        }
        won = self._pointers.find_one_and_update({"_id": "generation", **expected}, {**change, **more}) is not None
        if won:
            self.changed()
        return won

    @contextmanager
    def lease(self, generations: Sequence[str]) -> Iterator[str]:
        """Keep generations from being removed meanwhile, for at most LEASE. Yields the name of the lease."""
        name = f"lease:{uuid4()}"
        self.renew_lease(name, generations)
        try:
            yield name
        finally:
            self.end_lease(name)

    def renew_lease(self, name: str, generations: Sequence[str]) -> None:
        """Keep generations, and no others, from being removed, for LEASE from now."""
        fields = {"generations": list(generations), "until": datetime.now(UTC) + LEASE}
        self._pointers.update_one({"_id": name}, {"$set": fields}, upsert=True)

    def end_lease(self, name: str) -> None:
        self._pointers.delete_one({"_id": name})

    def leases(self) -> Counter[str]:
        """How many leases each generation has."""
        self._pointers.delete_many({"until": {"$lt": datetime.now(UTC)}})
        return Counter(
            one for lease in self._pointers.find({"until": {"$exists": True}}) for one in lease["generations"]
        )

    def indexed_without(self, held: Set[UUID]) -> dict[str | None, list[UUID]]:
        """Indexed images with descriptors of their own other than `held`, by segment."""
        found: dict[str | None, list[UUID]] = {}
        for document in self.images.find({"status": "indexed", "duplicate_of": None}, {"segment": 1}):
            if document["_id"] not in held:
                found.setdefault(document["segment"], []).append(document["_id"])
        return found

    def unindex(self, ids: Sequence[UUID], status: Literal["featured", "pending"]) -> None:
        """The current generation does not hold these images any more: append them again, or start over."""
        self._move(
            ids, ["indexed"], {"status": status} if status == "featured" else {"status": status, "segment": None}
        )

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
        change = _change(fields)
        moved = 0
        for chunk in _chunks(ids):
            # One exact match for each image and state: every server answers that from an index.
            updates = [UpdateOne({"_id": one, "status": status}, change) for one in chunk for status in start]
            moved += self.images.bulk_write(updates).matched_count
        if ids:
            self.changed()
        return moved


def _change(fields: Document) -> Document:
    """An update that sets fields of an image and notes when; of one that is indexed, when it first was."""
    now = datetime.now(UTC)
    first = {"$min": {"indexed_at": now}} if fields.get("status") == "indexed" else {}
    return {"$set": {**fields, "updated_at": now}, **first}


class Published(NamedTuple):
    """What the pointer says."""

    current: str | None = None
    history: Sequence[str] = ()
    """Generations in the order in which they became current, the current one last; the newest HISTORY of them."""
    rolled_back: Sequence[str] = ()

    def after(self, generation: str) -> list[str]:
        """Those that became current after `generation` last did."""
        times = [number for number, one in enumerate(self.history) if one == generation]
        return [one for one in self.history[times[-1] + 1 if times else 0 :] if one != generation]


def _told(events: list[ImageEvent]) -> Document:
    """What events about the same image say of it, beside where it is."""
    return {
        "owner": next((event.owner for event in events if event.owner), None),
        "private": any(event.private for event in events),
        "labels": sorted({event.label for event in events if event.label}),
    }


def _new_document(one: UUID, events: list[ImageEvent]) -> Document:
    now, first = datetime.now(UTC), events[0]
    reason = next((event.reason for event in events if event.reason), None)
    told = _told(events)
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
        **told,
        **labelling(told["labels"]),
        **UNTOUCHED,
        "source": first.source,
        "shard": None,
        "segment": None,
        "duplicate_of": None,
        "created_at": now,
        "updated_at": now,
    }


def _additions(one: UUID, told: Document, known: Document) -> list[UpdateOne]:
    """Updates that bring what events told to an image; `known` is what it had when somebody looked."""
    updates = []
    # The bucket's own event may come before that of the upload, which knows of the owner. But nobody can take, or hide,
    # an image that is another's.
    if known.get("owner") in (None, told["owner"]):
        fields = {name: told[name] for name in ("owner", "private") if told[name] and told[name] != known.get(name)}
        if fields:
            updates.append(UpdateOne({"_id": one}, {"$set": fields}))
    new = sorted(set(told["labels"]) - set(known.get("labels", [])))
    if new and not known.get("revision"):
        # Asked for again while it is written, as people may have decided meanwhile; None for what is not migrated yet.
        fields = {**UNTOUCHED, **labelling(new)}
        change = {"$addToSet": {"labels": {"$each": new}}, "$set": fields}
        updates += [UpdateOne({"_id": one, "revision": revision}, change) for revision in (0, None)]
    return updates


def _chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]
