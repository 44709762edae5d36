"""What people ask of a search, on the command line and over REST: of what, of which part of it, among which images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from pipeline.context import Context
from pipeline.errors import BadQuery, ObjectMissing, UnknownImage
from pipeline.features.photo import Crop, Photo
from pipeline.features.sift import Features
from pipeline.index.reader import Reader
from pipeline.index.recognise import Match
from pipeline.stores.catalog import EVERYTHING, Document, Filter

WHOLE: Crop = (0, 0, 1, 1)
# Sums of fractions that were written with a few digits may exceed 1 by so much.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Question:
    """A search: a photo, or an image of the collection, which is then no answer."""

    query: Photo | Features
    image: UUID | None = None
    top_n: int | None = None
    """Most answers; TOP_N where it is None."""
    wanted: Filter = EVERYTHING


def search(context: Context, reader: Reader, question: Question) -> list[Match]:
    """The images that the query shows, best first. Raises NoFeatures or BadImage."""
    catalog, threshold = context.catalog, context.settings.similarity_threshold
    top_n = question.top_n or context.settings.top_n
    wanted, image = question.wanted, question.image
    # What nobody may see of others is rare: as deletions are, it is taken out of what was found.
    if replace(wanted, visible_to=None) == EVERYTHING:
        answers: dict[UUID, UUID] = {}

        def others(ids: Sequence[UUID]) -> set[UUID]:
            passing = catalog.answering(set(ids), wanted, image)
            answers.update(passing)
            return set(passing)

        found = reader.search(question.query, top_n, threshold, others)
        return [replace(match, image_id=answers[match.image_id]) for match in found]
    answers = catalog.matching(wanted, image)
    found = reader.search(question.query, top_n, threshold, catalog.alive, answers.keys())
    matches = [replace(match, image_id=answers[match.image_id]) for match in found]
    # A label may have been taken away since the filter was looked up.
    still = catalog.alive([match.image_id for match in matches], wanted)
    return [match for match in matches if match.image_id in still]


def of_image(context: Context, reader: Reader, image: UUID, crop: Crop) -> Photo | Features:
    """An image of the collection as a query: its stored features; for a part of it, the part described anew.

    Raises UnknownImage where it is not in the collection, or not searchable yet.
    """
    document = _document(context, image)
    if crop != WHOLE:
        return Photo(original(context, image), context.settings, crop)
    features = reader.features(document["duplicate_of"] or image)
    if features is None:
        why = document["reason"] or "new images are within seconds, ask again"
        raise UnknownImage(f"Image {image} is {document['status']}, not searchable: {why}.")
    return features


def original(context: Context, image: UUID) -> bytes:
    """The picture itself. Raises UnknownImage."""
    document = _document(context, image)
    try:
        data, etag = context.objects.fetch(document["bucket"], document["key"], context.settings.max_image_bytes)
    except ObjectMissing:
        etag = None
    if etag != document["version"]:
        raise UnknownImage(f"Image {image} was removed from the bucket, or replaced, a moment ago.")
    return data


def _document(context: Context, image: UUID) -> Document:
    document = context.catalog.find([image]).get(image)
    if document is None or document["status"] == "deleted":
        raise UnknownImage(f"There is no image {image} in the collection. Take an id from the answer of a search.")
    return document


def parse_crop(text: str) -> Crop:
    """A part of a picture, from "x,y,width,height" in fractions of its width and height. Raises BadQuery."""
    try:
        x, y, width, height = map(float, text.split(","))
    except ValueError:
        raise BadQuery(f"crop is {text!r}; give x,y,width,height, for example 0.25,0.25,0.5,0.5") from None
    # Written so that "nan" is refused as well.
    inside = x >= 0 and y >= 0 and x + width <= 1 + ROUNDING and y + height <= 1 + ROUNDING
    if not (inside and width > 0 and height > 0):
        raise BadQuery(f"crop is {text!r}; it must lie in the picture: fractions from 0 to 1, x + width at most 1")
    return x, y, width, height


def parse_filter(
    label: str | None, owner: str | None, since: str | None, until: str | None, visible_to: str | None = None
) -> Filter:
    """Which images may be answers: `since` and `until` are dates, which count whole, or times. Raises BadQuery."""
    begin, end = _moment("since", since, timedelta()), _moment("until", until, timedelta(days=1))
    if begin is not None and end is not None and begin >= end:
        raise BadQuery(f"since ({since}) is not before until ({until}); exchange them")
    return Filter(label, owner, begin, end, visible_to)


def _moment(name: str, text: str | None, whole_day: timedelta) -> datetime | None:
    """A time in UTC, or a day and `whole_day` after its beginning."""
    if text is None:
        return None
    try:
        if len(text) <= len("2024-05-31"):
            return datetime.combine(date.fromisoformat(text), time(), UTC) + whole_day
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        example = "2024-05-31 or 2024-05-31T18:30:00Z"
        raise BadQuery(f"{name} is {text!r}; give a date or a time in UTC, for example {example}") from None
