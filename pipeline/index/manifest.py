"""What a generation is made of, and when growing it means starting over."""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel

from pipeline.features.segments import SegmentInfo
from pipeline.index.build import PART_LIMIT, Part, Trained
from pipeline.index.rules import EXACT_LIMIT, Choice

MAX_DELTAS = 8
MAX_GROWTH = 4

Kind = Literal["append", "rebuild"]


class Counts(BaseModel, frozen=True):
    images: int
    descriptors: int


class Recall(BaseModel, frozen=True):
    """Share of `queries` held-out, deformed copies whose first answer was right.

    Photos that nobody could recognise, because even beside its own features the image does not reach the default score,
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
    segments: list[SegmentInfo]
    """In the order in which their images are numbered."""
    retired: list[str] = []
    """Segments whose living images were copied to others. Named here so that a late retry does not add them again."""
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

    def knows(self, name: str) -> bool:
        """Whether the images of this segment are in the generation, or were dropped from it."""
        return name in self.retired or any(segment.name == name for segment in self.segments)

    def deltas(self) -> list[Part]:
        """Small parts, which the next fold takes together; they always lie behind the base parts."""
        return [part for part in self.parts if part.role == "delta"]


class Plan(BaseModel, frozen=True):
    """How to grow a generation."""

    kind: Kind
    reason: str
    fold: bool = False
    """Whether to fold all deltas and the new segments into one."""


def new_id() -> str:
    """An id for a new generation: the time to the microsecond, and chance for two made in the same one."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"


def total(segments: Sequence[SegmentInfo]) -> Counts:
    return Counts(
        images=sum(segment.images for segment in segments),
        descriptors=sum(segment.descriptors for segment in segments),
    )


def plan(current: Manifest | None, new: Sequence[SegmentInfo], retraining_interval: int) -> Plan:
    """Append the new segments, or rebuild? The reason goes into the manifest."""
    if current is None:
        return Plan(kind="rebuild", reason="first generation")
    added = total(new)
    images = current.counts.images + added.images
    descriptors = current.counts.descriptors + added.descriptors
    since = images - current.rebuilt.images
    if since >= retraining_interval:
        reason = f"{since} images since the last rebuild, RETRAINING_INTERVAL is {retraining_interval}"
        return Plan(kind="rebuild", reason=reason)
    if current.trained is None and descriptors > EXACT_LIMIT:
        return Plan(kind="rebuild", reason=f"{descriptors} descriptors are too many for exact search ({EXACT_LIMIT})")
    if current.trained is not None and descriptors > MAX_GROWTH * current.rebuilt.descriptors:
        reason = f"{descriptors} descriptors, trained when there were {current.rebuilt.descriptors}"
        return Plan(kind="rebuild", reason=reason)
    deltas = len(current.deltas())
    # A large part takes the small ones before it along, so that base parts always come first.
    if deltas >= MAX_DELTAS or (deltas and added.descriptors > PART_LIMIT // 2):
        return Plan(kind="append", reason=f"{added.images} images, folded with {deltas} earlier appends", fold=True)
    return Plan(kind="append", reason=f"{added.images} images")
