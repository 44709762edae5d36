"""A generation opened for searching."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import cv2
import faiss
import numpy as np

from pipeline.errors import BrokenGeneration
from pipeline.features.segments import Segment, segment_key
from pipeline.features.sift import Features
from pipeline.index import search
from pipeline.index.build import open_part, open_trained, part_key, trained_key
from pipeline.index.files import Files
from pipeline.index.manifest import Manifest
from pipeline.index.verify import Verified, score, verify

# More than are verified, so that deleted images do not crowd out the living.
CANDIDATES = 50
VERIFIED = 20

Alive = Callable[[list[UUID]], set[UUID]]
"""Which of these images are not deleted."""


@dataclass(frozen=True, eq=False)
class Match:
    """An image that a query shows."""

    image_id: UUID
    score: float
    """From 0 to 1, see pipeline.index.verify.score."""
    votes: float
    """First-stage votes; only good for comparing images of one search."""
    geometry: Verified


class OpenGeneration:
    """One generation, opened for searching. Immutable, so any number of threads may search it."""

    def __init__(self, manifest: Manifest, files: Files, previous: "OpenGeneration | None" = None) -> None:
        """Fetch and open what `previous` does not have open already. Raises BrokenGeneration."""
        self.manifest = manifest
        known_segments: dict[str, Segment] = previous._segments if previous else {}
        # Parts lean on the trained file that they were opened with.
        same = previous is not None and previous.manifest.trained == manifest.trained
        known_parts: dict[str, Any] = previous._parts if previous and same else {}
        new_segments = [one for one in manifest.segments if one.name not in known_segments]
        new_parts = [one for one in manifest.parts if one.name not in known_parts]
        segment_paths = files.fetch_all([(segment_key(one.name), one.bytes) for one in new_segments])
        part_paths = files.fetch_all([(part_key(one.name), one.bytes) for one in new_parts])
        segments = known_segments | {path.stem: Segment(path) for path in segment_paths}
        self._trained: Any = None
        if manifest.trained:
            if previous and same:
                self._trained = previous._trained
            else:
                self._trained = open_trained(files.fetch(trained_key(manifest.trained.name), manifest.trained.bytes))
        parts = known_parts | {path.stem: open_part(path, self._trained) for path in part_paths}
        self._segments: dict[str, Segment] = {one.name: segments[one.name] for one in manifest.segments}
        self._parts: dict[str, Any] = {one.name: parts[one.name] for one in manifest.parts}
        self._in_order = list(self._segments.values())
        self._starts = np.cumsum([0, *map(len, self._in_order)])
        self._counts = np.concatenate([np.empty(0, np.int64), *(np.diff(one.offsets) for one in self._in_order)])
        # Image i owns the Faiss ids starts[i]:starts[i + 1].
        indexed = np.minimum(self._counts, manifest.choice.per_image)
        self._descriptor_starts = np.concatenate([[0], np.cumsum(indexed, dtype=np.int64)])
        self._check()

    def _check(self) -> None:
        manifest = self.manifest
        stored = {name: part.ntotal for name, part in self._parts.items()}
        named = {part.name: part.descriptors for part in manifest.parts}
        found = (len(self._counts), int(self._counts.sum()), stored)
        wanted = (manifest.counts.images, manifest.counts.descriptors, named)
        if found != wanted:
            raise BrokenGeneration(f"generation {manifest.id}: the manifest says {wanted}, the files hold {found}")

    def __len__(self) -> int:
        """Number of images."""
        return len(self._counts)

    def _place(self, number: int) -> tuple[Segment, int]:
        position = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self._in_order[position], number - int(self._starts[position])

    def image_id(self, number: int) -> UUID:
        """Id of an image by its number."""
        segment, row = self._place(number)
        return UUID(bytes=segment.id_bytes[row].tobytes())

    def features(self, number: int) -> Features:
        """Stored features of an image by its number."""
        segment, row = self._place(number)
        return segment.image(row)

    def search(self, query: Features, top_n: int, threshold: float, alive: Alive | None = None) -> list[Match]:
        """The at most `top_n` images that the query shows with a score of at least `threshold`, best first."""
        if not self._parts:
            return []
        near = search.neighbours(list(self._parts.values()), query.descriptors)
        numbers, votes = search.votes(*near, self._descriptor_starts)
        # The same image may stand in two segments, when an interrupted extraction was repeated in another shard.
        candidates: dict[UUID, tuple[int, float]] = {}
        for number, total in zip(numbers[:CANDIDATES].tolist(), votes.tolist(), strict=False):
            candidates.setdefault(self.image_id(number), (number, total))
        living = alive(list(candidates)) if alive else candidates.keys()
        matches = []
        for image_id in [one for one in candidates if one in living][:VERIFIED]:
            number, total = candidates[image_id]
            geometry = verify(query, self.features(number))
            if geometry and score(geometry.inliers) >= threshold:
                matches.append(Match(image_id, score(geometry.inliers), total, geometry))
        return sorted(matches, key=lambda match: (-match.score, -match.votes))[:top_n]


def one_thread() -> None:
    """Let this thread compute on one core."""
    # Queries run beside each other, one core each. OpenMP keeps this number per thread, so every worker must set it.
    faiss.omp_set_num_threads(1)
    cv2.setNumThreads(1)
