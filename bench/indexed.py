"""An index over segments in a folder, made by the pipeline's own rule table and build functions, without any server.

FOLDER/segments/*.safetensors   FOLDER/trained/*.faiss   FOLDER/parts/*.faiss
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pipeline.features.segments import Segment, SegmentInfo, segment_key
from pipeline.index import build
from pipeline.index.build import PART_LIMIT, Part, Trained, part_key, trained_key
from pipeline.index.manifest import Manifest, new_id, total
from pipeline.index.opened import OpenGeneration
from pipeline.index.rules import IMAGE_BYTES, Choice, choose
from pipeline.settings import Settings


def choose_for(segments: Sequence[SegmentInfo], settings: Settings) -> Choice:
    """What the rule table says. Raises IndexTooLarge, which says which setting to raise to what."""
    counts = total(segments)
    each = counts.descriptors / max(counts.images, 1)
    return choose(counts.images, each, settings.index_memory_mb << 20, settings.search_budget_ms)


def index(segments: Sequence[SegmentInfo], choice: Choice, folder: Path, threads: int) -> Manifest:
    """Train, build the parts and join them."""
    paths = [folder / segment_key(one.name) for one in segments]
    trained = build.train_on(choice, paths, folder / "trained", threads) if choice.codes != "exact" else None
    empty = folder / trained_key(trained.name) if trained else None
    parts = []
    for span in build.spans(paths, choice.per_image, 0, 0, PART_LIMIT):
        own = [folder / segment_key(name) for name in span.segments]
        parts.append(build.build_part(choice, empty, own, span, "base", folder / "parts", threads))
    if len(parts) > 1:
        parts = [build.merge(empty, parts, [folder / part_key(part.name) for part in parts], folder / "parts")]
    return manifest_of(segments, choice, trained, parts)


def manifest_of(
    segments: Sequence[SegmentInfo], choice: Choice, trained: Trained | None, parts: Sequence[Part]
) -> Manifest:
    """A generation that was never published."""
    one, counts = new_id(), total(segments)
    return Manifest(
        id=one,
        parent=None,
        created_at=datetime.now(UTC),
        kind="rebuild",
        reason="benchmark",
        base=one,
        segments=list(segments),
        parts=list(parts),
        trained=trained,
        choice=choice,
        rebuilt=counts,
        counts=counts,
        settings={},
    )


def open_index(manifest: Manifest, segments: Sequence[Segment], folder: Path) -> OpenGeneration:
    """Open it for searching. `segments` are those of the manifest."""
    trained = build.open_trained(folder / trained_key(manifest.trained.name)) if manifest.trained else None
    parts = [build.open_part(folder / part_key(part.name), trained) for part in manifest.parts]
    return OpenGeneration(manifest, segments, parts, trained)


def open_segments(manifest: Manifest, folder: Path) -> list[Segment]:
    """The segments of a manifest, all of them files."""
    return [Segment(folder / segment_key(one.name)) for one in manifest.segments]


def bytes_per_image(manifest: Manifest) -> int:
    """Of the served index: lists, codes, ids, centroids, and what is known of each image.

    Not the stored features, which are read from disk for the few images of a search that are verified.
    """
    files = sum(part.bytes for part in manifest.parts) + (manifest.trained.bytes if manifest.trained else 0)
    return round(files / max(manifest.counts.images, 1)) + IMAGE_BYTES
