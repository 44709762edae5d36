"""What a generation is made of."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel

from pipeline.features.segments import SegmentInfo, segment_key
from pipeline.index.build import Part, Trained, part_key, trained_key
from pipeline.index.rules import Choice

Kind = Literal["append", "rebuild"]


class Counts(BaseModel, frozen=True):
    images: int
    descriptors: int


class Recall(BaseModel, frozen=True):
    """Share of `queries` held-out, deformed copies whose first answer was right.

    Photos that nobody could recognise, because even beside its own features the image has too few inliers,
    say nothing about the index: they are counted apart, in `unrecognisable`.
    """

    recall_at_1: float
    queries: int
    unrecognisable: int


class Manifest(BaseModel, frozen=True):
    """A generation: an immutable state of the index. Written after all files that it names."""

    format: Literal[2] = 2
    id: str
    """Sorts by time of creation."""
    parent: str | None
    created_at: datetime
    kind: Kind
    reason: str
    base: str
    """The rebuild that it grew from, by appends; its own id if it is one."""
    replaces: str | None = None
    """Of a rebuild: the base of the generation that it was planned from."""
    segments: list[SegmentInfo]
    """In the order in which their images are numbered."""
    retired: list[str] = []
    """Segments whose living images were copied to others. Named here so that a late retry does not add them again."""
    purged: list[str] = []
    """Those of them that hold images which were deleted: no generation that still names them may be kept."""
    parts: list[Part]
    trained: Trained | None
    """None: exact search."""
    choice: Choice
    """How the descriptors are indexed, and why; made by the last rebuild."""
    rebuilt: Counts
    """How large the collection was when it was last trained and rebuilt."""
    counts: Counts
    settings: dict[str, int]
    recall: Recall | None = None
    """None until it was evaluated."""

    def files(self) -> dict[str, int]:
        """Key in the sleeve bucket and size in bytes of every file."""
        trained = {trained_key(self.trained.name): self.trained.bytes} if self.trained else {}
        parts = {part_key(part.name): part.bytes for part in self.parts}
        return {segment_key(one.name): one.bytes for one in self.segments} | trained | parts

    def knows(self, name: str) -> bool:
        """Whether the images of this segment are in the generation, or were dropped from it."""
        return name in self.retired or any(segment.name == name for segment in self.segments)

    def deltas(self) -> list[Part]:
        """Small parts, which the next fold takes together; they always lie behind the base parts."""
        return [part for part in self.parts if part.role == "delta"]


def new_id() -> str:
    """An id for a new generation: the time to the microsecond, and chance for two made in the same one."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"


def total(segments: Sequence[SegmentInfo]) -> Counts:
    return Counts(
        images=sum(segment.images for segment in segments),
        descriptors=sum(segment.descriptors for segment in segments),
    )
