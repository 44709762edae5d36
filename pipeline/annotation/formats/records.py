"""One image and what people said of it: the same whatever the format it was written in."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from posixpath import splitext
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Box:
    """A labelled rectangle in fractions (0 to 1) of the image's width and height; the origin is the top left."""

    label: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image with its whole-image labels and its boxes.

    Attributes:
        image_id: Sleeve's UUID, or None in a file that came from elsewhere and does not know it.
        file_name: the original name of the picture. From elsewhere it may have folders (with "/"); and where a YOLO
            export lists no pictures it is without suffix.
        width, height: pixels; None where the format does not say.
    """

    image_id: str | None
    file_name: str
    width: int | None = None
    height: int | None = None
    labels: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """What a reader could not use, and went on: `where` is file and line or element, `what` is for people."""

    where: str
    what: str


@dataclass
class LabelNumbers:
    """The number of each label, from 0: first those known beforehand, then others as they are met."""

    names: Iterable[str] = ()
    numbers: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.numbers = {name: number for number, name in enumerate(dict.fromkeys(self.names))}

    def of(self, label: str) -> int:
        return self.numbers.setdefault(label, len(self.numbers))


def exported_name(record: Labelled) -> str:
    """`<uuid>.<suffix>`: unique, safe in any file system, and of the picture's own type.

    Raises:
        ValueError: the record has no id, or one that is no UUID.
    """
    if record.image_id is None:
        raise ValueError(f"{record.file_name} has no id; only images of the collection can be exported")
    suffix = splitext(record.file_name)[1].lower()
    plain = suffix[1:].isascii() and suffix[1:].isalnum() and len(suffix) <= 5
    return f"{UUID(record.image_id)}{suffix if plain else ''}"


def identified(file_name: str, original: str = "") -> tuple[str | None, str]:
    """(image id, original name) of a picture's name in an export: ours are `<uuid>.<suffix>` and carry the original."""
    path = file_name.replace("\\", "/").removeprefix("./")
    stem = PurePosixPath(path).stem.lower()
    try:
        known = str(UUID(stem)) == stem
    except ValueError:
        known = False
    return (stem if known else None), original or path
