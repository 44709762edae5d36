"""The way of segments into searches, one function for each task.

New images: append, evaluate, publish, prune. A rebuild: plan, build_shard for each shard, merge, and then the same.

Like the steps of `pipeline.ingest`, each may run twice, twice at once, or be killed anywhere.
"""

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pipeline.context import Context
from pipeline.errors import BadImage, IndexTooLarge, ObjectMissing, RecallTooLow
from pipeline.index import evaluate as evaluation
from pipeline.index import growth, history, reasons
from pipeline.index.generations import Generations
from pipeline.index.manifest import Manifest, Recall

log = logging.getLogger(__name__)

# Deformed copies that are searched for: few enough that one new image is still searchable within seconds, enough to
# notice an index that is broken; a rebuild, which is rare, is measured well.
APPEND_QUERIES = 10
REBUILD_QUERIES = 40
# How often a rebuild that appends overtake is brought up to date before the next run has to try.
REBASES = 3


def generations(context: Context) -> Generations:
    """The generations of this installation."""
    return Generations(context.settings, context.objects, context.catalog)


def append(context: Context) -> str | None:
    """Add the segments that no published generation holds. Returns the new manifest's URI, None for nothing new.

    Raises IndexTooLarge.
    """
    own = generations(context)
    current = own.current()
    names = context.catalog.featured_segments()
    if current:
        # A publish that was killed after its one change left these to be said.
        _say_indexed(context, current, names)
    return growth.append(own, current, names)


def rebuild_reason(context: Context) -> str | None:
    """Why the current generation should be rebuilt; None where it need not, or where there is none."""
    own = generations(context)
    current = own.current()
    if current is None:
        return None
    living = context.catalog.in_segments_count()
    if reason := reasons.decay(current, living):
        return reason
    try:
        choice = growth.choice_for(own, current.counts)
    except IndexTooLarge as error:
        # A rebuild would be refused; the next append says so, and what to do.
        log.warning("%s", error)
        return None
    return reasons.growth(current, current.counts, choice, context.settings.retraining_interval)


def plan(context: Context, reason: str) -> list[dict[str, Any]]:
    """Begin a rebuild: compact, choose and train. Returns its shards; none where there is no generation yet.

    Raises IndexTooLarge.
    """
    own = generations(context)
    current = own.current()
    if current is None:
        return []
    uri, shards = growth.plan(own, current, [], reason)
    return [{"plan": uri, "shard": number, "images": one.images} for number, one in enumerate(shards)]


def build_shard(context: Context, plan_uri: str, shard: int) -> str:
    """Index one shard of a rebuild on one core. Returns the URI of what it made."""
    return growth.build_shard(generations(context), plan_uri, shard, threads=1)


def merge(context: Context, plan_uri: str) -> str:
    """Join what the shards of a rebuild made. Returns the URI of the new manifest."""
    return growth.merge(generations(context), plan_uri)


def evaluate(context: Context, uri: str) -> Recall:
    """Measure recall@1 of an unpublished generation and note it in its manifest."""
    own = generations(context)
    manifest = own.load(uri)
    queries = APPEND_QUERIES if manifest.kind == "append" else REBUILD_QUERIES
    recall = evaluation.evaluate(manifest, own.files, lambda one: _original(context, one), queries, seed=1)
    own.save(manifest.model_copy(update={"recall": recall}))
    return recall


def publish(context: Context, uri: str) -> dict[str, Any]:
    """Make a generation current. Raises RecallTooLow where it finds less than the current one.

    An append that somebody overtook changes nothing, and the next run appends what is missing. A rebuild is brought up
    to date, measured and tried again.
    """
    own = generations(context)
    manifest = own.load(uri)
    published = False
    for _ in range(1 + REBASES):
        current = own.current()
        if current and current.base == manifest.base and manifest.kind == "rebuild":
            # This task, or its twin, was here before.
            manifest, published = current, True
        elif (current and current.id) == manifest.parent:
            published = _publish(context, own, manifest, current)
        if published or manifest.kind == "append" or current is None:
            break
        rebased = growth.rebase(own, manifest, current)
        if rebased is None:
            break
        evaluate(context, rebased)
        manifest = own.load(rebased)
    if published:
        _say_indexed(context, manifest, context.catalog.featured_segments())
    log.info("generation %s: %s", manifest.id, "published" if published else "overtaken by another one")
    return {"generation": manifest.id, "published": published, "images": manifest.counts.images}


def _publish(context: Context, own: Generations, manifest: Manifest, current: Manifest | None) -> bool:
    margin = context.settings.recall_margin
    if not evaluation.passes(manifest.recall, current.recall if current else None, margin):
        raise RecallTooLow(
            f"{manifest.id} is not published: recall@1 {manifest.recall} against {current and current.recall} now "
            f"falls by more than RECALL_MARGIN ({margin}). Look at the new images, or run rebuild_index."
        )
    return own.publish(own.uri(manifest.id))


def roll_back(context: Context, to: str | None = None) -> Manifest:
    """Make an earlier generation current: `to`, or the one before. Returns it. Raises CannotRollBack."""
    return history.roll_back(generations(context), to)


def prune(context: Context) -> dict[str, int]:
    """Remove generations that nobody needs, and their files. Returns how many."""
    return history.prune(generations(context))


def _say_indexed(context: Context, manifest: Manifest, featured: Sequence[str]) -> None:
    context.catalog.indexed([name for name in featured if manifest.knows(name)])
    context.catalog.settle_duplicates()


def _original(context: Context, image: UUID) -> bytes | None:
    """The bytes of an image, None where it has been deleted or replaced meanwhile."""
    document = context.catalog.find([image]).get(image)
    if document is None or document["status"] == "deleted":
        return None
    try:
        data, etag = context.objects.fetch(document["bucket"], document["key"], context.settings.max_image_bytes)
    except (ObjectMissing, BadImage):
        return None
    return data if etag == document["version"] else None
