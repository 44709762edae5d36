"""COCO: one JSON document of images, annotations and categories; boxes in pixels [x, y, width, height].

Every annotation of COCO has a box or an outline, so a whole-image label is none. Ours stand in the image object, as
`labels`, next to `original_file_name`: readers take from an object the keys they know. An annotation for the whole
picture's box would look like a detection to everyone else. Where others write an annotation without box and outline,
it is read as a whole-image label.
"""

import json
import shutil
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import ijson

from pipeline.annotation.formats import checked
from pipeline.annotation.formats.entries import DAMAGED, BadEntry, Entry, opened
from pipeline.annotation.formats.gathered import Gathered
from pipeline.annotation.formats.records import Box, Labelled, LabelNumbers, Problem, exported_name, identified
from pipeline.annotation.formats.zip_output import zip_entry, zip_output
from pipeline.errors import BadSource

# One image or annotation; most of it is its outline.
MAX_ELEMENT_BYTES = 4 << 20
MAX_DEPTH = 100
MAX_ID = 200


def write(records: Iterable[Labelled], out: IO[bytes], label_names: Sequence[str]) -> None:
    """A zip with annotations.json. Raises ValueError for an image that has boxes but no size."""
    numbers = LabelNumbers(label_names)
    with (
        zip_output(out) as archive,
        TemporaryFile() as later,
        archive.open(zip_entry("annotations.json"), "w", force_zip64=True) as document,
    ):
        document.write(b'{"info":{"description":"Exported by Sleeve","version":"1.0"},"licenses":[],\n"images":[')
        written = 0
        for image_number, record in enumerate(records, 1):
            document.write((b",\n" if image_number > 1 else b"\n") + _json(_image(image_number, record, numbers)))
            for box in record.boxes:
                written += 1
                annotation = {"id": written, "image_id": image_number, **_annotation(box, record, numbers)}
                later.write((b",\n" if written > 1 else b"\n") + _json(annotation))
        later.seek(0)
        document.write(b'],\n"annotations":[')
        shutil.copyfileobj(later, document)
        categories = [{"id": i + 1, "name": name, "supercategory": ""} for name, i in numbers.numbers.items()]
        document.write(b'],\n"categories":' + _json(categories) + b"}\n")


def _image(number: int, record: Labelled, numbers: LabelNumbers) -> dict[str, object]:
    for label in record.labels:
        numbers.of(label)
    return {
        "id": number,
        "file_name": exported_name(record),
        "width": record.width,
        "height": record.height,
        "original_file_name": record.file_name,
        "labels": record.labels,
    }


def _annotation(box: Box, record: Labelled, numbers: LabelNumbers) -> dict[str, object]:
    if record.width is None or record.height is None:
        raise ValueError(f"image {record.image_id} has boxes but no width and height, and COCO counts in pixels")
    x, y, width, height = (
        box.x * record.width,
        box.y * record.height,
        box.width * record.width,
        box.height * record.height,
    )
    return {
        "category_id": numbers.of(box.label) + 1,
        "bbox": [x, y, width, height],
        "area": width * height,
        "segmentation": [],
        "iscrowd": 0,
    }


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def read(path: Path) -> Iterator[Labelled | Problem]:
    """The images of every COCO document at `path`: a JSON file, or a zip of such. Boxes are kept, outlines not.

    Raises:
        BadSource: there is no JSON, or it breaks off or cannot be parsed.
    """
    with opened(path) as export:
        documents = list(export.entries(".json"))
        if not documents:
            raise BadSource("There is no JSON file in the zip; is this a COCO export?")
        for document in documents:
            with Gathered() as gathered:
                names = yield from _categories(document)
                yield from _images(document, gathered)
                yield from _annotations(document, gathered, names)
                yield from gathered.records()


def _categories(document: Entry) -> Generator[Problem, None, dict[str, str]]:
    names = {}
    for where, category in _elements(document, "categories"):
        key = _key(category.get("id"))
        try:
            if not key:
                raise ValueError("the category has no id")
            names[key] = checked.label(category.get("name"))
        except ValueError as error:
            yield Problem(where, str(error))
    return names


