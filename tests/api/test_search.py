"""POST /search with all it can be asked: what the picture is, which part of it, which images may be answers."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient

from pipeline import indexing
from pipeline.context import Context
from pipeline.events import ImageEvent, image_id
from pipeline.features.photo import Photo
from pipeline.features.segments import segment_key, write_segment
from pipeline.ingest import accept
from pipeline.samples import cover, cover_jpeg, snapshot, snapshot_jpeg
from pipeline.sources import Batch
from tests.steps import index_all

from .conftest import Publish

START = datetime(2024, 5, 1, tzinfo=UTC)


def jpeg(pixels: np.ndarray, quality: int = 90) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def ask(client: TestClient, picture: bytes | None = None, **parameters: object) -> dict:
    answer = client.post("/search", params=parameters, files={"file": picture} if picture else None)
    assert answer.status_code == 200, answer.text
    return answer.json()


def take_in(client: TestClient, context: Context, key: str, owner: str | None = None) -> UUID:
    """Make what lies under a key searchable, as if an event had told of it."""
    bucket = context.settings.require("s3_bucket")
    head = context.objects.head(bucket, key)
    assert head
    accept(context, Batch([ImageEvent(bucket, key, head.etag, owner=owner)]))
    index_all(context, key)
    client.app.state.reader.refresh()
    return image_id(bucket, key, head.etag)


def test_detail_says_why_and_where(client: TestClient, covers: list[UUID]) -> None:
    photo = np.full((800, 1600, 3), 90, np.uint8)
    photo[200:600, 1000:1400] = cover(3, 400)
    found = ask(client, jpeg(photo), detail=True)[str(covers[3])]
    assert found["labels"] == ["jazz"]
    assert found["original_filename"] == "cover_3.jpg"
    assert found["inliers"] >= 10
    assert (found["mirrored"], found["votes"] > 0, 0.5 <= found["score"] <= 1) == (False, True, True)
    corners = np.array([(1000, 200), (1400, 200), (1400, 600), (1000, 600)]) / 1600
    assert np.allclose(found["polygon"], corners, atol=0.01)
    x, y, depth = np.array(found["transform"]) @ (0.5, 0.5, 1)
    assert np.allclose([x / depth, y / depth], [1200 / 1600, 400 / 1600], atol=0.01)


def test_a_mirrored_photo_says_so(client: TestClient, covers: list[UUID]) -> None:
    found = ask(client, jpeg(cv2.flip(snapshot(cover(2), 1, 0.3), 1)), detail=True)
    assert next(iter(found)) == str(covers[2])
    assert found[str(covers[2])]["mirrored"]


def test_an_image_of_the_collection_finds_its_like_but_not_itself(client: TestClient, publish: Publish) -> None:
    one, again, _ = publish([cover_jpeg(1), jpeg(cover(1, 500), 60), cover_jpeg(2)])
    assert list(ask(client, image_id=one)) == [str(again)]
    assert list(ask(client, image_id=again, detail=True)) == [str(one)]


def test_an_exact_copy_finds_its_original(client: TestClient, publish: Publish, context: Context) -> None:
    [one, _] = publish([cover_jpeg(1), cover_jpeg(2)])
    bucket = context.settings.require("s3_bucket")
    context.objects.put(bucket, "elsewhere.jpg", cover_jpeg(1), "image/jpeg")
    copy = take_in(client, context, "elsewhere.jpg")
    assert list(ask(client, image_id=copy)) == [str(one)]
    assert ask(client, image_id=one) == {}


def test_crop_looks_at_a_part_only(client: TestClient, covers: list[UUID]) -> None:
    two = np.concatenate([cover(4, 600), cover(5, 600)], axis=1)
    assert set(ask(client, jpeg(two), crop="0,0,0.5,1")) == {str(covers[4])}
    [(best, found)] = ask(client, jpeg(two), crop="0.5,0,0.5,1", detail=True).items()
    assert best == str(covers[5])
    # Coordinates are those of the part.
    assert np.allclose(found["polygon"], [(0, 0), (1, 0), (1, 1), (0, 1)], atol=0.02)


def test_crop_of_an_image_of_the_collection(client: TestClient, publish: Publish) -> None:
    pair = np.concatenate([cover(4, 600), cover(5, 600)], axis=1)
    four, five, both = publish([cover_jpeg(4), cover_jpeg(5), jpeg(pair)])
    assert set(ask(client, image_id=both, crop="0,0,0.5,1")) == {str(four)}
    assert set(ask(client, image_id=both, crop="0.5,0,0.5,1")) == {str(five)}


def test_no_answer_is_outside_the_filter_and_none_inside_is_missed(
    client: TestClient, context: Context, publish: Publish
) -> None:
    copies = [jpeg(cover(1), quality) for quality in range(65, 95, 5)]
    ids = publish([*copies, cover_jpeg(2), cover_jpeg(3)])
    chance, facts = random.Random(3), {}
    for one in ids:
        labels = chance.sample(["jazz", "soul", "folk"], chance.randint(0, 2))
        owner, moment = chance.choice(["ann", "bob"]), START + timedelta(hours=chance.randint(0, 96))
        facts[one] = (labels, owner, moment)
        fields = {"labels": labels, "owner": owner, "created_at": moment}
        context.catalog.images.update_one({"_id": one}, {"$set": fields})
    answers = 0
    for _ in range(60):
        label, owner = chance.choice([None, "jazz", "soul", "blues"]), chance.choice([None, "ann", "bob", "eve"])
        since, until = START + timedelta(hours=chance.randint(0, 50)), START + timedelta(hours=chance.randint(51, 99))
        parameters = {"label": label, "owner": owner, "since": since.isoformat(), "until": until.isoformat()}
        given = {name: value for name, value in parameters.items() if value is not None and chance.random() < 0.7}
        found = ask(client, image_id=ids[0], top_n=100, **given)
        expected = {
            str(one)
            for one, (labels, whose, moment) in facts.items()
            if ("label" not in given or label in labels)
            and ("owner" not in given or whose == owner)
            and ("since" not in given or moment >= since)
            and ("until" not in given or moment < until)
        }
        # Of the same cover as the query are the first six, itself left out.
        assert set(found) == expected & {str(one) for one in ids[1 : len(copies)]}
        answers += len(found)
    assert answers > 30


def test_an_allowed_image_behind_many_that_are_not_is_found(
    client: TestClient, context: Context, publish: Publish
) -> None:
    # The stronger ones are all but the query itself, the one allowed is a photo of it.
    [other] = publish([cover_jpeg(9)])
    scan = Photo(cover_jpeg(1), context.settings).features.take(slice(200))
    photo = Photo(snapshot_jpeg(cover(1), seed=5), context.settings).features
    allowed, *strong = [UUID(int=number + 1) for number in range(301)]
    generations = indexing.generations(context)
    # A little noise, so that each of them is nearest to some descriptor of the query.
    chance = np.random.default_rng(1)
    noisy = [
        replace(scan, descriptors=np.clip(scan.descriptors + chance.integers(-1, 2, scan.descriptors.shape), 0, 255))
        for _ in strong
    ]
    items = [(allowed, photo), *zip(strong, noisy, strict=True)]
    segment = write_segment(generations.files.folder("segments"), items)
    generations.files.upload(segment_key(segment.name))
    like = context.catalog.find([other])[other]
    documents = [
        {**like, "_id": one, "key": str(one), "status": "featured", "segment": segment.name} for one, _ in items
    ]
    context.catalog.images.insert_many(documents)
    publish([])
    context.catalog.images.update_one({"_id": allowed}, {"$set": {"owner": "ann"}})
    everyone = ask(client, image_id=strong[0], top_n=100)
    assert everyone.keys() <= set(map(str, strong))
    assert everyone
    assert list(ask(client, image_id=strong[0], owner="ann")) == [str(allowed)]


def test_what_leaves_the_filter_during_a_search_is_no_answer(
    client: TestClient, context: Context, covers: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = client.app.state.context.catalog
    looked_up = api.matching

    def then_relabelled(*arguments: Any) -> dict[UUID, UUID]:
        answers = looked_up(*arguments)
        context.catalog.images.update_one({"_id": covers[1]}, {"$set": {"labels": []}})
        return answers

    assert list(ask(client, cover_jpeg(1), label="jazz")) == [str(covers[1])]
    monkeypatch.setattr(api, "matching", then_relabelled)
    assert ask(client, cover_jpeg(1), label="jazz") == {}


def test_a_copy_with_another_owner_answers_for_the_original(
    client: TestClient, context: Context, covers: list[UUID]
) -> None:
    bucket = context.settings.require("s3_bucket")
    context.objects.put(bucket, "bobs.jpg", cover_jpeg(6), "image/jpeg")
    copy = take_in(client, context, "bobs.jpg", owner="bob")
    photo = snapshot_jpeg(cover(6), seed=4)
    assert list(ask(client, photo, owner="bob")) == [str(copy)]
    assert list(ask(client, photo)) == [str(covers[6])]
    assert ask(client, image_id=copy, owner="bob") == {}


def test_a_date_counts_whole(client: TestClient, context: Context, covers: list[UUID]) -> None:
    evening = datetime(2024, 5, 31, 23, 30, tzinfo=UTC)
    context.catalog.images.update_many({}, {"$set": {"created_at": evening}})
    for parameters, found in [
        ({"until": "2024-05-31"}, True),
        ({"until": "2024-05-30"}, False),
        ({"since": "2024-05-31", "until": "2024-05-31"}, True),
        ({"since": "2024-06-01"}, False),
        ({"since": "2024-05-31T23:30:00"}, True),
        ({"until": "2024-05-31T23:30:00Z"}, False),
        ({"since": "2024-06-01T01:00:00+02:00"}, True),
    ]:
        assert bool(ask(client, cover_jpeg(1), **parameters)) is found, parameters


@pytest.mark.parametrize(
    ("parameters", "with_file", "status", "said"),
    [
        ({}, False, 422, "there is neither"),
        ({"image_id": UUID(int=1)}, True, 422, "not both"),
        ({"image_id": UUID(int=1)}, False, 404, "no image"),
        ({"crop": "0,0,1"}, True, 422, "x,y,width,height"),
        ({"crop": "0.6,0,0.5,1"}, True, 422, "in the picture"),
        ({"crop": "nan,0,0.5,1"}, True, 422, "in the picture"),
        ({"crop": "0,0,0,1"}, True, 422, "in the picture"),
        ({"since": "yesterday"}, True, 422, "give a date"),
        ({"until": "9999-12-31"}, True, 422, "give a date"),
        ({"since": "2024-05-02", "until": "2024-05-01"}, True, 422, "exchange them"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(
    client: TestClient, parameters: dict[str, object], with_file: bool, status: int, said: str
) -> None:
    answer = client.post("/search", params=parameters, files={"file": cover_jpeg(1)} if with_file else None)
    assert answer.status_code == status, answer.text
    assert isinstance(answer.json()["detail"], str)
    assert said in answer.json()["detail"]


def test_a_crop_of_nothing_is_refused(client: TestClient, covers: list[UUID]) -> None:
    answer = client.post("/search", params={"crop": "0,0,0.00001,0.00001"}, files={"file": cover_jpeg(1)})
    assert answer.status_code == 422
    assert "crop" in answer.json()["detail"]


def test_images_that_cannot_be_searched_for_say_why(client: TestClient, context: Context, covers: list[UUID]) -> None:
    fresh = client.post("/single_upload", files={"file": cover_jpeg(50)}).json()["id"]
    context.catalog.delete([covers[0]], "test")
    for one, said in ((fresh, "ask again"), (covers[0], "no image"), (uuid4(), "no image")):
        answer = client.post("/search", params={"image_id": one})
        assert (answer.status_code, said in answer.json()["detail"]) == (404, True), answer.text


def test_openapi_describes_every_option(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    operation = schema["paths"]["/search"]["post"]
    described = {one["name"] for one in operation["parameters"] if one["description"]}
    assert described == {"image_id", "crop", "label", "owner", "since", "until", "top_n", "detail"}
    assert {"200", "404", "413", "422"} <= operation["responses"].keys()
    detail = schema["components"]["schemas"]["Found"]["properties"]
    assert detail.keys() == {
        *("score", "inliers", "votes", "labels", "original_filename"),
        *("polygon", "transform", "mirrored", "stage"),
    }


def test_what_is_private_is_found_by_its_owner_and_a_copy_by_whoever_has_it(
    client: TestClient, as_annotator: TestClient, as_viewer: TestClient, context: Context, covers: list[UUID]
) -> None:
    bucket, picture = context.settings.require("s3_bucket"), cover_jpeg(20)
    for key in ("hidden.jpg", "copy.jpg"):
        context.objects.put(bucket, key, picture, "image/jpeg")
    hidden = take_in(client, context, "hidden.jpg", owner="ann")
    context.catalog.images.update_one({"_id": hidden}, {"$set": {"private": True}})
    photo = snapshot_jpeg(cover(20), seed=3)
    for who, seen in ((client, [str(hidden)]), (as_annotator, [str(hidden)]), (as_viewer, [])):
        assert list(ask(who, photo)) == seen
        assert list(ask(who, photo, owner="ann")) == seen
    copy = take_in(client, context, "copy.jpg", owner="vera")
    assert context.catalog.find([copy])[copy]["duplicate_of"] == hidden
    assert list(ask(as_viewer, photo)) == [str(copy)]
    assert list(ask(as_annotator, photo)) == [str(hidden)]
    # What is not private is there for all of them.
    assert all(str(covers[3]) in ask(who, snapshot_jpeg(cover(3), seed=3)) for who in (client, as_annotator, as_viewer))
