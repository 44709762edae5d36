"""Suggestions from a real index: whose labels count, and how much."""

from uuid import UUID

import cv2
import pytest

from pipeline.annotation import decisions
from pipeline.annotation.said import Said
from pipeline.annotation.suggestions import suggest
from pipeline.context import Context
from pipeline.index.reader import Reader
from pipeline.samples import cover, cover_jpeg, snapshot_jpeg

from .conftest import ANN, BOB, Collect, Images


def copy(number: int, quality: int) -> bytes:
    return cv2.imencode(".jpg", cover(number, 500), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def say(context: Context, image: UUID, *labels: str) -> None:
    document = context.annotations.image(image)
    assert document
    decisions.label(context, ANN, image, document["revision"], Said(labels))


def test_neighbours_speak_for_their_labels(context: Context, reader: Reader, collect: Collect) -> None:
    pictures = {f"copy{quality}.jpg": copy(1, quality) for quality in (50, 60, 70, 80)}
    ids = collect({"query.jpg": snapshot_jpeg(cover(1), seed=3), "other.jpg": cover_jpeg(2), **pictures})
    query, (one, two, three, four) = ids["query.jpg"], [ids[name] for name in pictures]
    assert suggest(context, reader, query) == []
    say(context, ids["other.jpg"], "another picture")
    say(context, one, "jazz", "live")
    [jazz, live] = suggest(context, reader, query)
    assert ((jazz.label, live.label), [near.id for near in jazz.neighbours]) == (("jazz", "live"), [one])
    # One voice: the label is as sure as the match is.
    assert jazz.score == live.score == jazz.neighbours[0].score
    assert 0.5 <= jazz.score <= 1

    say(context, two, "soul")
    say(context, three, "soul")
    say(context, four, "jazz")
    say(context, one, "soul")
    soul, jazz = suggest(context, reader, query)
    assert ((soul.label, jazz.label), {near.id for near in soul.neighbours}) == (("soul", "jazz"), {one, two, three})
    assert [near.score for near in soul.neighbours] == sorted((near.score for near in soul.neighbours), reverse=True)
    every = [*soul.neighbours, *jazz.neighbours]
    share = sum(near.score for near in soul.neighbours) / sum(near.score for near in every)
    assert soul.score == pytest.approx(soul.neighbours[0].score * share)

    # What was rejected, deleted, or is private of another does not speak.
    for image in (two, three):
        decisions.review(context, BOB, image, 1, accept=False)
    context.catalog.delete([one], "test")
    [jazz] = suggest(context, reader, query, visible_to="ann")
    assert jazz.label == "jazz"
    context.catalog.images.update_one({"_id": four}, {"$set": {"private": True, "owner": "bob"}})
    assert suggest(context, reader, query, visible_to="ann") == []
    assert [one.label for one in suggest(context, reader, query, visible_to="bob")] == ["jazz"]


def test_what_is_not_searchable_yet_has_none(context: Context, reader: Reader, images: Images) -> None:
    [image] = images(1, status="collected")
    assert suggest(context, reader, image) == []
