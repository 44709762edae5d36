"""Simulated images, as many as one likes: features that are computed when somebody asks, and are stored nowhere.

A million images have 60 GB of features. For a benchmark it is enough that an index cannot tell them from real ones:
each descriptor of a simulated image is a descriptor of a real one, moved as far, and in such directions, as descriptors
lie from the most similar one in another image. Everything follows from the number of the image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import faiss
import numpy as np
from numpy.typing import NDArray

from pipeline.features.segments import Segment, SegmentInfo
from pipeline.features.sift import Features

POOL_IMAGES = 2000
MOVES = 4096
# Of the nearest neighbours of a descriptor, the first that is of another image.
NEIGHBOURS = 8
# A RootSIFT descriptor has this length, and components up to 255.
LENGTH = 512
# More than an image has descriptors, so that every (image, descriptor) has a number of its own.
STRIDE = 4096
BLOCK_IMAGES = 256
# A descriptor and its keypoint come from different images, or what comes from the same real one would lie as it does
# there. Simulated images have smaller numbers than this.
KEYPOINTS = 1 << 40
SEED = 20120614
ID_PREFIX = np.frombuffer(b"simulate", np.uint8)


@dataclass(frozen=True, eq=False)
class Pool:
    """Real images that the simulated ones are made of, and moves from a descriptor to a similar one elsewhere."""

    descriptors: NDArray[np.uint8]
    """(n, 128)"""
    keypoints: NDArray[np.float32]
    """(n, 4)"""
    offsets: NDArray[np.int64]
    """(images + 1,): image i has the rows offsets[i]:offsets[i + 1]."""
    moves: NDArray[np.int16]
    """(m, 128): differences of nearest neighbours in different images."""

    @classmethod
    def of(cls, features: list[Features]) -> "Pool":
        """From at least two real images."""
        descriptors = np.concatenate([one.descriptors for one in features])
        keypoints = np.concatenate([one.keypoints for one in features])
        counts = np.array([len(one) for one in features])
        owners = np.repeat(np.arange(len(features)), counts)
        return cls(descriptors, keypoints, np.concatenate([[0], np.cumsum(counts)]), _moves(descriptors, owners))

    def save(self, path: Path) -> None:
        """Write it, for `load`; other processes see the file whole or not at all."""
        part = path.with_suffix(".part.npz")
        np.savez(part, **vars(self))
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Pool":
        with np.load(path) as arrays:
            return cls(**arrays)

    def counts(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many descriptors these simulated images have, each as many as some real one."""
        real = np.diff(self.offsets)
        return np.asarray(real[(_hash(images * STRIDE + STRIDE - 1) % np.uint64(len(real))).astype(np.int64)])

    def rows(self, images: NDArray[np.int64], ranks: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each (image, rank): the row of the pool that it is made of, which has the same rank, and its move."""
        chance = _hash(images * STRIDE + ranks)
        sources = (chance >> np.uint64(32)).astype(np.int64) % (len(self.offsets) - 1)
        first, moves = self.offsets[sources], (chance & np.uint64(0xFFFFFFFF)).astype(np.int64) % len(self.moves)
        return first + ranks % (self.offsets[sources + 1] - first), moves

    def moved(self, sources: NDArray[np.int64], moves: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(n, 128): rows of the pool, each with a move, brought back to the length that descriptors have."""
        sums = np.add(self.descriptors[sources], self.moves[moves], dtype=np.int16)
        rows = np.maximum(sums, 0, out=sums).astype(np.float32)
        rows *= (LENGTH / np.maximum(np.sqrt(np.einsum("ij,ij->i", rows, rows)), 1))[:, None]
        return np.minimum(np.rint(rows, out=rows), 255, out=rows).astype(np.uint8)


def _moves(descriptors: NDArray[np.uint8], owners: NDArray[np.int64]) -> NDArray[np.int16]:
    """Differences of some descriptors and their nearest neighbours in other images."""
    index = faiss.IndexFlatL2(descriptors.shape[1])
    index.add(descriptors.astype(np.float32))
    some = np.random.default_rng(SEED).choice(len(descriptors), min(MOVES, len(descriptors)), replace=False)
    _, near = index.search(descriptors[some].astype(np.float32), NEIGHBOURS)
    other = owners[near] != owners[some][:, None]
    rows = np.flatnonzero(other.any(axis=1))
    nearest = near[rows, other[rows].argmax(axis=1)]
    return np.asarray(descriptors[nearest].astype(np.int16) - descriptors[some[rows]].astype(np.int16))


def _hash(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64 bits of chance for every number (Steele, Lea and Flood, SplitMix, OOPSLA 2014)."""
    z = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class SimulatedSegment(Segment):
    """Simulated images first, first + 1, ...: what `Segment` offers, without a file."""

    def __init__(self, pool: Pool, first: int, images: int) -> None:
        self._pool = pool
        self._numbers = np.arange(first, first + images)
        self.path = Path(f"simulated-{first}-{images}")
        self.offsets = np.concatenate([[0], np.cumsum(pool.counts(self._numbers))])
        numbers = self._numbers.astype(">u8").view(np.uint8).reshape(-1, 8)
        self.id_bytes = np.hstack([np.broadcast_to(ID_PREFIX, numbers.shape), numbers])

    @property
    def info(self) -> SegmentInfo:
        return SegmentInfo(name=self.path.name, bytes=0, images=len(self), descriptors=int(self.offsets[-1]))

    def image(self, row: int) -> Features:
        start, stop = int(self.offsets[row]), int(self.offsets[row + 1])
        return Features(self.keypoints(row), self.descriptors(start, stop), (1.0, 1.0))

    def keypoints(self, row: int) -> NDArray[np.float32]:
        ranks = np.arange(self.offsets[row + 1] - self.offsets[row])
        sources, _ = self._pool.rows(np.full(len(ranks), KEYPOINTS + self._numbers[row]), ranks)
        return self._pool.keypoints[sources]

    def descriptors(self, start: int, stop: int) -> NDArray[np.uint8]:
        places = np.arange(start, stop)
        images = np.searchsorted(self.offsets, places, side="right") - 1
        return self._pool.moved(*self._pool.rows(self._numbers[images], places - self.offsets[images]))

    def strongest(self, per_image: int) -> Iterator[NDArray[np.uint8]]:
        """The first `per_image` descriptors of each image, which are those that are indexed, in blocks."""
        for start in range(0, len(self), BLOCK_IMAGES):
            counts = np.minimum(np.diff(self.offsets[start : start + BLOCK_IMAGES + 1]), per_image)
            images = np.repeat(self._numbers[start : start + BLOCK_IMAGES], counts)
            ranks = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            yield self._pool.moved(*self._pool.rows(images, ranks))


def simulated_id(number: int) -> UUID:
    """Id of a simulated image."""
    return UUID(bytes=ID_PREFIX.tobytes() + number.to_bytes(8, "big"))
