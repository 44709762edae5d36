"""Exports and imports over REST: queued, looked at, fetched; and nobody else's business."""

import csv
import io
import time
import zipfile
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from pipeline.accounts.users import User
from pipeline.annotation import decisions
from pipeline.annotation.said import Said
from pipeline.context import Context
from pipeline.events import ImageEvent, image_id
from tests.api.conftest import signed_in

BOX = {"id": "b", "label": "<b>logo</b>", "x": 0.25, "y": 0.5, "width": 0.5, "height": 0.25}


def image(context: Context, name: str, **fields: Any) -> UUID:
    context.catalog.register([ImageEvent("photos", name, "etag")])
    one = image_id("photos", name, "etag")
    change = {"status": "indexed", "width": 640, "height": 480, **fields}
    context.catalog.images.update_one({"_id": one}, {"$set": change})
    return one


def ended(client: TestClient, job: dict[str, Any]) -> dict[str, Any]:
    end = time.monotonic() + 60
    while (found := client.get(f"/jobs/{job['id']}").json())["state"] in ("queued", "running"):
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return dict(found)


def queue(client: TestClient, **wanted: Any) -> dict[str, Any]:
    answer = client.post("/export", json=wanted)
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/jobs/{answer.json()['id']}"
    return dict(answer.json())


def send(client: TestClient, data: bytes, **form: Any) -> dict[str, Any]:
    answer = client.post("/import/annotations", files={"file": ("labels", data)}, data=form)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def test_labels_go_out_and_come_back(as_annotator: TestClient, context: Context) -> None:
    one = image(context, "plain.jpg")
    ann = context.users.find("ann")
    assert isinstance(ann, User)
    decisions.label(context, ann, one, 0, Said(["=SUM(A1)"], [BOX]))  # type: ignore[list-item]
    job = ended(as_annotator, queue(as_annotator, format="coco"))
    assert (job["state"], job["result"], job["by"], job["done"]) == ("done", {"images": 1}, "ann", 1)
    result = as_annotator.get(f"/jobs/{job['id']}/result")
    assert (result.status_code, result.headers["content-type"]) == (200, "application/zip")
    assert result.headers["content-disposition"] == 'attachment; filename="sleeve-coco.zip"'
    assert int(result.headers["content-length"]) == len(result.content)
    assert zipfile.ZipFile(io.BytesIO(result.content)).namelist() == ["annotations.json"]
    decisions.label(context, ann, one, 1, Said())
    conflict = ended(as_annotator, send(as_annotator, result.content))
    assert (conflict["result"]["conflicts"], conflict["result"]["changed"]) == (1, 0)
    table = as_annotator.get(f"/jobs/{conflict['id']}/result")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    [head, [where, _]] = csv.reader(io.StringIO(table.text))
    assert (head, where) == (["where", "problem"], "plain.jpg")
    replaced = ended(as_annotator, send(as_annotator, result.content, replace="true", format="coco"))
    assert (replaced["result"]["conflicts"], replaced["result"]["changed"]) == (0, 1)
    now = context.catalog.find([one])[one]
    assert (now["labels"], [box["label"] for box in now["boxes"]]) == (["=SUM(A1)"], ["<b>logo</b>"])


def test_an_export_has_what_the_filters_let_through_and_the_user_may_see(
    as_annotator: TestClient, as_admin: TestClient, context: Context
) -> None:
    image(context, "a.jpg", labels=["jazz"])
    image(context, "b.jpg", labels=["soul"])
    image(context, "c.jpg", labels=["jazz"], owner="bob", private=True)

    def names(client: TestClient, **wanted: Any) -> list[str]:
        job = ended(client, queue(client, format="csv", **wanted))
        archive = zipfile.ZipFile(io.BytesIO(client.get(f"/jobs/{job['id']}/result").content))
        rows = csv.DictReader(io.StringIO(archive.read("annotations.csv").decode()))
        return sorted(row["original_file_name"] for row in rows)

    assert names(as_annotator) == ["a.jpg", "b.jpg"]
    assert names(as_annotator, label="jazz") == ["a.jpg"]
    assert names(as_admin, label="jazz") == ["a.jpg", "c.jpg"]
    assert names(as_annotator, until="2020-01-01") == []


