"""How generations come to be: append, or plan, build each shard, merge.

Everything a generation names is stored before its manifest, and a generation is nothing until the pointer in the
catalogue names it. So any step may be killed, repeated or run twice at once.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel

from pipeline.features.segments import SegmentInfo, segment_key
from pipeline.index import build, reasons
from pipeline.index.build import PART_LIMIT, Part, Role, Span
from pipeline.index.compaction import compact, living_rows
from pipeline.index.generations import Generations
from pipeline.index.manifest import Counts, Manifest, new_id, total
from pipeline.index.rules import Choice, choose
from pipeline.stores.objects import parse_s3_uri

MAX_DELTAS = 8
# Airflow maps over so many shards at most.
MAX_SHARDS = 200
# Up to so many descriptors a rebuild takes seconds, and an append does it by the way.
REBUILD_AT_ONCE = PART_LIMIT
# Of the memory that an index may take, what a merged part may: merging takes twice that.
MERGED_SHARE = 4
# A step that has the machine to itself uses all its cores; a shard uses one, since there is a shard for each core.
ALL_CORES = os.cpu_count() or 1


class Plan(BaseModel, frozen=True):
    """A rebuild that was begun: its manifest, without parts, and what each shard is made of."""

    manifest: Manifest
    shards: list[Span]


def choice_for(own: Generations, counts: Counts) -> Choice:
    """What the table says for a collection of this size. Raises IndexTooLarge."""
    each = counts.descriptors / max(counts.images, 1)
    return choose(counts.images, each, own.settings.index_memory_mb << 20, own.settings.search_budget_ms)


def append(own: Generations, current: Manifest | None, names: Sequence[str]) -> str | None:
    """Add stored segments to the current generation and return the URI of the new, unpublished manifest.

    None when it has them all. Becomes a rebuild where there is none yet, or where one is due and quickly done.
    """
    new = [own.segment_info(name) for name in dict.fromkeys(names) if current is None or not current.knows(name)]
    if not new:
        return None
    if current is None:
        return rebuild(own, None, new, "first generation")
    grown = total([*current.segments, *new])
    reason = reasons.growth(current, grown, choice_for(own, grown), own.settings.retraining_interval)
    if reason and grown.descriptors <= REBUILD_AT_ONCE:
        return rebuild(own, current, new, reason)
    return own.save(_with(own, current, new))


def _with(own: Generations, current: Manifest, new: Sequence[SegmentInfo]) -> Manifest:
    """The current generation and some more segments."""
    deltas, added = current.deltas(), total(new)
    # Deltas lie behind all base parts, so the images of the folded ones and of the new segments are neighbours. A large
    # part takes the small ones before it along, so that base parts always come first.
    fold = deltas if len(deltas) >= MAX_DELTAS or added.descriptors > PART_LIMIT // 2 else []
    kept = current.parts[: len(current.parts) - len(fold)]
    again = {name for part in fold for name in part.segments}
    segments = [segment for segment in current.segments if segment.name in again] + list(new)
    folded = f", folded with {len(fold)} earlier appends" if fold else ""
    return current.model_copy(
        update={
            "id": new_id(),
            "parent": current.id,
            "created_at": datetime.now(UTC),
            "kind": "append",
            "reason": f"{added.images} images{folded}",
            "replaces": None,
            "segments": [*current.segments, *new],
            "parts": [*kept, *_deltas(own, current, segments, kept)],
            "counts": total([*current.segments, *new]),
            "settings": own.extraction(),
            "recall": None,
        }
    )


def _deltas(own: Generations, current: Manifest, segments: Sequence[SegmentInfo], kept: Sequence[Part]) -> list[Part]:
    first_image = sum(part.images for part in kept)
    first_descriptor = sum(part.descriptors for part in kept)
    paths = own.fetch_segments(segments)
    spans = build.spans(paths, current.choice.per_image, first_image, first_descriptor, PART_LIMIT)
    # Large deltas become base parts: folding them again and again would cost more than it saves.
    small = spans[-1].descriptors <= PART_LIMIT // 2
    roles: list[Role] = [*["base" for _ in spans[1:]], "delta" if small else "base"]  # type: ignore[list-item]
    return [_build(own, current, span, role, ALL_CORES) for span, role in zip(spans, roles, strict=True)]


def rebuild(own: Generations, current: Manifest | None, new: Sequence[SegmentInfo], reason: str) -> str:
    """All steps of a rebuild, one after another. Returns the URI of the new, unpublished manifest."""
    uri, shards = plan(own, current, new, reason)
    for number in range(len(shards)):
        build_shard(own, uri, number, ALL_CORES)
    return merge(own, uri)


def plan(own: Generations, current: Manifest | None, new: Sequence[SegmentInfo], reason: str) -> tuple[str, list[Span]]:
    """Compact the segments, choose and train; returns the URI of the plan, and its shards.

    Raises IndexTooLarge, before anything is written, where the collection does not fit the budgets.
    """
    before = [*(current.segments if current else []), *new]
    rows = living_rows(own.fetch_segments(before), own.catalog.alive)
    images = sum(len(one.keep) for one in rows)
    descriptors = total(before).descriptors * images // max(total(before).images, 1)
    choice = choice_for(own, Counts(images=images, descriptors=descriptors))
    compacted = compact(rows, own.files.folder("segments"))
    for segment in compacted.written:
        own.files.upload(segment_key(segment.name))
    counts = total(compacted.segments)
    paths = own.fetch_segments(compacted.segments)
    one = new_id()
    planned = Manifest(
        id=one,
        parent=current.id if current else None,
        created_at=datetime.now(UTC),
        kind="rebuild",
        reason=reason,
        base=one,
        replaces=current.base if current else None,
        segments=compacted.segments,
        retired=[*own.still_featured(current.retired if current else []), *compacted.retired],
        purged=[*own.still_stored(current.purged if current else []), *compacted.purged],
        parts=[],
        trained=_train(own, choice, paths),
        choice=choice,
        rebuilt=counts,
        counts=counts,
        settings=own.extraction(),
    )
    limit = max(PART_LIMIT, -(-counts.descriptors // (MAX_SHARDS // 2)))
    # An empty collection has an empty part, and so one shard like all others.
    empty = Span(first_image=0, images=0, first_descriptor=0, descriptors=0, segments=[])
    shards = build.spans(paths, choice.per_image, 0, 0, limit) or [empty]
    uri = own.write(f"rebuilds/{one}/plan.json", Plan(manifest=planned, shards=shards))
    return uri, shards


def _train(own: Generations, choice: Choice, paths: Sequence[Path]) -> build.Trained | None:
    if choice.codes == "exact":
        return None
    trained = build.train_on(choice, paths, own.files.folder("trained"), ALL_CORES)
    own.files.upload(build.trained_key(trained.name))
    return trained


def build_shard(own: Generations, plan_uri: str, number: int, threads: int) -> str:
    """Index one shard of a plan. Returns the URI of what it made."""
    planned = Plan.model_validate_json(own.objects.get(*parse_s3_uri(plan_uri)))
    part = _build(own, planned.manifest, planned.shards[number], "base", threads)
    return own.write(_shard_key(planned, number), part)


def _shard_key(planned: Plan, number: int) -> str:
    return f"rebuilds/{planned.manifest.id}/part-{number:04}.json"


def _build(own: Generations, manifest: Manifest, span: Span, role: Role, threads: int) -> Part:
    """Build and store the part over a span."""
    trained = manifest.trained
    empty = own.files.fetch(build.trained_key(trained.name), trained.bytes) if trained else None
    segments = own.files.fetch_all([(segment_key(name), None) for name in span.segments])
    part = build.build_part(manifest.choice, empty, segments, span, role, own.files.folder("parts"), threads)
    own.files.upload(build.part_key(part.name))
    return part


def merge(own: Generations, plan_uri: str) -> str:
    """Join the parts of a plan's shards into few. Returns the URI of the new, unpublished manifest."""
    planned = Plan.model_validate_json(own.objects.get(*parse_s3_uri(plan_uri)))
    if own.is_saved(planned.manifest.id):
        # A twin of this task was here; what was measured since must not be forgotten.
        return own.uri(planned.manifest.id)
    shards = [
        Part.model_validate_json(own.objects.get(own.settings.sleeve_bucket, _shard_key(planned, number)))
        for number in range(len(planned.shards))
    ]
    limit = (own.settings.index_memory_mb << 20) // MERGED_SHARE
    parts = [_join(own, planned.manifest, group) for group in _groups(shards, limit)]
    return own.save(planned.manifest.model_copy(update={"parts": parts}))


