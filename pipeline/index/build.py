"""Parts: immutable Faiss files over the descriptors of some segments.

Small collections are searched exactly, large ones through an inverted file (Jégou, Douze and Schmid, Product
quantization for nearest neighbor search, PAMI 2011). Both store the uint8 descriptors as they are (8-bit direct codes),
so nothing is lost by compression and distances are exact integers.

The Faiss id of a descriptor is ``image_number << 12 | row``: the image's ordinal in the generation (segments in
manifest order) and the descriptor's row in that image. Appending never changes the number of an image.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from pipeline.features.content import write_by_content
from pipeline.features.segments import Segment

DIMENSIONS = 128
ROW_BITS = 12
MAX_ROWS = (1 << ROW_BITS) - 1

# Brute force over 40,000 codes takes 0.1 s for the 500 descriptors of one query, on one core.
EXACT_LIMIT = 40_000
# One part is built in memory: some 300 MB for a million descriptors, as its lists double when they grow.
PART_LIMIT = 1_000_000
TRAINING_ROWS_PER_LIST = 64
TRAINING_ITERATIONS = 6
SEED = 20120614
BUILD_THREADS = 2
ADD_ROWS = 1 << 16


Role = Literal["base", "delta"]


class Trained(BaseModel, frozen=True):
    """An empty, trained inverted file that all parts of a generation share; `name` is the SHA-256 of the file."""

    name: str
    bytes: int
    lists: int


class Part(BaseModel, frozen=True):
    """A Faiss file with `images` images, from number first_image on; `name` is the SHA-256 of its bytes."""

    name: str
    bytes: int
    role: Role
    """base: appends leave it alone; delta: small, folded with its like when there are too many."""
    first_image: int
    images: int
    descriptors: int
    segments: list[str]


def part_key(name: str) -> str:
    """Key of a part in the sleeve bucket."""
    return f"parts/{name}.faiss"


def trained_key(name: str) -> str:
    """Key of an empty trained index in the sleeve bucket."""
    return f"trained/{name}.faiss"


def lists_for(descriptors: int) -> int:
    """Number of inverted lists: the power of two at or below the square root, which balances the two halves of a
    search (finding the lists, scanning them) and keeps training to seconds."""
    return 1 << int(np.log2(max(descriptors, 1)) / 2)


def train(segments: Sequence[Path], folder: Path) -> Trained:
    """Train an inverted file on a sample over all segments; the same segments give the same bytes."""
    lists = lists_for(sum(_descriptors(segments)))
    quantizer = faiss.IndexFlatL2(DIMENSIONS)
    code = faiss.ScalarQuantizer.QT_8bit_direct
    index = faiss.IndexIVFScalarQuantizer(quantizer, DIMENSIONS, lists, code, faiss.METRIC_L2, False)
    index.cp.niter = TRAINING_ITERATIONS
    index.cp.seed = SEED
    index.cp.max_points_per_centroid = TRAINING_ROWS_PER_LIST
    faiss.omp_set_num_threads(BUILD_THREADS)
    index.train(_sample(segments, lists * TRAINING_ROWS_PER_LIST))
    name, size = _write(index, folder)
    return Trained(name=name, bytes=size, lists=lists)


def _descriptors(segments: Sequence[Path]) -> list[int]:
    # Segments are opened one at a time: what is read of a mapped file counts as memory of the process while it is open.
    return [Segment(path).info.descriptors for path in segments]


def _sample(segments: Sequence[Path], size: int) -> NDArray[np.float32]:
    """`size` descriptors (fewer if there are fewer), drawn without replacement from all segments together."""
    bounds = np.cumsum([0, *_descriptors(segments)])
    total = int(bounds[-1])
    chosen = np.sort(np.random.default_rng(SEED).choice(total, min(size, total), replace=False, shuffle=False))
    sample = np.empty((len(chosen), DIMENSIONS), np.float32)
    for path, start, stop in zip(segments, bounds, bounds[1:], strict=False):
        first, last = np.searchsorted(chosen, [start, stop])
        sample[first:last] = Segment(path).descriptors(0, int(stop - start))[chosen[first:last] - start]
    return sample


def build_parts(
    trained: Path | None, segments: Sequence[Path], first_image: int, role: Role, folder: Path
) -> list[Part]:
    """Index the segments, in order, in as few parts of at most about PART_LIMIT descriptors as will hold them.

    `trained` is the empty inverted file, or None for exact search. Of delta parts only the last, if it is small, stays
    one; the others become base parts, since folding them again and again would cost more than it saves.
    """
    parts: list[Part] = []
    groups = _groups(segments)
    for group in groups:
        infos = [Segment(path).info for path in group]
        descriptors = sum(info.descriptors for info in infos)
        name, size = _write(_fill(trained, group, first_image), folder)
        part = Part(
            name=name,
            bytes=size,
            role=role if group is groups[-1] and descriptors <= PART_LIMIT // 2 else "base",
            first_image=first_image,
            images=sum(info.images for info in infos),
            descriptors=descriptors,
            segments=[info.name for info in infos],
        )
        parts.append(part)
        first_image += part.images
    return parts


def _groups(segments: Sequence[Path]) -> list[list[Path]]:
    groups: list[list[Path]] = []
    room = 0
    for path, size in zip(segments, _descriptors(segments), strict=True):
        if not groups or size > room:
            groups.append([])
            room = PART_LIMIT
        groups[-1].append(path)
        room -= size
    return groups


def _fill(trained: Path | None, segments: Sequence[Path], first_image: int) -> Any:
    """An index in memory with all descriptors of the segments."""
    index: Any
    if trained is None:
        index = faiss.IndexIDMap(faiss.IndexScalarQuantizer(DIMENSIONS, faiss.ScalarQuantizer.QT_8bit_direct))
    else:
        index = faiss.read_index(str(trained))
    faiss.omp_set_num_threads(BUILD_THREADS)
    for segment in map(Segment, segments):
        ids = descriptor_ids(segment, first_image)
        for start in range(0, len(ids), ADD_ROWS):
            stop = min(start + ADD_ROWS, len(ids))
            index.add_with_ids(segment.descriptors(start, stop).astype(np.float32), ids[start:stop])
        first_image += len(segment)
    return index


def descriptor_ids(segment: Segment, first_image: int) -> NDArray[np.int64]:
    """Faiss ids of all descriptors of a segment whose first image has the number `first_image`, (n,) int64."""
    counts = np.diff(segment.offsets)
    if (most := counts.max(initial=0)) > MAX_ROWS:
        raise ValueError(f"segment {segment.info.name}: {most} descriptors in one image, at most {MAX_ROWS} fit")
    images = np.repeat(np.arange(first_image, first_image + len(counts), dtype=np.int64), counts)
    rows = np.arange(len(images), dtype=np.int64) - np.repeat(segment.offsets[:-1], counts)
    return np.asarray(images << ROW_BITS | rows, np.int64)


def _write(index: Any, folder: Path) -> tuple[str, int]:
    return write_by_content(folder, ".faiss", lambda path: faiss.write_index(index, path))
