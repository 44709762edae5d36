"""Near-duplicates: images of the collection that show the same picture, re-encoded, resized, trimmed or mirrored.

A pass has three steps: `plan` cuts what is new into shards, `compare` searches for the images of one shard, `regroup`
derives groups from all pairs that were found. Like the steps of `pipeline.ingest`, each may run twice, twice at once,
or be killed anywhere: pairs are stored before an image is marked as compared, and groups follow from the pairs.
"""

from collections.abc import Iterable, Iterator, Sequence, Set
from math import ceil
from typing import Any
from uuid import UUID

from pipeline.context import Context
from pipeline.features.sift import Features
from pipeline.index.alike import nearly_whole
from pipeline.index.opened import OpenGeneration, one_thread
from pipeline.index.recognise import Match, Wanted, in_mirror, recognise
from pipeline.indexing import generations
from pipeline.stores.catalog import Catalog, Document, Group

SHARD_IMAGES = 500
MAX_SHARDS = 200
# Pairs of so many images are stored together; a killed task searches again for fewer than these.
BATCH = 50
# An image with more copies than this is linked to the others through one of these.
COPIES = 20
PAGE = 200

Shard = dict[str, int]
"""{"shard": k, "of": n}: the k-th of n equal ranges of ids, counted from 0."""


def plan(context: Context) -> list[Shard]:
    """Shards of the images that were not compared yet; image ids are hashes, so equal ranges hold about as many."""
    waiting = len(context.catalog.to_compare(*_ids({"shard": 0, "of": 1})))
    count = min(ceil(waiting / SHARD_IMAGES), MAX_SHARDS)
    return [{"shard": number, "of": count} for number in range(count)]


