"""Numbers and times as people read them."""

from datetime import UTC, datetime

STEPS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def number(value: int | None) -> str:
    """12,345; a dash for what is not known."""
    return "–" if value is None else f"{value:,}"


def duration(seconds: float) -> str:
    """The largest unit that fits: 3 s, 12 min, 5 h, 2 d; parts of a second below ten."""
    for size, unit in STEPS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def ago(moment: datetime) -> str:
    """How long since then."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    return "just now" if seconds < 2 else f"{duration(seconds)} ago"