def test_jobs_are_their_owners_and_admins(nobody: TestClient, as_admin: TestClient) -> None:
    ann, bob = signed_in(nobody.app, "ann", "annotator"), signed_in(nobody.app, "bob", "annotator")  # type: ignore[arg-type]
    job = ended(ann, queue(ann, format="csv"))
    for path in (f"/jobs/{job['id']}", f"/jobs/{job['id']}/result"):
        assert (ann.get(path).status_code, as_admin.get(path).status_code) == (200, 200)
        # As for a job that never was, so nobody learns which there are.
        never = bob.get(path.replace(job["id"], str(uuid4())))
        assert (bob.get(path).status_code, never.status_code) == (404, 404)
    assert bob.get("/jobs").json() == {"jobs": [], "next": None}
    assert [one["id"] for one in as_admin.get("/jobs").json()["jobs"]] == [job["id"]]
    assert "visible_to" not in str(as_admin.get("/jobs").json())


def test_jobs_come_in_pages_latest_first(as_annotator: TestClient, context: Context) -> None:
    made = [context.jobs.add("export", "ann", {"format": "csv"})["_id"] for _ in range(5)]
    # Of one moment, as several replicas may make them.
    moment = context.jobs.find(made[0])["created_at"]  # type: ignore[index]
    context.catalog.database["jobs"].update_many({"_id": {"$in": made[:3]}}, {"$set": {"created_at": moment}})
    found, after = [], None
    while True:
        page = as_annotator.get("/jobs", params={"limit": 2} | ({"after": after} if after else {})).json()
        found += [UUID(one["id"]) for one in page["jobs"]]
        after = page["next"]
        if after is None:
            break
        context.jobs.add("export", "ann", {"format": "csv"})
    assert found == [made[4], made[3], *sorted(made[:3], reverse=True)]
    assert as_annotator.get("/jobs", params={"after": "yesterday"}).status_code == 422


def test_there_is_no_result_before_the_job_is_done(as_annotator: TestClient, context: Context) -> None:
    job = context.jobs.add("export", "ann", {"format": "csv"})["_id"]
    # As if another replica worked on it.
    change = {"state": "running", "heartbeat": context.jobs.find(job)["created_at"]}  # type: ignore[index]
    context.catalog.database["jobs"].update_one({"_id": job}, {"$set": change})
    answer = as_annotator.get(f"/jobs/{job}/result")
    assert answer.status_code == 409
    assert "running" in answer.json()["detail"]


def test_a_failed_import_says_why_and_has_no_result(as_annotator: TestClient) -> None:
    job = ended(as_annotator, send(as_annotator, b"PK\x03\x04 and no more"))
    assert job["state"] == "failed"
    assert "damaged" in job["error"]
    answer = as_annotator.get(f"/jobs/{job['id']}/result")
    assert answer.status_code == 409
    assert job["error"] in answer.json()["detail"]


def test_a_result_that_was_removed_says_so(as_annotator: TestClient, context: Context) -> None:
    job = ended(as_annotator, queue(as_annotator, format="csv"))
    context.objects.delete(context.settings.sleeve_bucket, f"exports/{job['id']}.zip")
    answer = as_annotator.get(f"/jobs/{job['id']}/result")
    assert answer.status_code == 404
    assert "removed" in answer.json()["detail"]


@pytest.mark.parametrize(
    "wanted",
    [{}, {"format": "xml"}, {"format": "csv", "lable": "jazz"}, {"format": "csv", "since": "May"}, {"format": None}],
)
def test_an_export_that_cannot_be_is_refused(as_annotator: TestClient, wanted: dict[str, Any]) -> None:
    answer = as_annotator.post("/export", json=wanted)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert as_annotator.get("/jobs").json()["jobs"] == []


def test_viewers_neither_export_nor_import(as_viewer: TestClient) -> None:
    assert as_viewer.post("/export", json={"format": "csv"}).status_code == 403
    assert as_viewer.post("/import/annotations", files={"file": b"file_name,label"}).status_code == 403
