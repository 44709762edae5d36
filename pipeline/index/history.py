"""Generations that were: list them, go back to one, remove what nobody needs."""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel

from pipeline.errors import BrokenGeneration, CannotRollBack
from pipeline.features.segments import Segment, segment_key
from pipeline.index.files import DOWNLOADS_AT_ONCE
from pipeline.index.generations import Generations
from pipeline.index.manifest import Manifest
from pipeline.stores.catalog import Published

log = logging.getLogger(__name__)

# How long what no generation names may be part of one that is being made.
IN_THE_MAKING = timedelta(days=1)

State = Literal["current", "published", "rolled back", "unpublished"]


class Entry(BaseModel, frozen=True):
    """A stored generation and what became of it."""

    manifest: Manifest
    state: State
    readers: int
    """How many processes serve it now."""

    def summary(self) -> dict[str, Any]:
        """What a list shows of it, for JSON."""
        one = self.manifest
        return {
            "id": one.id,
            "created_at": one.created_at.isoformat(),
            "state": self.state,
            "readers": self.readers,
            "kind": one.kind,
            "codes": one.choice.codes,
            "reason": one.reason,
            "images": one.counts.images,
            "recall": one.recall.recall_at_1 if one.recall else None,
        }


def entries(own: Generations) -> list[Entry]:
    """All stored generations, newest first; those whose manifest cannot be read are left out."""
    published = own.catalog.published()
    leases = own.catalog.leases()
    return [
        Entry(manifest=manifest, state=_state(manifest.id, published), readers=leases[manifest.id])
        for manifest in reversed(_manifests(own).values())
    ]


def _state(generation: str, published: Published) -> State:
    if generation == published.current:
        return "current"
    if generation in published.rolled_back:
        return "rolled back"
    return "published" if generation in published.history else "unpublished"


def _manifests(own: Generations) -> dict[str, Manifest]:
    found = {}
    for one in own.stored_ids():
        try:
            found[one] = own.load(own.uri(one))
        except BrokenGeneration as error:
            log.warning("left out: %s", error)
    return found


def roll_back(own: Generations, to: str | None = None) -> Manifest:
    """Make an earlier generation current again: `to`, or the parent of the current one.

    All its files are checked first. Images that it does not hold start again as `featured`, so that the next append
    brings them; the generations that are gone back over can never be published again. May be repeated after a crash.
    Raises CannotRollBack, BrokenGeneration.
    """
    published = own.catalog.published()
    if published.current is None:
        raise CannotRollBack("nothing is published yet")
    target = own.load(own.uri(to or _parent(own, published.current)))
    if target.id not in {*published.history, *published.rolled_back, published.current}:
        raise CannotRollBack(f"{target.id} was never published; `sleeve generations` lists those that were")
    with own.catalog.lease([target.id]):
        check_files(own, target)
        _go_back(own, target, published)
    return target


def _go_back(own: Generations, target: Manifest, published: Published) -> None:
    held = {one for path in own.fetch_segments(target.segments) for one in Segment(path).ids}
    # Before the change, since nobody would look for them if this process died after it; the next append puts right
    # what was not changed after all. And after it, for those that an append counted as indexed meanwhile.
    _bring_again(own, target, held)
    if target.id != published.current:
        if not own.catalog.roll_back_generation(target.id, published, _over(own, target, published)):
            raise CannotRollBack("a generation was published meanwhile; look at `sleeve generations` and try again")
        _bring_again(own, target, held)


def _over(own: Generations, target: Manifest, published: Published) -> list[str]:
    """What is gone back over. Of a rebuild that was brought up to date, what it was before as well."""
    over = published.after(target.id)
    stored = [own.load(own.uri(one)) for one in over if own.is_saved(one)]
    return sorted({*over, *(one.base for one in stored if one.kind == "rebuild")})


def _parent(own: Generations, current: str) -> str:
    parent = own.load(own.uri(current)).parent
    if parent is None or not own.is_saved(parent):
        raise CannotRollBack(f"the generation before {current} is not kept; `sleeve generations` lists what is")
    return parent


def check_files(own: Generations, manifest: Manifest) -> None:
    """Read every file of a generation from the store. Raises BrokenGeneration for one that is missing or damaged."""
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
        list(pool.map(own.files.download, manifest.files()))


def _bring_again(own: Generations, target: Manifest, held: set[UUID]) -> None:
    """Let the images that a generation does not hold be appended again, from their segments where these are kept."""
    for name, images in own.catalog.indexed_without(held).items():
        bucket = own.settings.sleeve_bucket
        stored = name is not None and not target.knows(name) and own.objects.exists(bucket, segment_key(name))
        own.catalog.unindex(images, "featured" if stored else "pending")


def prune(own: Generations) -> dict[str, int]:
    """Remove generations that nobody needs, and files that no remaining one names. Returns how many of each.

    Kept are the current one, the newest KEEP_GENERATIONS that were published, those that a reader serves, and those
    that are being made. What still holds images that a compaction dropped goes unless it is served.
    """
    published = own.catalog.published()
    manifests = _manifests(own)
    if published.current not in manifests:
        return {"generations": 0, "files": 0}
    kept = _kept(own, published, manifests)
    dropped = [manifest for one, manifest in manifests.items() if one not in kept]
    wanted = {key for one in kept for key in manifests[one].files()}
    wanted |= {segment_key(name) for name in own.catalog.featured_segments()}
    for manifest in dropped:
        own.objects.delete(own.settings.sleeve_bucket, f"generations/{manifest.id}/manifest.json")
    files = {key for manifest in dropped for key in manifest.files()} | set(_abandoned(own))
    for key in files - wanted:
        own.files.remove(key)
    return {"generations": len(dropped), "files": len(files - wanted)}


def _kept(own: Generations, published: Published, manifests: dict[str, Manifest]) -> set[str]:
    newest = list(dict.fromkeys(reversed(published.history)))[: own.settings.keep_generations]
    fresh = [
        one
        for one, manifest in manifests.items()
        if _state(one, published) == "unpublished" and datetime.now(UTC) - manifest.created_at < IN_THE_MAKING
    ]
    current = published.current or ""
    served = {*own.catalog.leases(), current}
    purged = set(manifests[current].purged)
    clean = {
        one
        for one in {*newest, *fresh} & set(manifests)
        if purged.isdisjoint(segment.name for segment in manifests[one].segments)
    }
    return clean | (served & set(manifests))


def _abandoned(own: Generations) -> Iterable[str]:
    """Files that are older than anything that is being made; whether a generation names them is for others to say."""
    before = datetime.now(UTC) - IN_THE_MAKING
    for kind in ("segments/", "parts/", "trained/", "rebuilds/"):
        for page in own.objects.pages(own.settings.sleeve_bucket, kind):
            yield from (one.key for one in page if one.modified < before)
