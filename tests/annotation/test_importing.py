"""Imports of annotations on real servers: they find their images, respect people, and repeat without effect."""

import csv
import io
import json
import threading
import zipfile
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from pipeline import jobs
from pipeline.annotation import decisions
from pipeline.annotation.export import Export, export_file
from pipeline.annotation.formats import FORMATS, Format
from pipeline.annotation.importing import MAX_PROBLEMS, upload_key
from pipeline.annotation.said import Said
from pipeline.context import Context
from pipeline.stores.catalog import Document
from pipeline.stores.jobs import result_key

from .conftest import ANN, BOB, Images

FOREIGN = Path(__file__).parent.parent / "data" / "annotations"
BOX = {"id": "b", "label": "logo", "x": 0.25, "y": 0.5, "width": 0.5, "height": 0.25}
SIZE = {"width": 640, "height": 480}
LABELS = ["jazz", "<script>alert(1)</script>", "=SUM(A1)", "'@home", 'Käse & Brot; "7", single']


@pytest.fixture(autouse=True)
def people(context: Context) -> None:
    for user in (ANN, BOB):
        context.users.add(user.name, None, user.role)


def take_in(context: Context, data: bytes, by: str = "ann", **arguments: Any) -> Document:
    """Import a file as a worker does; returns the job as it ended."""
    job = uuid4()
    context.objects.put(context.settings.sleeve_bucket, upload_key(job), data)
    standard = {"format": None, "replace": False, "visible_to": by}
    context.jobs.add("import", by, {**standard, **arguments}, job)
    taken = context.jobs.take()
    assert taken is not None
    jobs.run(context, taken, threading.Event())
    ended = context.jobs.find(job)
    assert ended is not None
    return ended


def counts(job: Document) -> dict[str, int]:
    assert job["state"] == "done", job["error"]
    return {name: number for name, number in job["result"].items() if number}


def problems(context: Context, job: Document) -> list[list[str]]:
    text = context.objects.get(context.settings.sleeve_bucket, result_key(job)).decode()
    head, *rows = csv.reader(io.StringIO(text))
    assert head == ["where", "problem"]
    return rows


