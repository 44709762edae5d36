"""What a person says about an image, checked: classification labels, and boxes with a label each."""

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypedDict
from uuid import uuid4

from pipeline.errors import BadQuery
from pipeline.events import MAX_LABEL_LENGTH

MAX_LABELS = 100
MAX_BOXES = 1000
MAX_BOX_ID = 64
# Sums of fractions that were written with a few digits may exceed 1 by so much.
ROUNDING = 1e-6
# Control characters, halves of surrogate pairs, separators of lines and paragraphs.
NOT_IN_A_LABEL = {"Cc", "Cs", "Zl", "Zp"}


class Box(TypedDict):
    """A rectangle of an image, in fractions of its width and height; x and y are those of its top left corner."""

    id: str
    label: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Said:
    """Labels of an image as a whole, and boxes; `suggested` where the index proposed them, `unsure` where a person
    asks for another look."""

    labels: Sequence[str] = ()
    boxes: Sequence[Box] = field(default=())
    suggested: bool = False
    unsure: bool = False

    def checked(self) -> "Said":
        """The same, in the one form that is stored. Raises BadQuery."""
        return replace(self, labels=check_labels(self.labels), boxes=check_boxes(self.boxes))


def check_label(label: str) -> str:
    """The label in Unicode's composed form (NFC), without spaces around it. Raises BadQuery."""
    text = unicodedata.normalize("NFC", label).strip()
    if not 1 <= len(text) <= MAX_LABEL_LENGTH:
        raise BadQuery(f"a label has 1 to {MAX_LABEL_LENGTH} characters, and {text[:20]!r} has {len(text)}")
    if any(unicodedata.category(character) in NOT_IN_A_LABEL for character in text):
        raise BadQuery(f"the label {text!r} has a line break or another control character; write it without")
    return text


def check_labels(labels: Sequence[str]) -> list[str]:
    """The labels, each once, in the order in which they were given. Raises BadQuery."""
    found = list(dict.fromkeys(check_label(label) for label in labels))
    if len(found) > MAX_LABELS:
        raise BadQuery(f"an image has at most {MAX_LABELS} labels, not {len(found)}")
    return found


def check_boxes(boxes: Sequence[Box]) -> list[Box]:
    """The boxes; those without an id get one. Raises BadQuery."""
    if len(boxes) > MAX_BOXES:
        raise BadQuery(f"an image has at most {MAX_BOXES} boxes, not {len(boxes)}")
    found = [_check_box(number, box) for number, box in enumerate(boxes)]
    if len({box["id"] for box in found}) < len(found):
        raise BadQuery("two boxes have the same id; leave the id of a new box empty")
    return found


def _check_box(number: int, box: Box) -> Box:
    x, y, width, height = (float(box[side]) for side in ("x", "y", "width", "height"))
    inside = x >= 0 and y >= 0 and x + width <= 1 + ROUNDING and y + height <= 1 + ROUNDING
    # Written so that "nan" is refused as well.
    if not (inside and width > 0 and height > 0 and math.isfinite(width * height)):
        raise BadQuery(f"box {number} must lie in the picture: x, y, width and height as fractions from 0 to 1")
    name = box["id"] or uuid4().hex
    if len(name) > MAX_BOX_ID or not name.isprintable():
        raise BadQuery(f"the id of box {number} must have at most {MAX_BOX_ID} printable characters")
    return {
        "id": name,
        "label": check_label(box["label"]),
        "x": x,
        "y": y,
        "width": min(width, 1.0),
        "height": min(height, 1.0),
    }
