"""Labelling over REST: two people on one picture, the queue, review, undo, history, gold set and agreement."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from pipeline.context import Context
from pipeline.events import ImageEvent, image_id
from pipeline.samples import cover, cover_jpeg, snapshot_jpeg

from .conftest import Publish, signed_in

BOX = {"id": "b", "label": "logo", "x": 0.25, "y": 0.5, "width": 0.5, "height": 0.25}


@pytest.fixture
def as_bob(nobody: TestClient) -> TestClient:
    return signed_in(nobody.app, "bob", "annotator")


@pytest.fixture
def images(context: Context) -> list[UUID]:
    """Three images in the order of the queue, the pictures of which nobody looks at."""
    context.catalog.register([ImageEvent("photos", f"{number}.jpg", "etag") for number in range(3)])
    context.catalog.images.update_many({}, {"$set": {"status": "indexed"}})
    return sorted(image_id("photos", f"{number}.jpg", "etag") for number in range(3))


def put(client: TestClient, image: UUID, revision: int, *labels: str, **more: Any) -> dict[str, Any]:
    answer = client.put(f"/image/{image}/labels", json={"labels": labels, "revision": revision, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def following(client: TestClient, mode: str = "label", **more: Any) -> dict[str, Any] | None:
    answer = client.get("/annotate/next", params={"mode": mode, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["task"]


def test_two_people_on_one_picture(as_annotator: TestClient, as_bob: TestClient, images: list[UUID]) -> None:
    image = images[0]
    saved = put(as_annotator, image, 0, "jazz", boxes=[BOX])
    assert (saved["labels"], saved["boxes"], saved["revision"], saved["labelled_by"]) == (["jazz"], [BOX], 1, "ann")
    refused = as_bob.put(f"/image/{image}/labels", json={"labels": ["soul"], "revision": 0})
    assert (refused.status_code, refused.headers["content-type"]) == (409, "application/problem+json")
    assert "ann meanwhile" in refused.json()["detail"]
    current = refused.json()["current"]
    assert (current["labels"], current["boxes"], current["revision"]) == (["jazz"], [BOX], 1)
    assert current["before"] == {"labels": [], "boxes": []}
    assert [(one["by"], one["kind"]) for one in current["decisions"]] == [("ann", "label")]
    put(as_bob, image, current["revision"], *current["labels"], "soul", boxes=current["boxes"])
    page = as_annotator.get(f"/image/{image}/history", params={"limit": 1}).json()
    assert [one["labels"] for one in page["decisions"]] == [["jazz", "soul"]]
    page = as_annotator.get(f"/image/{image}/history", params={"limit": 1, "before": page["next"]}).json()
    assert [(one["labels"], one["by"], one["before"]["labels"]) for one in page["decisions"]] == [(["jazz"], "ann", [])]
    assert page["next"] is None


def test_the_documented_conflict_is_the_one_that_comes(as_annotator: TestClient, images: list[UUID]) -> None:
    described = as_annotator.get("/openapi.json").json()
    answers = described["paths"]["/image/{id}/labels"]["put"]["responses"]
    schema = answers["409"]["content"]["application/problem+json"]["schema"]
    name = schema["properties"]["current"]["$ref"].removeprefix("#/components/schemas/")
    put(as_annotator, images[0], 0, "jazz")
    refused = as_annotator.put(f"/image/{images[0]}/labels", json={"labels": [], "revision": 0}).json()
    assert set(described["components"]["schemas"][name]["required"]) <= refused["current"].keys()


def test_the_queue_deals_out_different_images(as_annotator: TestClient, as_bob: TestClient, images: list[UUID]) -> None:
    first, second, third = map(str, images)
    anns, bobs = following(as_annotator), following(as_bob)
    assert anns
    assert bobs
    assert (anns["id"], bobs["id"]) == (first, second)
    assert (anns["mode"], anns["revision"], anns["state"]["labels"]) == ("label", 0, [])
    ahead = following(as_annotator, but=first)
    assert ahead
    assert ahead["id"] == third
    assert as_bob.post(f"/image/{second}/skip").status_code == 204
    put(as_annotator, UUID(first), 0, "jazz")
    put(as_annotator, UUID(third), 0, "jazz")
    assert following(as_bob) is None
    counts = as_bob.get("/annotate/counts").json()
    assert counts == {"unlabelled": 1, "uncertain": 0, "disagreeing": 0, "done": 2, "to_review": 2}


def test_a_second_opinion_is_given_blind(as_annotator: TestClient, as_bob: TestClient, images: list[UUID]) -> None:
    put(as_annotator, images[0], 0, "jazz")
    task = following(as_bob, "second")
    assert task
    assert (task["id"], task["state"], task["revision"]) == (str(images[0]), None, 1)
    assert "jazz" not in str(task)
    saved = put(as_bob, images[0], 1, "soul", opinion=True)
    assert (saved["labels"], saved["attention"]) == (["jazz"], 2)
    [pair] = as_bob.get("/agreement").json()["pairs"]
    assert (pair["annotators"], pair["images"], pair["same"]) == (["ann", "bob"], 1, 0)


def test_review_and_undo(as_annotator: TestClient, as_bob: TestClient, images: list[UUID]) -> None:
    image = images[0]
    put(as_annotator, image, 0, "jazz")
    own = as_annotator.post(f"/image/{image}/review", json={"accept": True, "revision": 1})
    assert (own.status_code, "your own" in own.json()["detail"]) == (403, True)
    late = as_bob.post(f"/image/{image}/review", json={"accept": True, "revision": 0})
    assert (late.status_code, late.json()["current"]["revision"]) == (409, 1)
    task = following(as_bob, "review")
    assert task
    assert (task["id"], task["state"]["labelled_by"]) == (str(image), "ann")
    answer = as_bob.post(f"/image/{image}/review", json={"accept": False, "comment": "<b>soul</b>", "revision": 1})
    assert (answer.json()["stage"], answer.json()["review_comment"]) == ("rejected", "<b>soul</b>")
    taken = as_annotator.post(f"/image/{image}/undo")
    assert (taken.status_code, "bob decided on it last" in taken.json()["detail"]) == (409, True)
    assert as_bob.post(f"/image/{image}/undo").json()["stage"] == "labelled"


def test_one_decision_for_a_group(
    as_annotator: TestClient, as_bob: TestClient, context: Context, images: list[UUID]
) -> None:
    group = uuid4()
    context.catalog.images.update_many({}, {"$set": {"group": group}})
    put(as_bob, images[2], 0, "soul")
    saved = put(as_annotator, images[0], 0, "jazz", group=True)
    assert saved["changed"] == [str(images[1])]
    [conflict] = saved["conflicts"]
    assert (conflict["image"], conflict["labels"]) == (str(images[2]), ["soul"])
    assert as_annotator.post(f"/image/{images[0]}/undo").json()["changed"] == [str(images[1])]


def test_labels_are_added_one_by_one(as_annotator: TestClient, as_bob: TestClient, images: list[UUID]) -> None:
    for client, label in ((as_annotator, "jazz"), (as_bob, "live"), (as_bob, "jazz")):
        answer = client.post("/add_label", json={"image_id": str(images[0]), "label": label})
    assert (answer.status_code, answer.json()["labels"], answer.json()["revision"]) == (200, ["jazz", "live"], 2)


def test_suggestions_lead_to_their_pictures(as_annotator: TestClient, publish: Publish) -> None:
    scan, photo = publish([cover_jpeg(1), snapshot_jpeg(cover(1), seed=3)])
    [jazz] = as_annotator.get(f"/image/{photo}/suggestions").json()
    assert (jazz["label"], [near["id"] for near in jazz["neighbours"]]) == ("jazz", [str(scan)])
    assert jazz["score"] == jazz["neighbours"][0]["score"] >= 0.5


def test_only_admins_keep_the_gold_set(as_annotator: TestClient, as_admin: TestClient, images: list[UUID]) -> None:
    path, right = f"/image/{images[0]}/gold", {"labels": ["jazz"], "boxes": [BOX]}
    assert as_annotator.put(path, json=right).status_code == 403
    gold = as_admin.put(path, json=right).json()
    assert (gold["labels"], gold["boxes"], gold["by"]) == (["jazz"], [BOX], "ada")
    put(as_annotator, images[0], 0, "jazz", boxes=[BOX])
    [score] = as_admin.get("/agreement").json()["gold"]
    assert (score["annotator"], score["images"], score["same"], score["iou"]) == ("ann", 1, 1, 1)
    assert as_annotator.delete(path).status_code == 403
    assert as_admin.delete(path).status_code == 204
    assert as_admin.get("/agreement").json()["gold"] == []


def test_private_images_of_others_are_not_there(
    as_annotator: TestClient, as_bob: TestClient, context: Context, images: list[UUID]
) -> None:
    context.catalog.images.update_many({}, {"$set": {"private": True, "owner": "bob"}})
    path = f"/image/{images[0]}"
    body = {"labels": ["jazz"], "revision": 0, "accept": True}
    answers = [
        as_annotator.put(f"{path}/labels", json=body),
        as_annotator.post("/add_label", json={"image_id": str(images[0]), "label": "jazz"}),
        *(as_annotator.post(f"{path}/{what}", json=body) for what in ("undo", "skip", "review")),
        *(as_annotator.get(f"{path}/{what}") for what in ("history", "suggestions")),
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert following(as_annotator) is None
    assert following(as_bob)
    assert put(as_bob, images[0], 0, "jazz")["labels"] == ["jazz"]


def test_what_cannot_be_said_is_refused(as_annotator: TestClient, images: list[UUID]) -> None:
    wrong: list[dict[str, Any]] = [
        {"labels": ["two\nlines"], "revision": 0},
        {"labels": [" "], "revision": 0},
        {"labels": ["x" * 201], "revision": 0},
        {"labels": [], "boxes": [{**BOX, "x": 0.6}], "revision": 0},
        {"labels": [], "boxes": [{**BOX, "id": ""}] * 1001, "revision": 0},
        {"labels": [], "revision": 0, "group": True},
        {"labels": [], "revision": -1},
        {"labels": [], "revision": 1 << 70},
        {"labels": []},
    ]
    for labels in wrong:
        answer = as_annotator.put(f"/image/{images[0]}/labels", json=labels)
        assert (answer.status_code, answer.json()["status"]) == (422, 422), labels
    assert as_annotator.get(f"/image/{images[0]}/history").json()["decisions"] == []


def test_halves_of_characters_are_refused(as_annotator: TestClient, images: list[UUID]) -> None:
    bodies = [
        (f"/image/{images[0]}/labels", "PUT", '{"labels": ["\\ud800"], "revision": 0}'),
        (
            f"/image/{images[0]}/labels",
            "PUT",
            '{"boxes": [{"id": "\\ud800", "label": "a", "x": 0, "y": 0, "width": 1, "height": 1}], "revision": 0}',
        ),
        (f"/image/{images[0]}/review", "POST", '{"accept": true, "comment": "\\ud800", "revision": 0}'),
    ]
    for path, method, body in bodies:
        answer = as_annotator.request(method, path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422, answer.text
