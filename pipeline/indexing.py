"""The way of segments into searches, one function for each task: append or rebuild, evaluate, publish.

Like the steps of `pipeline.ingest`, each may run twice, twice at once, or be killed anywhere.
"""

import logging
from typing import Any
from uuid import UUID

from pipeline.context import Context
from pipeline.errors import BadImage, ObjectMissing, RecallTooLow
from pipeline.index import evaluate as evaluation
from pipeline.index.generations import Generations
from pipeline.index.manifest import Manifest, Recall

log = logging.getLogger(__name__)

# Deformed copies that are searched for: few enough that one new image is still searchable within seconds, enough to
# notice an index that is broken; a rebuild, which is rare, is measured well.
APPEND_QUERIES = 10
REBUILD_QUERIES = 40
# Share of deleted images that is worth a compaction.
MAX_DEAD = 0.1


def generations(context: Context) -> Generations:
    """The generations of this installation."""
    return Generations(context.settings, context.objects, context.catalog)


def append(context: Context) -> str | None:
    """Add the segments that no published generation holds. Returns the new manifest's URI, None for nothing new."""
    own = generations(context)
    names = context.catalog.featured_segments()
    if current := own.current():
        # A publish that was killed after its one change left these to be said.
        _say_indexed(context, current)
    return own.append(names)


def rebuild_reason(context: Context) -> str | None:
    """Why the current generation should be rebuilt; None where it need not."""
    current = generations(context).current()
    if current is None:
        return None
    added = current.counts.images - current.rebuilt.images
    if added >= context.settings.retraining_interval:
        return f"{added} images since the last rebuild, RETRAINING_INTERVAL is {context.settings.retraining_interval}"
    dead = current.counts.images - context.catalog.in_segments_count()
    if dead > MAX_DEAD * current.counts.images:
        return f"{dead} of {current.counts.images} images are deleted"
    return None


def rebuild(context: Context, reason: str) -> str | None:
    """Train anew and leave out deleted images. Returns the URI of the new manifest, None where there is nothing yet."""
    return generations(context).rebuild(reason)


def evaluate(context: Context, uri: str) -> Recall:
    """Measure recall@1 of an unpublished generation and note it in its manifest."""
    own = generations(context)
    manifest = own.load(uri)
    queries = APPEND_QUERIES if manifest.kind == "append" else REBUILD_QUERIES
    recall = evaluation.evaluate(
        manifest, own.files, lambda one: _original(context, one), lambda a, b: _same(context, a, b), queries, seed=1
    )
    own.save(manifest.model_copy(update={"recall": recall}))
    return recall


def publish(context: Context, uri: str) -> dict[str, Any]:
    """Make a generation current. Raises RecallTooLow where it finds less than its parent did.

    Where somebody else published meanwhile nothing changes, and the next run appends what is missing.
    """
    own = generations(context)
    manifest = own.load(uri)
    parent = own.load(own.uri(manifest.parent)) if manifest.parent else None
    margin = context.settings.recall_margin
    if not evaluation.passes(manifest.recall, parent.recall if parent else None, margin):
        raise RecallTooLow(
            f"{manifest.id} is not published: recall@1 {manifest.recall} against {parent and parent.recall} now "
            f"falls by more than RECALL_MARGIN ({margin}). Look at the new images, or run rebuild_index."
        )
    published = own.publish(uri)
    if published:
        _say_indexed(context, manifest)
    log.info("generation %s: %s", manifest.id, "published" if published else "overtaken by another one")
    return {"generation": manifest.id, "published": published, "images": manifest.counts.images}


def _say_indexed(context: Context, manifest: Manifest) -> None:
    context.catalog.indexed([name for name in context.catalog.featured_segments() if manifest.knows(name)])
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


def _same(context: Context, one: UUID, other: UUID) -> bool:
    hashes = {document["sha256"] for document in context.catalog.find([one, other], ["sha256"]).values()}
    return len(hashes) == 1
