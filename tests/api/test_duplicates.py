"""GET /duplicates: pages of groups."""

from uuid import UUID

import cv2
from fastapi.testclient import TestClient

from pipeline import duplicates
from pipeline.context import Context
from pipeline.samples import cover, cover_jpeg

from .conftest import Publish


def test_pages_lead_to_every_group(client: TestClient, context: Context, publish: Publish) -> None:
    small = [cv2.imencode(".jpg", cover(number, 400))[1].tobytes() for number in range(3)]
    mirrored = cv2.imencode(".jpg", cv2.flip(cover(1), 1))[1].tobytes()
    ids = publish([*map(cover_jpeg, range(4)), *small, mirrored])
    assert client.get("/duplicates").json() == {"groups": [], "next": None}
    for shard in duplicates.plan(context):
        duplicates.compare(context, shard)
    duplicates.regroup(context)
    wanted = [{ids[1], ids[5], ids[7]}, {ids[0], ids[4]}, {ids[2], ids[6]}]

    groups, after = [], None
    for _ in range(4):
        page = client.get("/duplicates", params={"limit": 1, "after": after}).json()
        groups += page["groups"]
        after = page["next"]
        if after is None:
            break
    assert [group["size"] for group in groups] == [3, 2, 2]
    members = [{UUID(image["id"]) for image in group["images"]} for group in groups]
    assert members[0] == wanted[0]
    assert sorted(members[1:], key=min) == sorted(wanted[1:], key=min)
    assert [UUID(group["group"]) for group in groups] == [min(images) for images in members]
    of_three = {UUID(image["id"]): image for image in groups[0]["images"]}
    assert of_three[ids[7]]["mirrored"]
    assert not of_three[ids[5]]["mirrored"]
    assert of_three[ids[1]] | {"id": None, "score": None, "inliers": None} == {
        "id": None,
        "labels": ["jazz"],
        "original_filename": "cover_1.jpg",
        "score": None,
        "inliers": None,
        "mirrored": False,
        "copy_of": None,
    }
    # A deletion counts at once.
    context.catalog.delete([ids[4]], "test")
    assert len(client.get("/duplicates").json()["groups"]) == 2


def test_a_page_that_cannot_be_is_refused_in_a_sentence(client: TestClient) -> None:
    for after in ("x", "3", "3:x"):
        answer = client.get("/duplicates", params={"after": after})
        assert (answer.status_code, "`next`" in answer.json()["detail"]) == (422, True)