def _groups(parts: Sequence[Part], limit: int) -> list[list[Part]]:
    """Consecutive parts of at most `limit` bytes together, or one."""
    groups: list[list[Part]] = []
    for part in parts:
        if groups and sum(one.bytes for one in groups[-1]) + part.bytes <= limit:
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def _join(own: Generations, manifest: Manifest, parts: Sequence[Part]) -> Part:
    if len(parts) == 1:
        return parts[0]
    trained = manifest.trained
    empty = own.files.fetch(build.trained_key(trained.name), trained.bytes) if trained else None
    paths = own.files.fetch_all([(build.part_key(part.name), part.bytes) for part in parts])
    joined = build.merge(empty, parts, paths, own.files.folder("parts"))
    own.files.upload(build.part_key(joined.name))
    return joined


def rebase(own: Generations, rebuilt: Manifest, current: Manifest) -> str | None:
    """Add to a rebuild the segments that appends have published meanwhile. Returns the URI of the new manifest.

    None where this one is of no use any more: another rebuild came first, or somebody went back over it.
    """
    rolled_back = own.catalog.published().rolled_back
    if current.base != rebuilt.replaces or rebuilt.base in rolled_back or rebuilt.parent in rolled_back:
        return None
    new = [segment for segment in current.segments if not rebuilt.knows(segment.name)]
    grown = _with(own, rebuilt, new) if new else rebuilt
    again = {"id": new_id(), "parent": current.id, "kind": "rebuild", "replaces": rebuilt.replaces, "recall": None}
    return own.save(grown.model_copy(update={**again, "reason": rebuilt.reason}))
