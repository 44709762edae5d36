"""Values out of other people's files: labels, numbers, boxes. What cannot be used raises ValueError, saying why."""

import math

from pipeline.annotation.formats.records import Box

# A hundredth of the picture is what other tools' rounding amounts to; more is a mistake that people want to know of.
ROUNDING = 0.01
MAX_LABEL = 1000
MAX_SIDE = 1 << 30


def text(value: object) -> str:
    """A text or number as text that any store takes, everything else as "".

    Halves of a surrogate pair, which JSON can smuggle in, become question marks.
    """
    return str(value).encode("utf-8", "replace").decode() if isinstance(value, str | int | float) else ""


def label(value: object) -> str:
    """A label: text, not empty, without white space around it."""
    name = text(value).strip()
    if not name:
        raise ValueError("the label is missing")
    if len(name) > MAX_LABEL:
        raise ValueError(f"the label has {len(name)} characters; {MAX_LABEL} are allowed")
    return name


def labels(listed: object) -> tuple[str, ...]:
    """Whole-image labels of an export of ours, each once; whatever else stands there counts as none."""
    names = (text(value).strip() for value in listed) if isinstance(listed, list) else ()
    return tuple(name for name in dict.fromkeys(names) if 0 < len(name) <= MAX_LABEL)


def number(value: object, what: str) -> float:
    """A finite number, be it written as a number or as text."""
    try:
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        result = math.nan
    if not math.isfinite(result) or isinstance(value, bool):
        raise ValueError(f"{what} is {str(value)[:40]!r}, not a number")
    return result


def size(width: object, height: object) -> tuple[int | None, int | None]:
    """Width and height in pixels, or None for both where they are absent, zero or no numbers."""
    try:
        sides = round(number(width, "width")), round(number(height, "height"))
    except ValueError:
        return None, None
    return sides if min(sides) > 0 and max(sides) <= MAX_SIDE else (None, None)


def box(name: str, x: float, y: float, width: float, height: float) -> tuple[Box, str]:
    """A box within the picture, and what had to be done for that: "" where it was inside but for rounding.

    Raises:
        ValueError: it has no area, or none of it is in the picture.
    """
    if not (width > 0 and height > 0):
        raise ValueError(f"the box of {name!r} has no area")
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + width, 1.0), min(y + height, 1.0)
    if not (right > left and bottom > top):
        raise ValueError(f"the box of {name!r} lies outside of the picture")
    over = max(left - x, top - y, x + width - right, y + height - bottom)
    if over <= 0:
        return Box(name, x, y, width, height), ""
    note = f"the box of {name!r} reached out of the picture and was clipped" if over > ROUNDING else ""
    return Box(name, left, top, right - left, bottom - top), note


def pixel_box(
    name: str, place: tuple[float, float, float, float], picture: tuple[int | None, int | None]
) -> tuple[Box, str]:
    """As `box`, from pixels: `place` is (x, y, width, height), `picture` the size of the picture.

    Raises:
        ValueError: as `box`; or the picture's size is not known, so there are no fractions of it.
    """
    wide, high = picture
    if wide is None or high is None:
        raise ValueError(f"the box of {name!r} is in pixels, but the picture's width and height are not given")
    x, y, width, height = place
    return box(name, x / wide, y / high, width / wide, height / high)