def _ids(shard: Shard) -> tuple[UUID, UUID]:
    """The first and the last id of a shard."""
    first, stop = ((1 << 128) * number // shard["of"] for number in (shard["shard"], shard["shard"] + 1))
    return UUID(int=first), UUID(int=stop - 1)


def compare(context: Context, shard: Shard) -> dict[str, int]:
    """Search the current generation for each image of a shard that was not compared yet. Returns counts."""
    own = generations(context)
    manifest = own.current()
    waiting = context.catalog.to_compare(*_ids(shard))
    counts = {**shard, "images": 0, "pairs": 0}
    if manifest is None or not waiting:
        return counts
    opened = OpenGeneration.open(manifest, own.files)
    one_thread()
    for start in range(0, len(waiting), BATCH):
        # What came, or went, with another generation waits for the next pass.
        known = [(one, opened.number(one)) for one in waiting[start : start + BATCH]]
        numbers = {one: number for one, number in known if number is not None}
        pairs = [pair for one, number in numbers.items() for pair in _pairs(context, opened, one, number)]
        context.catalog.compared(pairs, list(numbers))
        counts["images"] += len(numbers)
        counts["pairs"] += len(pairs)
    return counts


def _pairs(context: Context, opened: OpenGeneration, image: UUID, number: int) -> Iterator[Document]:
    """An image and each of its near-duplicates, as documents for the catalogue."""
    features = opened.features(number)
    for match in _alike(context, opened, image, features):
        found = opened.number(match.image_id)
        if found is not None and nearly_whole(match.geometry, features, opened.features(found)):
            yield {
                "images": sorted([image, match.image_id]),
                "score": round(match.score, 4),
                "inliers": match.geometry.inliers,
                "mirrored": match.mirrored,
            }


def _alike(context: Context, opened: OpenGeneration, image: UUID, features: Features) -> Iterable[Match]:
    """Other images that this one shows, as they are or mirrored, whichever is surer."""

    def others(ids: Sequence[UUID]) -> set[UUID]:
        return context.catalog.alive(ids) - {image}

    wanted = Wanted(COPIES, context.settings.similarity_threshold, alive=others)
    found = recognise(opened, features, wanted)
    # It looks into the mirror by itself only where it finds nothing else.
    if not all(match.mirrored for match in found):
        found += in_mirror(opened, features, wanted).values()
    return {match.image_id: match for match in sorted(found, key=lambda match: match.score)}.values()


def regroup(context: Context) -> dict[str, int]:
    """Derive all groups from the pairs and the exact copies, until the catalogue says just that. Returns counts.

    Of several that run at once the one that writes last looks once more, so all end with what follows from all pairs.
    """
    nowhere: Group = (None, None)
    while True:
        wanted = _derive(context.catalog)
        stored = context.catalog.grouped()
        moved = {
            one: wanted.get(one, nowhere)
            for one in wanted.keys() | stored.keys()
            if wanted.get(one, nowhere) != stored.get(one, nowhere)
        }
        if not moved:
            return {"groups": len({group for group, _ in wanted.values()}), "images": len(wanted)}
        context.catalog.set_groups(moved)


def _derive(catalog: Catalog) -> dict[UUID, Group]:
    """The group of every image that is in one, and its size at the image that it is named by."""
    pairs = list(catalog.pairs())
    living = catalog.alive(list({image for pair in pairs for image in pair["images"]}))
    catalog.drop_pairs(pair for pair in pairs if not living.issuperset(pair["images"]))
    links = [tuple(pair["images"]) for pair in pairs if living.issuperset(pair["images"])]
    links += catalog.exact_copies().items()
    groups: dict[UUID, Group] = {}
    for members in _components(links):
        smallest = min(members)
        groups |= {one: (smallest, len(members) if one == smallest else None) for one in members}
    return groups


def _components(links: Iterable[tuple[UUID, UUID]]) -> Iterator[list[UUID]]:
    """Images that are linked with each other, over others too."""
    neighbours: dict[UUID, list[UUID]] = {}
    for one, other in links:
        neighbours.setdefault(one, []).append(other)
        neighbours.setdefault(other, []).append(one)
    while neighbours:
        members, waiting = set[UUID](), [next(iter(neighbours))]
        while waiting:
            one = waiting.pop()
            if one not in members:
                members.add(one)
                waiting += neighbours.pop(one)
        yield list(members)


Place = tuple[int, UUID]
"""Where a page of groups ends: the size and the id of its last group."""


def groups(
    catalog: Catalog, limit: int, after: Place | None = None, visible_to: str | None = None
) -> tuple[Place | None, list[dict[str, Any]]]:
    """A page of groups, largest first, as {"group", "size", "images": [...]}; and its end, None after the last one.

    Each image comes with its labels, its file name, and the evidence that it belongs there: score, inliers and mirrored
    of its closest pair (one that is not mirrored, if it has any), or `copy_of` for the same bytes as another image.
    What was deleted since the last pass is left out, what is private of others than `visible_to` as well, and so is a
    group of which only one image is left.
    """
    page = catalog.groups(limit, after)
    members: dict[UUID, list[Document]] = {group: [] for _, group in page}
    for document in catalog.members(list(members), visible_to):
        members[document["group"]].append(document)
    ids = {document["_id"] for images in members.values() for document in images}
    # Evidence with an image that is not listed would give that one away.
    pairs = [pair for pair in catalog.pairs(ids) if ids.issuperset(pair["images"])]
    best: dict[UUID, Document] = {}
    for pair in sorted(pairs, key=lambda pair: (not pair["mirrored"], pair["score"])):
        best |= dict.fromkeys(pair["images"], pair)
    found = []
    for _, group in page:
        images = [_member(one, best.get(one["_id"], {}), ids) for one in members[group]]
        if len(images) > 1:
            found.append({"group": str(group), "size": len(images), "images": images})
    return (page[-1] if len(page) == limit else None), found


def every_group(catalog: Catalog) -> Iterator[dict[str, Any]]:
    """All groups, as `groups` gives them."""
    after: Place | None = None
    while True:
        after, page = groups(catalog, PAGE, after)
        yield from page
        if after is None:
            return


def _member(document: Document, pair: Document, listed: Set[UUID]) -> dict[str, Any]:
    return {
        "id": str(document["_id"]),
        "labels": document["labels"],
        "original_filename": document["original_filename"],
        "score": pair.get("score"),
        "inliers": pair.get("inliers"),
        "mirrored": pair.get("mirrored"),
        "copy_of": str(document["duplicate_of"]) if document["duplicate_of"] in listed else None,
    }
