"""What an image could be labelled: as the images of the collection are that it shows, verified by their geometry."""

from dataclasses import dataclass
from uuid import UUID

from pipeline import searching
from pipeline.context import Context
from pipeline.errors import UnknownImage
from pipeline.index.reader import Reader
from pipeline.stores.catalog import Filter

NEIGHBOURS = 20


@dataclass(frozen=True)
class Neighbour:
    """An image that speaks for a label."""

    id: UUID
    score: float
    """How sure it is that both show the same."""


@dataclass(frozen=True)
class Suggestion:
    """A label, how sure it is, from 0 to 1, and who says so, the surest first."""

    label: str
    score: float
    neighbours: list[Neighbour]


def suggest(context: Context, reader: Reader, image: UUID, visible_to: str | None = None) -> list[Suggestion]:
    """Labels for an image, the one to accept first; none while it is not searchable, or shows nothing that is labelled.

    A label's score is that of its best neighbour, times its share of the scores of all labelled neighbours: neighbours
    of one mind leave it as it is, and where they differ the majority wins. What a reviewer rejected does not count.
    """
    try:
        features = searching.of_image(context, reader, image, searching.WHOLE)
    except UnknownImage:
        # Not in the index yet. Whether there is such an image at all the caller has asked.
        return []
    question = searching.Question(features, image, NEIGHBOURS, Filter(visible_to=visible_to))
    found = {match.image_id: match.score for match in searching.search(context, reader, question)}
    documents = context.catalog.find(found, ["labels", "stage"])
    speak = {one: found[one] for one, document in documents.items() if document.get("stage") != "rejected"}
    by_label: dict[str, list[Neighbour]] = {}
    for one, score in sorted(speak.items(), key=lambda item: (-item[1], item[0])):
        for label in documents[one]["labels"]:
            by_label.setdefault(label, []).append(Neighbour(one, score))
    total = sum(score for one, score in speak.items() if documents[one]["labels"])
    suggestions = [
        Suggestion(label, group[0].score * sum(one.score for one in group) / total, group)
        for label, group in by_label.items()
    ]
    return sorted(suggestions, key=lambda suggestion: (-suggestion.score, suggestion.label))
