"""Images as exports and imports of annotations look for them: those with labels or boxes, and those of a file name."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

from pymongo import ASCENDING

from pipeline.stores.catalog import CHUNK, Catalog, Document, Filter, visible

# Before they were collected nobody knows their sizes; and what is in quarantine is no picture to train with.
USABLE = ("collected", "featured", "indexed")
FIELDS = ("original_filename", "key", "width", "height", "labels", "boxes")


def _wanted(passing: Filter, accepted: bool) -> Document:
    some = {"$or": [{"labels.0": {"$exists": True}}, {"boxes.0": {"$exists": True}}]}
    stage = {"stage": "accepted"} if accepted else {}
    return {"$and": [{**passing.query(), "status": {"$in": list(USABLE)}, **stage}, some]}


def count_labelled(catalog: Catalog, passing: Filter, accepted: bool) -> int:
    """How many images `labelled` gives."""
    return catalog.images.count_documents(_wanted(passing, accepted))


def labelled(catalog: Catalog, passing: Filter, accepted: bool) -> Iterator[Document]:
    """Images with labels or boxes that pass, in the order of their ids; with `accepted`, those that were reviewed."""
    query = _wanted(passing, accepted)
    while chunk := list(catalog.images.find(query, FIELDS).sort("_id", ASCENDING).limit(CHUNK)):
        yield from chunk
        query = {**_wanted(passing, accepted), "_id": {"$gt": chunk[-1]["_id"]}}


def by_file_name(catalog: Catalog, names: Iterable[str], visible_to: str | None) -> Mapping[str, list[UUID]]:
    """Living images that the user may see, by their original file names."""
    return _by(catalog, {"original_filename": {"$in": sorted(set(names))}}, visible_to, lambda name: name)


def by_stem(catalog: Catalog, stems: Iterable[str], visible_to: str | None) -> Mapping[str, list[UUID]]:
    """Living images that the user may see, by their original file names without the suffix."""
    # All names that go on with a dot: the slash is the character after it. Among them are some with a longer stem.
    ranges = [{"original_filename": {"$gte": f"{stem}.", "$lt": f"{stem}/"}} for stem in sorted(set(stems))]
    return _by(catalog, {"$or": ranges}, visible_to, lambda name: PurePosixPath(name).stem) if ranges else {}


def _by(catalog: Catalog, query: Document, visible_to: str | None, key: Any) -> Mapping[str, list[UUID]]:
    found: defaultdict[str, list[UUID]] = defaultdict(list)
    living = {"$and": [query, {"status": {"$ne": "deleted"}}, visible(visible_to)]}
    for document in catalog.images.find(living, {"original_filename": 1}):
        found[key(document["original_filename"])].append(document["_id"])
    return found
