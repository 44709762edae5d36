"""Images as people browse and describe them: pages by keyset, labels with their counts, changes by hand.

A page costs the same wherever it is: it begins behind the last image of the page before, never at a count of images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from pymongo import ASCENDING, DESCENDING, ReturnDocument, UpdateOne

from pipeline.errors import BadQuery
from pipeline.stores.catalog import Catalog, Document, Filter, Status

Order = Literal["newest", "id"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
# Behind every text that begins like this one: the last code point there is.
LAST = "\U0010ffff"


@dataclass(frozen=True)
class Wanted(Filter):
    """Which images a page may show. What is None lets everything through but deleted images."""

    status: Status | None = None
    group: UUID | None = None
    """Of near-duplicates."""
    name: str | None = None
    """How the original file name begins; such pages are in the order of the names."""
    source: str | None = None
    """Where they came from, as events and imports say it."""

    def query(self) -> Document:
        """As for `Filter`, and: an equality on status, group or source, a range of file names."""
        wanted = super().query()
        if self.status is not None:
            wanted["status"] = self.status
        if self.group is not None:
            wanted["group"] = self.group
        if self.source is not None:
            wanted["source"] = self.source
        if self.name is not None:
            wanted["original_filename"] = {"$gte": self.name, "$lt": self.name + LAST}
        return wanted


def page(
    catalog: Catalog, wanted: Wanted, limit: int, after: str | None = None, order: Order = "newest"
) -> tuple[list[Document], str | None]:
    """(images, end of the page): give the end as `after` for the next page; None where there is none. Raises BadQuery.

    Images that come in meanwhile are on no page behind the first of `newest`, and none is shown twice or left out.
    """
    query, sort = wanted.query(), [("_id", ASCENDING)]
    if wanted.name is not None:
        sort = [("original_filename", ASCENDING), ("_id", ASCENDING)]
    elif order == "newest":
        sort = [("created_at", DESCENDING), ("_id", DESCENDING)]
    if after is not None:
        query = {"$and": [query, _behind(sort, after)]}
    found = list(catalog.images.find(query).sort(sort).limit(limit))
    return found, _place(found[-1], sort[0][0]) if len(found) == limit else None


def _place(document: Document, field: str) -> str:
    """Where a page ends: the id of its last image, and what it is ordered by if that is something else."""
    if field == "_id":
        return str(document["_id"])
    value = document[field]
    return f"{document['_id']}:{(value - EPOCH) // MILLISECOND if field == 'created_at' else value}"


def _behind(sort: list[tuple[str, int]], after: str) -> Document:
    field, direction = sort[0]
    beyond = "$gt" if direction == ASCENDING else "$lt"
    try:
        text, _, rest = after.partition(":")
        last = UUID(text)
        if field == "_id":
            return {"_id": {beyond: last}}
        value = EPOCH + int(rest) * MILLISECOND if field == "created_at" else rest
    except (ValueError, OverflowError):
        raise BadQuery(f"after is {after!r:.100}; give `next` of the page before, as it was") from None
    tied = {field: value, "_id": {beyond: last}}
    # The first of the two says the same as the `$or`, in a form that every server begins an index scan with.
    return {field: {f"{beyond}e": value}, "$or": [{field: {beyond: value}}, tied]}


def label_counts(catalog: Catalog, visible_to: str | None = None) -> dict[str, int]:
    """How many images have each label, the commonest first; private images of others than `visible_to` left out."""
    steps: list[Mapping[str, Any]] = [
        {"$match": {"labels": {"$gt": ""}, **Filter(visible_to=visible_to).query()}},
        {"$unwind": "$labels"},
        {"$group": {"_id": "$labels", "n": {"$sum": 1}}},
    ]
    counted = {group["_id"]: group["n"] for group in catalog.images.aggregate(steps)}
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def note_facts(catalog: Catalog, facts: Mapping[UUID, Document]) -> None:
    """Note what an upload already knows of images: width, height, bytes, format. They follow from the content."""
    if facts:
        catalog.images.bulk_write([UpdateOne({"_id": one}, {"$set": known}) for one, known in facts.items()])
        catalog.changed()


def change(catalog: Catalog, image: UUID, fields: Document, seen: datetime | None) -> Document | None:
    """Set what people say of an image (original_filename, owner, private); returns the image as it is now.

    None if it was changed after `seen`, or is deleted.
    """
    query: Document = {"_id": image, "status": {"$ne": "deleted"}} | ({} if seen is None else {"updated_at": seen})
    update = {"$set": {**fields, "updated_at": datetime.now(UTC)}}
    changed: Document | None = catalog.images.find_one_and_update(query, update, return_document=ReturnDocument.AFTER)
    catalog.changed()
    return changed
