"""Generations: grow or rebuild the index, and make a new state current by one atomic change.

Everything a generation names is immutable and stored before its manifest, and a generation is nothing until the
pointer in the catalogue names it. So any step may be killed, repeated or run twice at once; whoever publishes second
loses and appends again.
"""

import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from pipeline.errors import BrokenGeneration, ObjectMissing
from pipeline.features.segments import Segment, SegmentInfo, segment_key, write_segment
from pipeline.index import build
from pipeline.index.build import PART_LIMIT, Part, Trained
from pipeline.index.files import Files
from pipeline.index.manifest import Manifest, new_id, plan, total
from pipeline.index.rules import Choice, choose
from pipeline.settings import Settings
from pipeline.stores.catalog import Catalog
from pipeline.stores.objects import Objects, parse_s3_uri

log = logging.getLogger(__name__)

# Indexing has the machine to itself: the Airflow pool has one slot.
BUILD_THREADS = os.cpu_count() or 1


class Generations:
    """The generations of one collection."""

    def __init__(self, settings: Settings, objects: Objects, catalog: Catalog) -> None:
        self._settings = settings
        self._objects = objects
        self._catalog = catalog
        self.files = Files(objects, settings.sleeve_bucket, settings.sleeve_home)

    def uri(self, generation: str) -> str:
        """Where the manifest of a generation is."""
        return f"s3://{self._settings.sleeve_bucket}/generations/{generation}/manifest.json"

    def current_id(self) -> str | None:
        """Id of the generation that is being served."""
        return self._catalog.current_generation()

    def current(self) -> Manifest | None:
        generation = self.current_id()
        return None if generation is None else self.load(self.uri(generation))

    def load(self, uri: str) -> Manifest:
        """Read a manifest. Raises BrokenGeneration when it is missing or not one."""
        try:
            return Manifest.model_validate_json(self._objects.get(*parse_s3_uri(uri)))
        except (ObjectMissing, ValidationError) as error:
            raise BrokenGeneration(f"{uri}: no usable manifest: {error}") from error

    def save(self, manifest: Manifest) -> str:
        """Write a manifest, whose files are all stored, and return its URI."""
        log.info("generation %s: %s, %s; %s", manifest.id, manifest.kind, manifest.reason, manifest.counts)
        uri = self.uri(manifest.id)
        self._objects.put(*parse_s3_uri(uri), manifest.model_dump_json(indent=1).encode(), "application/json")
        return uri

    def publish(self, uri: str) -> bool:
        """Make a generation current; False when its parent no longer is, and the append must be done again."""
        manifest = self.load(uri)
        # A retry after the pointer has moved already finds its own work done.
        return self.current_id() == manifest.id or self._catalog.publish_generation(manifest.id, manifest.parent)

    def append(self, names: Sequence[str]) -> str | None:
        """Add stored segments to the current generation and return the URI of the new, unpublished manifest.

        None when the current generation has them all. Becomes a rebuild, without deleted images, when that is due.
        """
        current = self.current()
        new = [self._info(name) for name in dict.fromkeys(names) if current is None or not current.knows(name)]
        if not new:
            return None
        step = plan(current, new, self._settings.retraining_interval)
        if current is None or step.kind == "rebuild":
            return self._rebuild(current, new, step.reason)
        # Deltas lie behind all base parts, so the images of the folded ones and of the new segments are neighbours.
        folded = current.deltas() if step.fold else []
        kept = current.parts[: len(current.parts) - len(folded)]
        again = {name for part in folded for name in part.segments}
        segments = [segment for segment in current.segments if segment.name in again] + new
        grown = Manifest(
            id=new_id(),
            parent=current.id,
            created_at=datetime.now(UTC),
            kind="append",
            reason=step.reason,
            segments=current.segments + new,
            retired=current.retired,
            parts=kept + self._build(current.choice, current.trained, segments, kept, "delta"),
            trained=current.trained,
            choice=current.choice,
            rebuilt=current.rebuilt,
            counts=total(current.segments + new),
            settings=self._extraction(),
        )
        return self.save(grown)

    def rebuild(self, reason: str) -> str | None:
        """Train anew, drop deleted images, and return the URI of the new, unpublished manifest.

        None when there is no generation yet.
        """
        current = self.current()
        return None if current is None else self._rebuild(current, [], reason)

    def _rebuild(self, current: Manifest | None, new: Sequence[SegmentInfo], reason: str) -> str:
        before = [*(current.segments if current else []), *new]
        after = [kept for segment in before if (kept := self._without(segment)) is not None]
        remaining = {segment.name for segment in after}
        retired = [*(current.retired if current else []), *(one.name for one in before if one.name not in remaining)]
        counts = total(after)
        choice = choose(
            counts.images,
            counts.descriptors / max(counts.images, 1),
            self._settings.index_memory_mb << 20,
            self._settings.search_budget_ms,
        )
        trained = None
        if choice.codes != "exact":
            trained = build.train_on(choice, self._fetch(after), self.files.folder("trained"), BUILD_THREADS)
            self.files.upload(build.trained_key(trained.name))
        rebuilt = Manifest(
            id=new_id(),
            parent=current.id if current else None,
            created_at=datetime.now(UTC),
            kind="rebuild",
            reason=reason,
            segments=after,
            retired=retired,
            parts=self._build(choice, trained, after, [], "base"),
            trained=trained,
            choice=choice,
            rebuilt=counts,
            counts=counts,
            settings=self._extraction(),
        )
        return self.save(rebuilt)

    def _without(self, info: SegmentInfo) -> SegmentInfo | None:
        """The segment without its deleted images: a new segment, if there are any; None if nothing is left."""
        segment = Segment(self.files.fetch(segment_key(info.name), info.bytes))
        ids = segment.ids
        alive = self._catalog.alive(ids)
        if alive.issuperset(ids):
            return info
        living = [(one, segment.image(row)) for row, one in enumerate(ids) if one in alive]
        if not living:
            return None
        kept = write_segment(self.files.folder("segments"), living)
        self.files.upload(segment_key(kept.name))
        return kept

    def _build(
        self,
        choice: Choice,
        trained: Trained | None,
        segments: Sequence[SegmentInfo],
        before: Sequence[Part],
        role: build.Role,
    ) -> list[Part]:
        """Parts for the segments, whose images and descriptors follow those of the parts `before`."""
        empty = self.files.fetch(build.trained_key(trained.name), trained.bytes) if trained else None
        first_image = sum(part.images for part in before)
        first_descriptor = sum(part.descriptors for part in before)
        paths = {path.stem: path for path in self._fetch(segments)}
        spans = build.spans(list(paths.values()), choice.per_image, first_image, first_descriptor, PART_LIMIT)
        parts = []
        for span in spans:
            # Large deltas become base parts: folding them again and again would cost more than it saves.
            small = span is spans[-1] and span.descriptors <= PART_LIMIT // 2
            own = [paths[name] for name in span.segments]
            folder = self.files.folder("parts")
            part = build.build_part(choice, empty, own, span, role if small else "base", folder, BUILD_THREADS)
            self.files.upload(build.part_key(part.name))
            parts.append(part)
        return parts

    def _extraction(self) -> dict[str, int]:
        return {"num_features": self._settings.num_features, "image_side": self._settings.image_side}

    def _fetch(self, segments: Sequence[SegmentInfo]) -> list[Path]:
        return self.files.fetch_all([(segment_key(segment.name), segment.bytes) for segment in segments])

    def _info(self, name: str) -> SegmentInfo:
        return Segment(self.files.fetch(segment_key(name))).info
