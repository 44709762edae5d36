"""Exports on a real catalogue: what is in them, that they repeat, and that they take no memory."""

import gc
import hashlib
import json
import tracemalloc
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from pipeline.annotation import formats
from pipeline.annotation.export import Export, export, export_file
from pipeline.annotation.formats import FORMATS, Format, Labelled
from pipeline.context import Context
from pipeline.stores.catalog import Filter
from tests.test_cli import sleeve

from .conftest import Images

BOX = {"id": "b", "label": "logo", "x": 0.25, "y": 0.5, "width": 0.5, "height": 0.25}
SIZE = {"width": 640, "height": 480}


def in_export(context: Context, folder: Path, **wanted: Any) -> set[UUID]:
    path = folder / "export.zip"
    accepted = wanted.pop("accepted", False)
    told = []
    counted = export_file(
        context.catalog, Export("csv", Filter(**wanted), accepted), path, lambda *now: told.append(now)
    )
    found = [UUID(one.image_id) for one in formats.read("csv", path) if isinstance(one, Labelled) and one.image_id]
    assert counted == len(found) == len(set(found))
    assert told[-1:] == ([(counted, counted)] if counted else [])
    return set(found)


def test_labelled_images_that_one_may_see_are_in_an_export_and_no_others(
    context: Context, images: Images, tmp_path: Path
) -> None:
    [labelled], [boxed] = images(1, label="jazz", **SIZE), images(1, boxes=[BOX], **SIZE)
    images(1, **SIZE)
    [hidden] = images(1, label="jazz", private=True, owner="bob", **SIZE)
    [own] = images(1, label="jazz", private=True, owner="ann", **SIZE)
    for status in ("deleted", "quarantined", "pending"):
        images(1, label="jazz", **{**SIZE, "status": status})
    assert in_export(context, tmp_path, visible_to="ann") == {labelled, boxed, own}
    assert in_export(context, tmp_path, visible_to="cleo") == {labelled, boxed}
    assert in_export(context, tmp_path) == {labelled, boxed, own, hidden}


def test_filters_choose(context: Context, images: Images, tmp_path: Path) -> None:
    year = datetime(2020, 6, 1, tzinfo=UTC)
    [old] = images(1, label="jazz", owner="ann", created_at=year, **SIZE)
    [soul] = images(1, label="soul", owner="bob", stage="accepted", **SIZE)
    assert in_export(context, tmp_path, label="soul") == {soul}
    assert in_export(context, tmp_path, owner="ann") == {old}
    assert in_export(context, tmp_path, since=year + timedelta(days=1)) == {soul}
    assert in_export(context, tmp_path, until=year + timedelta(days=1)) == {old}
    assert in_export(context, tmp_path, accepted=True) == {soul}
    assert in_export(context, tmp_path, label="rock") == set()


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_catalogue_gives_the_same_bytes(
    context: Context, images: Images, tmp_path: Path, format: Format
) -> None:
    images(20, label="jazz", boxes=[BOX], **SIZE)
    for name in "ab":
        export_file(context.catalog, Export(format), tmp_path / name, lambda done, total: None)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_export_that_breaks_off_leaves_the_file_of_before(context: Context, images: Images, tmp_path: Path) -> None:
    images(3, label="jazz", **SIZE)
    path = tmp_path / "export.zip"
    path.write_text("before")

    def stop(done: int, total: int | None) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        export_file(context.catalog, Export("csv"), path, stop)
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir() if one.is_file()] == [("export.zip", "before")]


def test_the_command_writes_a_file(environment: Context, images: Images, tmp_path: Path) -> None:
    [jazz] = images(1, label="jazz", **SIZE)
    [soul] = images(1, label="soul", private=True, owner="bob", **SIZE)
    path = tmp_path / "new folder" / "labels.zip"
    done = sleeve("export", "--format", "yolo", "--json", path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"images": 2, "format": "yolo", "file": str(path)}
    names = zipfile.ZipFile(path).namelist()
    assert {f"labels/{jazz}.txt", f"labels/{soul}.txt", "data.yaml"} <= set(names)
    done = sleeve("export", "--format", "csv", "--label", "soul", path)
    assert (done.returncode, done.stdout.startswith("1 images in ")) == (0, True)
    assert str(jazz).encode() not in zipfile.ZipFile(path).read("annotations.csv")
    done = sleeve("export", "--format", "csv", "--since", "May", path)
    assert (done.returncode, "since is 'May'" in done.stderr) == (1, True)


class Hashed:
    """A stream that keeps nothing of what is written to it."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return len(data)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("format", ["voc", "coco"])
def test_five_thousand_images_take_the_memory_of_two_thousand(context: Context, format: Format) -> None:
    # While a chunk is fetched the one before is still there, so memory is full with the second.
    def add(count: int) -> None:
        one = {"bucket": "b", "version": "e", "status": "indexed", "labels": ["jazz"], "boxes": [BOX], **SIZE}
        documents = [
            {**one, "_id": uuid4(), "key": f"{uuid4()}.jpg", "original_filename": f"{number}.jpg"}
            for number in range(count)
        ]
        context.catalog.images.insert_many(documents)

    def peak() -> int:
        gc.collect()
        tracemalloc.start()
        export(context.catalog, Export(format), Hashed(), lambda done, total: None)  # type: ignore[arg-type]
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    add(2000)
    few = peak()
    add(3000)
    many = peak()
    assert many < few + (1 << 20), (few, many)
