"""The catalogue's indexes, validators and versions: what every query may count on, and how older catalogues get there.

The pointer ``schema`` says which version a catalogue has; one without it is of version 1, or new. `migrate` runs
whenever a process prepares the catalogue, and by `sleeve migrate`. A new query shape adds its index to INDEXES and no
more; what existing documents lack is a new step in STEPS.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel, UpdateOne
from pymongo.database import Database
from pymongo.errors import OperationFailure

from pipeline.errors import NewerCatalogue

log = logging.getLogger(__name__)

Document = dict[str, Any]
Tell = Callable[[str, int, int], None]
"""Hears which step of a migration is at work, how many documents are done, and how many there are."""
CHUNK = 1000
INDEX_NOT_FOUND, COMMAND_NOT_FOUND = 27, 59


def _index(name: str, *fields: str, **options: Any) -> IndexModel:
    """An index over fields, descending where they begin with a minus."""
    keys = [(field.removeprefix("-"), DESCENDING if field[0] == "-" else ASCENDING) for field in fields]
    return IndexModel(keys, name=name, **options)


# Private images of others are left out of pages as they are read: they are few, so no index begins with `private`.
# `contents`, `keys` and `pointers` are only ever asked by _id, and for leases, of which there are a handful.
INDEXES: Mapping[str, list[IndexModel]] = {
    "images": [
        _index("bucket_key_version", "bucket", "key", "version", unique=True),  # one image per object; under_keys
        _index("status_id", "status", "_id"),  # waiting images; quarantine and pages by status; counts
        _index("duplicate_of", "duplicate_of"),  # duplicates that wait for their original; copies of private images
        _index("created_at_id", "created_at", "_id"),  # searches by time; pages, newest first
        _index("owner_created_at_id", "owner", "created_at", "_id"),  # the same of one owner
        _index("labels_created_at_id", "labels", "created_at", "_id"),  # the same of one label
        _index("status_created_at_id", "status", "created_at", "_id"),  # pages by status, newest first: quarantine
        _index("original_filename_id", "original_filename", "_id"),  # pages of file names that begin alike
        _index("source_created_at_id", "source", "created_at", "_id"),  # pages of what one import or producer brought
        _index("owner_id", "owner", "_id"),  # pages by owner
        _index("labels_id", "labels", "_id"),  # pages by label; labels with their counts
        _index("attention_id", "attention", "_id"),  # the annotators' queue
        _index("stage_id", "stage", "_id"),  # the reviewers' queue; pages by stage
        _index("gold", "gold.by", sparse=True),  # the gold set: a few images of all
        _index("indexed_at", "indexed_at"),  # what came into the index lately, and how long that took
        _index("compared", "compared", "_id"),  # images that were not searched for near-duplicates yet
        _index("group", "group"),  # members of a group of near-duplicates
        _index("group_size", "-group_size", "_id"),  # pages of groups, largest first
    ],
    "near_duplicates": [
        _index("images", "images"),  # pairs that one of these images is in
    ],
    "users": [
        _index("key", "key", unique=True),  # one user per name, whatever the case; pages by name
    ],
    "sessions": [
        _index("user", "user"),  # all sessions of a user, to end them
        _index("expires_at", "expires_at", expireAfterSeconds=0),  # the server removes what is over
    ],
    "decisions": [
        _index("image_revision", "image", "revision", unique=True),  # one decision per revision; history of an image
        _index("kind_image", "kind", "image"),  # images with second opinions
    ],
    "jobs": [
        _index("state_created_at", "state", "created_at"),  # the next job to take; those that stopped half way
        _index("by_created_at_id", "by", "created_at", "_id"),  # pages of a user's jobs
        _index("created_at_id", "created_at", "_id"),  # pages of all jobs
    ],
}

_TEXT, _NUMBER, _ID, _TIME, _FLAG = (
    {"bsonType": kind} for kind in (["string", "null"], "number", "binData", "date", "bool")
)
_LABELS = {"bsonType": "array", "items": {"bsonType": "string"}}
_BOX = {
    "bsonType": "object",
    "required": ["id", "label", "x", "y", "width", "height"],
    "properties": {"id": {"bsonType": "string"}, "label": {"bsonType": "string"}}
    | {name: {"bsonType": "number", "minimum": 0, "maximum": 1} for name in ("x", "y", "width", "height")},
}
_BOXES = {"bsonType": "array", "items": _BOX}


def _shape(required: str, **properties: Document) -> Document:
    return {"$jsonSchema": {"bsonType": "object", "required": required.split(), "properties": properties}}


def _one_of(*values: str | int) -> Document:
    return {"enum": list(values)}


# Fields that came with version 2 are not required: what replicas of the version before still insert must pass.
VALIDATORS: Mapping[str, Document] = {
    "images": _shape(
        "_id bucket key version status labels created_at updated_at",
        _id=_ID,
        status=_one_of("pending", "collected", "featured", "indexed", "quarantined", "deleted"),
        owner=_TEXT,
        private=_FLAG,
        labels=_LABELS,
        boxes=_BOXES,
        revision={"bsonType": "number", "minimum": 0},
        attention=_one_of(0, 1, 2, 3),
        stage=_one_of("unlabelled", "labelled", "accepted", "rejected"),
        created_at=_TIME,
        updated_at=_TIME,
    ),
    "near_duplicates": _shape("images score", images={"bsonType": "array", "items": _ID, "minItems": 2, "maxItems": 2}),
    "users": _shape(
        "_id key name role disabled created_at",
        _id=_ID,
        key={"bsonType": "string"},
        role=_one_of("viewer", "annotator", "admin"),
        disabled=_FLAG,
        created_at=_TIME,
    ),
    "sessions": _shape("_id user secret expires_at", _id=_ID, user=_ID, expires_at=_TIME),
    "decisions": _shape(
        "image revision by at kind labels boxes",
        image=_ID,
        revision={"bsonType": "number", "minimum": 1},
        by={"bsonType": "string"},
        at=_TIME,
        kind=_one_of("label", "review", "undo", "import", "opinion"),
        labels=_LABELS,
        boxes=_BOXES,
    ),
    "jobs": _shape(
        "_id kind by state created_at",
        _id=_ID,
        kind=_one_of("export", "import"),
        state=_one_of("queued", "running", "done", "failed"),
        done=_NUMBER,
        created_at=_TIME,
    ),
}


def labelling(labels: list[str]) -> Document:
    """Where an image stands that nobody has decided on: what producers labelled counts as labelled."""
    return {"attention": 3, "stage": "labelled"} if labels else {"attention": 0, "stage": "unlabelled"}


UNTOUCHED: Mapping[str, Any] = {"boxes": [], "revision": 0}
"""What every image has, beside its labels, before people decide on it."""


def _add_labelling(database: Database[Document], tell: Callable[[int, int], None]) -> None:
    """Privacy, boxes, revisions, and where images stand in labelling.

    Only what has no revision is written, each document in one step: so a decision, or labels of a producer, that come
    in between are kept, and whoever repeats this finds the rest.
    """
    images = database["images"]
    total, done = images.count_documents({"revision": None}), 0
    query: Document = {"revision": None}
    while chunk := list(images.find(query, {"labels": 1}).sort("_id", ASCENDING).limit(CHUNK)):
        fields = [{**UNTOUCHED, "private": False, **labelling(one["labels"])} for one in chunk]
        updates = [
            UpdateOne({"_id": one["_id"], "revision": None}, {"$set": new})
            for one, new in zip(chunk, fields, strict=True)
        ]
        images.bulk_write(updates, ordered=False)
        done += len(chunk)
        tell(done, max(done, total))
        query = {"revision": None, "_id": {"$gt": chunk[-1]["_id"]}}


def _drop_index(database: Database[Document], collection: str, name: str) -> None:
    try:
        database[collection].drop_index(name)
    except OperationFailure as error:
        # New here, or somebody else was at it.
        if error.code != INDEX_NOT_FOUND:
            raise


def _to_version_2(database: Database[Document], tell: Callable[[int, int], None]) -> None:
    # Pages go by the id too, and same bytes are found in `contents`; these would only slow down what is written.
    for name in ("created_at", "owner_created_at", "labels_created_at", "sha256"):
        _drop_index(database, "images", name)
    _add_labelling(database, tell)


STEPS: Mapping[int, tuple[str, Callable[[Database[Document], Callable[[int, int], None]], None]]] = {
    2: ("labelling and privacy", _to_version_2),
}
VERSION = max(STEPS)


def version(database: Database[Document]) -> int:
    """Which version the catalogue has."""
    pointer = database["pointers"].find_one({"_id": "schema"})
    return int(pointer["version"]) if pointer else 1


def migrate(database: Database[Document], tell: Tell = lambda step, done, total: None) -> list[str]:
    """Bring the catalogue to VERSION, from any older one. Returns what was done, as sentences.

    Any number of processes may do so at once, and each may be killed anywhere: a step can be repeated, and the version
    is written after it. Processes of an older version should be stopped before: what they insert later lacks what the
    steps add. Raises NewerCatalogue.
    """
    before = version(database)
    if before > VERSION:
        raise NewerCatalogue(
            f"The catalogue {database.name} has version {before}, and this Sleeve knows versions up to {VERSION}. "
            "Install the Sleeve that wrote it, or a later one; or restore a backup from before it was migrated."
        )
    for collection, indexes in INDEXES.items():
        database[collection].create_indexes(indexes)
    done = []
    for number in range(before + 1, VERSION + 1):
        name, step = STEPS[number]
        step(database, lambda count, total, name=name: tell(name, count, total))  # type: ignore[misc]
        # Forward only: a process that took longer over an earlier version must not take this one back.
        database["pointers"].update_one({"_id": "schema"}, {"$max": {"version": number}}, upsert=True)
        done.append(f"Version {number}: {name}.")
    _validate(database)
    return done


def _validate(database: Database[Document]) -> None:
    """Let the server refuse documents of another shape, where it can."""
    present = {one["name"]: one["options"].get("validator") for one in database.list_collections()}
    for collection, validator in VALIDATORS.items():
        # Asked for only where it changes something: it stops all writes for a moment, and needs the right to do so.
        if present.get(collection) == validator:
            continue
        try:
            database.command("collMod", collection, validator=validator, validationLevel="moderate")
        except OperationFailure as error:
            if error.code != COMMAND_NOT_FOUND:
                raise
            log.debug("This server has no validators; documents go unchecked.")
            return
