"""What people decided on images: the decisions, and what of them stands in the images' documents.

The decisions are the truth, each with the image's next revision; the image's fields follow from its latest. Inserting
revision n + 1 is the compare-and-set: a unique key lets one of several through. Then the decision is written to the
image, which takes only the next one. Where a process died in between, whoever reads the image here writes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Literal
from uuid import UUID

from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from pipeline.stores import epoch

Document = dict[str, Any]
Kind = Literal["label", "import", "opinion", "review", "undo"]
STANDING: Document = {
    **{"labels": [], "boxes": [], "stage": "unlabelled", "attention": 0, "labelled_by": None, "labelled_at": None},
    **{"reviewed_by": None, "reviewed_at": None, "review_comment": None},
}
"""What decisions change of an image, and how it is where nobody decided."""
CHUNK = 500


def revision(document: Document) -> int:
    """How many decisions an image's document has seen."""
    return int(document.get("revision") or 0)


def standing(document: Document) -> Document:
    """The fields of an image, or of a decision, that STANDING names."""
    return {name: document.get(name, default) for name, default in STANDING.items()}


def after(decision: Document) -> Document:
    """Fields of the image after a decision. A second opinion stands beside the labels, not in their place."""
    said = standing(decision)
    if decision["kind"] == "opinion":
        del said["labels"], said["boxes"]
    return {**said, "revision": decision["revision"], "updated_at": decision["at"]}


class Annotations:
    """A thread-safe view of the decisions and of the images' annotation fields."""

    def __init__(self, database: Database[Document]) -> None:
        self._database = database
        self._images = database["images"]
        self._decisions = database["decisions"]

    # Decisions

    def image(self, one: UUID) -> Document | None:
        """The document of an image after all decisions on it; None where there is none."""
        while True:
            document = self._images.find_one({"_id": one})
            if document is None or not self.catch_up(document):
                return document

    def catch_up(self, document: Document) -> bool:
        """Write the decision that this document of an image lacks, if there is one; False otherwise."""
        late = self.decision(document["_id"], revision(document) + 1)
        if late is not None:
            self._write(late)
        return late is not None

    def decide(self, decision: Document) -> bool:
        """Store a decision and write it to its image; False, and nothing, where its revision is taken."""
        try:
            self._decisions.insert_one(decision)
        except DuplicateKeyError:
            return False
        self._write(decision)
        return True

    def _write(self, decision: Document) -> None:
        seen = decision["revision"] - 1
        change = {
            "$set": after(decision),
            "$addToSet": {"decided_by": decision["by"]},
            # It is another question now, also for those who skipped the last one.
            "$unset": {"claimed_by": "", "claimed_until": "", "skipped_by": ""},
        }
        # Only onto the revision before, which older documents do not name: later ones are never taken back.
        self._images.update_one({"_id": decision["image"], "revision": seen or {"$in": [0, None]}}, change)
        epoch.advance(self._database)

    def decision(self, image: UUID, number: int) -> Document | None:
        """The decision that made this revision of an image."""
        return self._decisions.find_one({"image": image, "revision": number})

    def since(self, image: UUID, seen: int, limit: int) -> list[Document]:
        """The first decisions after the revision `seen`, in their order."""
        query = {"image": image, "revision": {"$gt": seen}}
        return list(self._decisions.find(query).sort("revision", ASCENDING).limit(limit))

    def history(self, image: UUID, limit: int, before: int | None = None) -> list[Document]:
        """A page of the decisions on an image, latest first; `before` is the last revision of the page before."""
        query: Document = {"image": image} if before is None else {"image": image, "revision": {"$lt": before}}
        return list(self._decisions.find(query).sort("revision", DESCENDING).limit(limit))

    def histories(self, images: Sequence[UUID]) -> Iterator[tuple[UUID, list[Document]]]:
        """Each of these images that somebody decided on, with all decisions in their order."""
        order = [("image", ASCENDING), ("revision", ASCENDING)]
        for start in range(0, len(images), CHUNK):
            found = self._decisions.find({"image": {"$in": list(images[start : start + CHUNK])}}).sort(order)
            for image, decisions in groupby(found, lambda decision: decision["image"]):
                yield image, list(decisions)

    def with_opinions(self) -> set[UUID]:
        """Images that somebody gave a second opinion on."""
        return set(self._decisions.distinct("image", {"kind": "opinion"}))

    # The queue

    def claim(self, wanted: Document, order: Sequence[tuple[str, int]], user: str, until: datetime) -> Document | None:
        """The first image that is `wanted` and that nobody else has claimed, claimed by this user from now on."""
        free = {"$or": [{"claimed_by": user}, {"claimed_until": {"$not": {"$gt": datetime.now(until.tzinfo)}}}]}
        change = {"$set": {"claimed_by": user, "claimed_until": until}}
        return self._images.find_one_and_update(
            {**wanted, **free}, change, sort=list(order), return_document=ReturnDocument.AFTER
        )

    def skip(self, image: UUID, user: str) -> None:
        """Do not offer an image to this user again until somebody decided on it."""
        self._images.update_one({"_id": image}, {"$addToSet": {"skipped_by": user}})
        self._images.update_one({"_id": image, "claimed_by": user}, {"$unset": {"claimed_by": "", "claimed_until": ""}})

    def count_by(self, wanted: Document, fields: Sequence[str]) -> Iterator[tuple[Document, int]]:
        """How many images that are `wanted` have which values of these fields."""
        by = {field: f"${field}" for field in fields}
        for group in self._images.aggregate([{"$match": wanted}, {"$group": {"_id": by, "n": {"$sum": 1}}}]):
            yield group["_id"], group["n"]

    # The gold set

    def set_gold(self, image: UUID, gold: Mapping[str, Any] | None) -> None:
        """Note what is right about an image, as {labels, boxes, by, at}, or that this is not known any more."""
        change = {"$unset": {"gold": ""}} if gold is None else {"$set": {"gold": gold}}
        self._images.update_one({"_id": image}, change)

    def gold(self) -> dict[UUID, Document]:
        """What is right, for each living image of the gold set."""
        query = {"gold.by": {"$exists": True}, "status": {"$ne": "deleted"}}
        return {one["_id"]: one["gold"] for one in self._images.find(query, {"gold": 1})}
