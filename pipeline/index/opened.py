"""A generation opened for searching."""

from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any
from uuid import UUID

import cv2
import faiss
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BrokenGeneration
from pipeline.features.segments import Segment, segment_key
from pipeline.features.sift import Features
from pipeline.index import search
from pipeline.index.build import open_part, open_trained, part_key, trained_key
from pipeline.index.files import Files
from pipeline.index.manifest import Manifest
from pipeline.index.search import Votes


class OpenGeneration:
    """One generation, opened for searching. Immutable, so any number of threads may search it."""

    def __init__(
        self, manifest: Manifest, segments: Sequence[Segment], parts: Sequence[Any], trained: Any | None
    ) -> None:
        """From what the manifest names, opened and in its order. Raises BrokenGeneration where it does not fit."""
        self.manifest = manifest
        self._segments = {one.name: segment for one, segment in zip(manifest.segments, segments, strict=True)}
        self._parts = {one.name: part for one, part in zip(manifest.parts, parts, strict=True)}
        self._trained = trained
        self._in_order = list(segments)
        self._starts = np.cumsum([0, *map(len, self._in_order)])
        self._counts = np.concatenate([np.empty(0, np.int64), *(np.diff(one.offsets) for one in self._in_order)])
        # Image i owns the Faiss ids starts[i]:starts[i + 1].
        indexed = np.minimum(self._counts, manifest.choice.per_image)
        self._descriptor_starts = np.concatenate([[0], np.cumsum(indexed, dtype=np.int64)])
        self._check()

    @classmethod
    def open(cls, manifest: Manifest, files: Files, previous: "OpenGeneration | None" = None) -> "OpenGeneration":
        """Fetch and open what `previous` does not have open already. Raises BrokenGeneration."""
        # Parts lean on the trained file that they were opened with.
        same = previous if previous and previous.manifest.trained == manifest.trained else None
        trained = same._trained if same else None
        if manifest.trained and trained is None:
            trained = open_trained(files.fetch(trained_key(manifest.trained.name), manifest.trained.bytes))
        segments = dict(previous._segments) if previous else {}
        new_segments = [one for one in manifest.segments if one.name not in segments]
        paths = files.fetch_all([(segment_key(one.name), one.bytes) for one in new_segments])
        segments |= {path.stem: Segment(path) for path in paths}
        parts = dict(same._parts) if same else {}
        new_parts = [one for one in manifest.parts if one.name not in parts]
        paths = files.fetch_all([(part_key(one.name), one.bytes) for one in new_parts])
        parts |= {path.stem: open_part(path, trained) for path in paths}
        return cls(
            manifest,
            [segments[one.name] for one in manifest.segments],
            [parts[one.name] for one in manifest.parts],
            trained,
        )

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

    @cached_property
    def _ids(self) -> NDArray[np.uint8]:
        """(images, 16): UUID bytes of all images, by number."""
        return np.concatenate([np.empty((0, 16), np.uint8), *(one.id_bytes for one in self._in_order)])

    def number(self, image_id: UUID) -> int | None:
        """Number of an image by its id; None when it is not in this generation."""
        rows = np.flatnonzero((self._ids == np.frombuffer(image_id.bytes, np.uint8)).all(axis=1))
        return int(rows[0]) if len(rows) else None

    def keypoints(self, number: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(rows), 4): some of an image's keypoints."""
        segment, row = self._place(number)
        return segment.keypoints(row)[rows]

    def allow(self, images: Collection[UUID]) -> NDArray[np.bool_]:
        """Marks, by Faiss id, the descriptors of these images."""
        wanted = np.frombuffer(b"".join(one.bytes for one in images), "V16")
        return np.repeat(np.isin(self._ids.view("V16").ravel(), wanted), np.diff(self._descriptor_starts))

    def votes(self, query: Features, allowed: NDArray[np.bool_] | None = None) -> Votes:
        """First stage of a search, see pipeline.index.search; `allowed` is as `allow` returns it."""
        parts = list(self._parts.values())
        near = search.neighbours(self._trained, parts, self.manifest.choice.probes, query.descriptors, allowed)
        return search.votes(*near, self._descriptor_starts)


def one_thread() -> None:
    """Let this thread compute on one core."""
    # Queries run beside each other, one core each. OpenMP keeps this number per thread, so every worker must set it.
    faiss.omp_set_num_threads(1)
    cv2.setNumThreads(1)