def _images(document: Entry, gathered: Gathered) -> Iterator[Problem]:
    where = ""
    for where, image in _elements(document, "images"):
        name, key = checked.text(image.get("file_name")), _key(image.get("id"))
        if not name or not key:
            yield Problem(where, "the image has no file_name or no id")
            continue
        image_id, file_name = identified(name, checked.text(image.get("original_file_name")))
        width, height = checked.size(image.get("width"), image.get("height"))
        labels = checked.labels(image.get("labels"))
        if not gathered.add_image(key, Labelled(image_id, file_name, width, height, labels)):
            yield Problem(where, f"a second image with the id {key}")
    if not where:
        yield Problem(document.name, "there are no images in it; is this a COCO document?")


def _annotations(document: Entry, gathered: Gathered, names: dict[str, str]) -> Iterator[Problem]:
    for where, annotation in _elements(document, "annotations"):
        try:
            note = _add(annotation, gathered, names)
        except ValueError as error:
            note = str(error)
        if note:
            yield Problem(where, note)


def _add(annotation: dict[str, Any], gathered: Gathered, names: dict[str, str]) -> str:
    """Take one annotation in; returns what had to be changed, or ""."""
    key, category = _key(annotation.get("image_id")), _key(annotation.get("category_id"))
    picture = gathered.size(key)
    if picture is None:
        raise ValueError(f"there is no image with the id {key}")
    if category not in names:
        raise ValueError(f"there is no category with the id {category}")
    place = annotation.get("bbox")
    if not place and not annotation["segmentation"]:
        gathered.add_label(key, names[category])
        return ""
    if not isinstance(place, list) or len(place) != 4:
        raise ValueError("bbox is not [x, y, width, height]")
    x, y, width, height = (checked.number(value, "bbox") for value in place)
    box, note = checked.pixel_box(names[category], (x, y, width, height), picture)
    gathered.add_box(key, box)
    return note


def _key(value: object) -> str:
    """An id as text: other tools write 7, 7.0 and "7" for the same thing."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return checked.text(value)[:MAX_ID]


def _elements(document: Entry, array: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, element) of a top-level array, one at a time; of a `segmentation`, which is most of the bytes of many
    documents, only whether there is one."""
    try:
        with document.open() as file:
            for number, element in enumerate(_built(_events(file, array))):
                yield f"{document.name}, {array}[{number}]", element
    except (ijson.JSONError, BadEntry, *DAMAGED) as error:
        raise BadSource(f"{document.name} is no readable JSON: {error}") from error


def _events(file: IO[bytes], array: str) -> Iterator[tuple[int, str, Any]]:
    """(depth, event, value) of what the parser meets in a top-level array; its elements have depth 2."""
    metered = _Metered(file)
    depth, section = 0, ""
    for event, value in ijson.basic_parse(metered, use_float=True):
        depth -= event in ("end_map", "end_array")
        if depth <= 2:
            metered.since = 0
        if depth > MAX_DEPTH:
            raise BadEntry("it is nested deeper than any annotations are")
        if depth == 1 and event == "map_key":
            section = value
        elif depth >= 2 and section == array:
            yield depth, event, value
        depth += event in ("start_map", "start_array")


def _built(events: Iterator[tuple[int, str, Any]]) -> Iterator[dict[str, Any]]:
    """The elements; {} for one that is no object."""
    builder, skipping, outlined = ijson.ObjectBuilder(), False, False
    for depth, event, value in events:
        if depth == 2 and event in ("start_map", "start_array"):
            builder, skipping, outlined = ijson.ObjectBuilder(), False, False
        elif depth == 3 and event == "map_key":
            skipping = value == "segmentation"
        if depth > 2 and skipping:
            outlined = outlined or event in ("number", "string")
        elif depth > 2 or event != "map_key":
            builder.event(event, value)
            if depth == 2 and event not in ("start_map", "start_array"):
                yield {**builder.value, "segmentation": outlined} if event == "end_map" else {}


class _Metered:
    """Counts the bytes since the last element, so that one that is as large as the document does not fill memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.since = 0

    def read(self, size: int) -> bytes:
        if self.since > MAX_ELEMENT_BYTES:
            raise BadEntry(f"it has an element of more than {MAX_ELEMENT_BYTES} bytes")
        data = self._file.read(size)
        self.since += len(data)
        return data
