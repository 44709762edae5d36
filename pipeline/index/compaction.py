"""Compaction: segments without deleted images, and few large ones instead of many small ones.

Every image that becomes searchable by itself brings a segment of one image; opening thousands of files is slow.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel

from pipeline.features.segments import Segment, SegmentInfo, write_segment
from pipeline.features.sift import Features

# Smaller segments are joined, up to a size that one reads at once.
SMALL_IMAGES = 100
JOINED_IMAGES = 500


class Rows(BaseModel, frozen=True):
    """What is kept of a segment."""

    path: Path
    images: int
    keep: list[int]
    """Rows, ascending."""
    purge: bool
    """Whether some of its images are deleted."""


class Compacted(BaseModel, frozen=True):
    """What became of some segments."""

    segments: list[SegmentInfo]
    written: list[SegmentInfo]
    """Those of them that are new."""
    retired: list[str]
    """Segments whose living images were copied."""
    purged: list[str]
    """Those of them with deleted images."""


def living_rows(segments: Sequence[Path], alive: Callable[[Sequence[UUID]], set[UUID]]) -> list[Rows]:
    """What is to be kept of each segment: living images, and of an image that stands in two segments the first."""
    seen: set[UUID] = set()
    found = []
    for path in segments:
        ids = Segment(path).ids
        living = alive(ids)
        keep = [row for row, one in enumerate(ids) if one in living and one not in seen]
        seen |= living
        found.append(Rows(path=path, images=len(ids), keep=keep, purge=len(living) < len(set(ids))))
    return found


def compact(segments: Sequence[Rows], folder: Path) -> Compacted:
    """Write new segments to `folder` for those that are small or not to be kept whole."""
    # One small segment alone has nothing to be joined with.
    join = sum(one.images < SMALL_IMAGES for one in segments) > 1
    again = [one for one in segments if len(one.keep) < one.images or (join and one.images < SMALL_IMAGES)]
    images = ((UUID(bytes=id_bytes), features) for one in again for id_bytes, features in _kept(one))
    written = [write_segment(folder, chunk) for chunk in _chunks(images)]
    return Compacted(
        segments=[*(Segment(one.path).info for one in segments if one not in again), *written],
        written=written,
        retired=[one.path.stem for one in again],
        purged=[one.path.stem for one in segments if one.purge],
    )


def _kept(rows: Rows) -> Iterator[tuple[bytes, Features]]:
    segment = Segment(rows.path)
    for row in rows.keep:
        yield segment.id_bytes[row].tobytes(), segment.image(row)


def _chunks(items: Iterator[tuple[UUID, Features]]) -> Iterator[list[tuple[UUID, Features]]]:
    chunk: list[tuple[UUID, Features]] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == JOINED_IMAGES:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