def zipped(files: dict[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def folder(name: str) -> bytes:
    place = FOREIGN / name
    return zipped({str(one.relative_to(place)): one.read_bytes() for one in place.rglob("*") if one.is_file()})


def table(*rows: str) -> bytes:
    return "\n".join(["file_name,label", *rows]).encode()


def at(context: Context, image: UUID) -> Document:
    return context.catalog.find([image])[image]


def words(document: Document, format: Format) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Labels and boxes (left, top, right, bottom), as exactly as the format knows them: VOC has whole pixels."""

    def edge(value: float, pixels: int) -> float:
        return round(value * pixels) if format == "voc" else round(value, 9)

    boxes = [
        (
            box["label"],
            edge(box["x"], SIZE["width"]),
            edge(box["y"], SIZE["height"]),
            edge(box["x"] + box["width"], SIZE["width"]),
            edge(box["y"] + box["height"], SIZE["height"]),
        )
        for box in document["boxes"]
    ]
    return sorted(document["labels"]), sorted(boxes)


def say(context: Context, image: UUID, *labels: str, **more: Any) -> None:
    document = at(context, image)
    decisions.label(context, ANN, image, document["revision"], Said(labels, **more))


@pytest.mark.parametrize("format", FORMATS)
def test_what_was_exported_comes_back(context: Context, images: Images, tmp_path: Path, format: Format) -> None:
    ids = images(4, original_filename="cover.jpg", **SIZE)
    for number, image in enumerate(ids[:3]):
        odd = {"id": "o", "label": LABELS[2], "x": 0.1, "y": 0.2, "width": 1 / 3, "height": 0.7 / 3}
        say(context, image, *LABELS[: number * 2], boxes=[BOX, odd][: 2 - number])
    [only_boxes, both, only_labels, _] = was = [words(at(context, image), format) for image in ids]
    assert (only_boxes[0], only_labels[1]) == ([], [])
    assert all(both)
    path = tmp_path / "export.zip"
    assert export_file(context.catalog, Export(format), path, lambda done, total: None) == 3
    # As it was exported it says nothing new, and the exact place of each box stays.
    before = [at(context, image) for image in ids]
    assert counts(take_in(context, path.read_bytes(), by="bob")) == {"matched": 3, "unchanged": 3}
    assert [at(context, image) for image in ids] == before
    for image in ids:
        say(context, image)
    # Without `replace` a person's word, that there is nothing, stands.
    refused = take_in(context, path.read_bytes(), by="bob")
    assert counts(refused) == {"matched": 3, "conflicts": 3}
    assert "ann decided" in problems(context, refused)[0][1]
    assert [words(at(context, image), format) for image in ids] == [([], [])] * 4
    assert counts(take_in(context, path.read_bytes(), by="bob", replace=True)) == {"matched": 3, "changed": 3}
    assert [words(at(context, image), format) for image in ids] == was
    assert [at(context, image)["labelled_by"] for image in ids] == ["bob", "bob", "bob", "ann"]
    # Again it changes nothing, whoever does it.
    before = [at(context, image) for image in ids]
    assert counts(take_in(context, path.read_bytes())) == {"matched": 3, "unchanged": 3}
    assert [at(context, image) for image in ids] == before


NAMES = ["plain.jpg", "two words, a comma.jpg", "Käse & Brot.png", "cover.jpg", "O'Brien.v2.jpg"]
BOXES = {
    "plain.jpg": ["cover", "sticker"],
    "two words, a comma.jpg": ["front <b>cover</b>"],
    "cover.jpg": ['7", single'],
}


@pytest.mark.parametrize("export", ["fiftyone-coco", "fiftyone-voc", "fiftyone-yolo", "fiftyone-yolov4"])
def test_other_peoples_exports_find_their_images_by_file_name(context: Context, images: Images, export: str) -> None:
    ids = {name: images(1, label="vinyl", original_filename=name, **SIZE)[0] for name in NAMES}
    images(1, original_filename="plain.v2.jpg", **SIZE)
    done = counts(take_in(context, folder(export)))
    assert (done["matched"], done.get("unknown", 0), done.get("conflicts", 0)) == (5, 0, 0)
    for name, labels in BOXES.items():
        document = at(context, ids[name])
        assert sorted(box["label"] for box in document["boxes"]) == labels
        # Such files have no place for labels, so they do not say that there are none.
        assert document["labels"] == ["vinyl"]
    cover = next(box for box in at(context, ids["plain.jpg"])["boxes"] if box["label"] == "cover")
    assert [cover[side] for side in ("x", "y", "width", "height")] == pytest.approx([0.125, 0.25, 0.5, 0.5], abs=0.002)
    assert "=SUM(A1)" in [box["label"] for box in at(context, ids["O'Brien.v2.jpg"])["boxes"]]
    again = counts(take_in(context, folder(export)))
    assert (again.get("changed", 0), again["unchanged"]) == (0, 5)


def test_private_images_of_others_are_not_there(context: Context, images: Images) -> None:
    [hidden] = images(1, label="mine", original_filename="secret.jpg", private=True, owner="bob", **SIZE)
    [gone] = images(1, original_filename="gone.jpg", status="deleted")
    before = at(context, hidden)
    data = table(f"{hidden}.jpg,jazz", "secret.jpg,jazz", f"{gone}.jpg,jazz", "gone.jpg,jazz", "no.jpg,jazz")
    done = take_in(context, data)
    assert counts(done) == {"unknown": 5}
    # Nothing tells which of them exist.
    assert len({what for _, what in problems(context, done)}) == 1
    assert at(context, hidden) == before
    assert counts(take_in(context, table("secret.jpg,jazz"), by="bob"))["changed"] == 1
    assert at(context, hidden)["labels"] == ["jazz"]


def test_an_image_is_found_by_id_then_name_then_stem(context: Context, images: Images) -> None:
    [one] = images(1, original_filename="a.jpg")
    [other] = images(1, original_filename="b.jpg")
    [third] = images(1, original_filename="c.v2.jpg")
    images(2, original_filename="twice.jpg")
    images(1, original_filename="c.jpg.bak")
    rows = (f"{one}.jpg,by id", "folder/b.jpg,by name", "c.v2.png,by stem", "twice.jpg,which", "c.png,none")
    done = take_in(context, table(*rows))
    assert counts(done) == {"matched": 3, "changed": 3, "unknown": 1, "problems": 1}
    assert [at(context, image)["labels"] for image in (one, other, third)] == [["by id"], ["by name"], ["by stem"]]
    told = dict(problems(context, done))
    assert "2 images" in told["twice.jpg"]
    assert "no such image" in told["c.png"]


def test_two_entries_for_one_image_are_reported_and_do_not_take_turns(context: Context, images: Images) -> None:
    [image] = images(1, original_filename="a.jpg")
    data = table("x/a.jpg,first", "y/a.jpg,second")
    assert counts(take_in(context, data)) == {"matched": 1, "changed": 1, "problems": 1}
    assert counts(take_in(context, data)) == {"matched": 1, "unchanged": 1, "problems": 1}
    assert at(context, image)["labels"] == ["first"]
    assert at(context, image)["revision"] == 1


def test_an_import_corrects_an_import_and_producers_but_not_people(context: Context, images: Images) -> None:
    ids = images(3, label="from-the-producer", original_filename="x.jpg")
    say(context, ids[2], "by hand")
    rows = [f"{image}.jpg,first" for image in ids]
    assert counts(take_in(context, table(*rows))) == {"matched": 3, "changed": 2, "conflicts": 1}
    say(context, ids[1], "by hand")
    assert counts(take_in(context, table(*(row.replace("first", "second") for row in rows)))) == {
        "matched": 3,
        "changed": 1,
        "conflicts": 2,
    }
    assert [at(context, image)["labels"] for image in ids] == [["second"], ["by hand"], ["by hand"]]


def test_boxes_that_stay_keep_their_ids(context: Context, images: Images) -> None:
    [image] = images(1, original_filename="x.jpg", **SIZE)
    say(context, image, "jazz", boxes=[BOX])
    rows = [
        "file_name,label,x,y,box_width,box_height",
        f"{image}.jpg,logo,0.25,0.5,0.5,0.25",
        f"{image}.jpg,new,0,0,0.5,0.5",
        f"{image}.jpg,jazz,,,,",
    ]
    take_in(context, "\n".join(rows).encode(), replace=True)
    now = at(context, image)["boxes"]
    assert [box["label"] for box in now] == ["logo", "new"]
    assert now[0] == BOX
    assert now[1]["id"] not in ("", "b")


def entities() -> bytes:
    bomb = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><annotation><filename>&b;</filename></annotation>'
    return zipped({"a.xml": bomb})


def outside() -> bytes:
    return zipped({"../../etc/a.xml": "<annotation><filename>x.jpg</filename></annotation>"})


def bomb() -> bytes:
    return zipped({"annotations.json": b'{"images": [' + b" " * (64 << 20)})


HOSTILE = {
    "entities": (entities(), "entity"),
    "a path that leads out": (outside(), "leads out"),
    "a bomb": (bomb(), "times its size"),
    "a zip cut off": (folder("fiftyone-voc")[:-100], "damaged"),
    "no annotations": (zipped({"readme.md": "hello"}), "no annotations"),
    "nothing": (b"", "neither a zip"),
    "JSON that goes too deep": (b'{"images": ' + b"[" * 3_000, "annotations"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_read_fails_with_a_sentence_and_changes_nothing(
    context: Context, images: Images, name: str
) -> None:
    [image] = images(1, label="vinyl", original_filename="x.jpg")
    before = at(context, image)
    data, why = HOSTILE[name]
    done = take_in(context, data)
    assert done["state"] == "failed"
    assert why in done["error"]
    assert at(context, image) == before


def test_a_file_that_breaks_off_changes_nothing_at_all(context: Context, images: Images) -> None:
    [image] = images(1, original_filename="a.jpg", **SIZE)
    whole = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": []}
    good = {**whole, "images": [{"id": 1, "file_name": "a.jpg", "labels": ["jazz"]}]}
    broken = json.dumps(good)[:-20]
    done = take_in(context, zipped({"a.json": json.dumps(good), "b.json": broken}))
    assert done["state"] == "failed"
    assert at(context, image)["revision"] == 0


def test_bad_labels_are_reported_and_the_rest_goes_on(context: Context, images: Images) -> None:
    [bad] = images(1, original_filename="bad.jpg")
    [good] = images(1, original_filename="good.jpg")
    done = take_in(context, table("bad.jpg," + "x" * 1000, "good.jpg,jazz"))
    assert counts(done) == {"matched": 2, "changed": 1, "problems": 1}
    assert at(context, bad)["labels"] == []
    assert at(context, good)["labels"] == ["jazz"]


def test_the_table_of_problems_is_bounded_and_no_formula(context: Context) -> None:
    rows = ["=HYPERLINK(1).jpg,jazz", *(f"{number}.jpg,jazz" for number in range(MAX_PROBLEMS + 50))]
    done = take_in(context, table(*rows))
    assert counts(done) == {"unknown": MAX_PROBLEMS + 51}
    told = problems(context, done)
    assert len(told) == MAX_PROBLEMS
    assert told[0][0] == "'=HYPERLINK(1).jpg"


def test_somebody_who_lost_the_right_meanwhile_changes_nothing(context: Context, images: Images) -> None:
    [image] = images(1, original_filename="a.jpg")
    user = context.users.find("ann")
    assert user is not None
    context.users.change(user.id, role="viewer")
    done = take_in(context, table("a.jpg,jazz"))
    assert (done["state"], at(context, image)["revision"]) == ("failed", 0)
    assert "ann may not" in done["error"]
