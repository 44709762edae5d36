"""YOLO in Ultralytics' layout: data.yaml, train.txt, and labels/<name>.txt with a line for each box.

A line is the class number, then centre x, centre y, width and height in fractions. Every column counts there, so
whole-image labels, sizes and original names stand in a file of their own that other readers do not open: images.jsonl,
one JSON object for each image. An image without boxes has an empty label file, as a background image should.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from posixpath import splitext
from tempfile import TemporaryFile
from typing import IO, Any

import yaml

from pipeline.annotation.formats import checked
from pipeline.annotation.formats.entries import DAMAGED, BadEntry, Entry, Export, opened, suffix
from pipeline.annotation.formats.records import Box, Labelled, LabelNumbers, Problem, exported_name, identified
from pipeline.annotation.formats.zip_output import zip_entry, zip_output
from pipeline.errors import BadSource

SPLITS = ("train", "val", "valid", "test")
# Text files of a dataset that hold no boxes.
LISTS = {f"{split}.txt" for split in SPLITS} | {"images.txt"}
NO_LABELS = LISTS | {"classes.txt"}
PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
MAX_LINE_BYTES = 1 << 20
# Some 30,000 classes; reading that much YAML takes half a minute already.
MAX_NAMES_BYTES = 1 << 20


def write(records: Iterable[Labelled], out: IO[bytes], label_names: Sequence[str]) -> None:
    """A zip of data.yaml, train.txt, images.jsonl and labels/<uuid>.txt; the pictures belong into images/."""
    numbers = LabelNumbers(label_names)
    with zip_output(out) as archive, TemporaryFile() as pictures, TemporaryFile() as details:
        for record in records:
            name = exported_name(record)
            lines = "".join(_line(numbers.of(box.label), box) for box in record.boxes)
            archive.writestr(zip_entry(f"labels/{splitext(name)[0]}.txt"), lines)
            pictures.write(f"./images/{name}\n".encode())
            details.write(json.dumps(_details(name, record)).encode() + b"\n")
            for label in record.labels:
                numbers.of(label)
        for file_name, spool in (("train.txt", pictures), ("images.jsonl", details)):
            spool.seek(0)
            with archive.open(zip_entry(file_name), "w", force_zip64=True) as file:
                shutil.copyfileobj(spool, file)
        names = {number: name for name, number in numbers.numbers.items()}
        dataset = {"train": "train.txt", "val": "train.txt", "names": names}
        archive.writestr(zip_entry("data.yaml"), yaml.safe_dump(dataset, sort_keys=False))


def _line(number: int, box: Box) -> str:
    return f"{number} {box.x + box.width / 2!r} {box.y + box.height / 2!r} {box.width!r} {box.height!r}\n"


def _details(name: str, record: Labelled) -> dict[str, object]:
    return {
        "file_name": name,
        "original_file_name": record.file_name,
        "width": record.width,
        "height": record.height,
        "labels": record.labels,
    }


def read(path: Path) -> Iterator[Labelled | Problem]:
    """The image of every label file in the zip at `path`: boxes, outlines (their extent) and confidences (dropped).

    Raises:
        BadSource: no zip, no list of class names, or key points instead of boxes.
    """
    with opened(path) as export:
        if export.bare:
            raise BadSource(
                "A YOLO export is a zip of label files with data.yaml or classes.txt; pack the whole folder"
            )
        names = _class_names(export)
        files: dict[str, Entry] = {}
        for entry in _label_files(export):
            key = _key(entry.name)
            # The same name may stand in train/ and in val/.
            files[entry.name if key in files else key] = entry
        for where, details in _own_details(export):
            name = checked.text(details.get("file_name"))
            if _key(name) in files:
                yield from _image(files.pop(_key(name)), names, name, details)
            else:
                yield Problem(where, f"there is no label file for {name[:80]!r}")
        pictures = _pictures(export) if files else {}
        for entry in files.values():
            key = _key(entry.name)
            yield from _image(entry, names, pictures.get(key, key), {})


def _class_names(export: Export) -> dict[int, str]:
    """Number -> name, of data.yaml (whatever its name), classes.txt or obj.names."""
    for entry in export.entries(".yaml", ".yml"):
        # Every value as text: a class called `yes` or `1.0` is not to become a Boolean or a number.
        try:
            content = yaml.load(_text(entry), Loader=yaml.BaseLoader)
        except (yaml.YAMLError, RecursionError) as error:
            raise BadSource(f"{entry.name} is no readable YAML: {error}") from error
        if isinstance(content, dict) and "kpt_shape" in content:
            raise BadSource(f"{entry.name} describes key points; only boxes can be imported")
        if isinstance(content, dict) and "names" in content:
            return _numbered(entry, content["names"])
    for entry in export.entries(".txt", ".names"):
        if PurePosixPath(entry.name).name == "classes.txt" or suffix(entry.name) == ".names":
            return _numbered(entry, _text(entry).splitlines())
    raise BadSource("Nothing says what the class numbers mean: add data.yaml (with `names`) or classes.txt to the zip")


def _numbered(entry: Entry, names: object) -> dict[int, str]:
    pairs = names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ()
    try:
        numbered = {int(number): checked.label(name) for number, name in pairs if checked.text(name).strip()}
    except ValueError as error:
        raise BadSource(f"{entry.name}: the names of the classes cannot be read: {error}") from error
    if not numbered and names:
        raise BadSource(f"{entry.name}: `names` must be a list of names, or class numbers with their names")
    return numbered


def _text(entry: Entry) -> str:
    try:
        return entry.whole(MAX_NAMES_BYTES).decode("utf-8-sig")
    except ValueError as error:
        raise BadSource(f"{entry.name} cannot be read: {error}") from error


def _label_files(export: Export) -> Iterator[Entry]:
    """Those below a folder `labels`; where there is none, every text file that is not known to be something else."""
    texts = list(export.entries(".txt"))
    below = [entry for entry in texts if "labels" in PurePosixPath(entry.name).parts[:-1]]
    yield from below or (entry for entry in texts if PurePosixPath(entry.name).name.lower() not in NO_LABELS)


def _key(name: str) -> str:
    """What a picture and its label file have in common: the path below images/ or labels/ and the split, no suffix."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    start = max((i + 1 for i, part in enumerate(parts[:-1]) if part in ("images", "labels")), default=0)
    if start < len(parts) - 1 and start and parts[start] in SPLITS:
        start += 1
    path = PurePosixPath(*parts[start:])
    return str(path.parent / path.stem)


def _own_details(export: Export) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) for each line of images.jsonl, which only our own exports have."""
    for entry in export.entries(".jsonl"):
        if PurePosixPath(entry.name).name != "images.jsonl":
            continue
        for where, line in _lines(entry):
            try:
                details = json.loads(line)
            except (ValueError, RecursionError):
                details = None
            # A line that is no object names no file, and is reported as that.
            yield where, details if isinstance(details, dict) else {}


def _pictures(export: Export) -> dict[str, str]:
    """Key -> name of each picture that the export lists or holds: label files do not know the suffix."""
    named = [entry.name for entry in export.entries(*PICTURES)]
    for entry in export.entries(".txt"):
        if PurePosixPath(entry.name).name in LISTS and "labels" not in PurePosixPath(entry.name).parts[:-1]:
            named += [line.decode("utf-8", "replace").strip() for _, line in _lines(entry)]
    found = {}
    for name in named:
        key = _key(name)
        found[key] = key + PurePosixPath(name).suffix
    return found


def _lines(entry: Entry) -> Iterator[tuple[str, bytes]]:
    """(where, line) of a long text file, in pieces of MAX_LINE_BYTES where it has no ends of line."""
    try:
        with entry.open() as file:
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), 1):
                yield f"{entry.name}, line {number}", line
    except (BadEntry, *DAMAGED) as error:
        raise BadSource(f"{entry.name} cannot be read: {error}") from error


def _image(entry: Entry, names: dict[int, str], name: str, details: dict[str, Any]) -> Iterator[Labelled | Problem]:
    """The image called `name`, whose boxes are in `entry`; `details` are what images.jsonl says of it."""
    try:
        lines = entry.whole().decode("utf-8-sig").splitlines()
    except ValueError as error:
        yield Problem(entry.name, str(error))
        return
    boxes = []
    for number, line in enumerate(lines, 1):
        note = ""
        try:
            if line.strip():
                box, note = _box(line.split(), names)
                boxes.append(box)
        except ValueError as error:
            note = str(error)
        if note:
            yield Problem(f"{entry.name}, line {number}", note)
    image_id, file_name = identified(name, checked.text(details.get("original_file_name")))
    width, height = checked.size(details.get("width"), details.get("height"))
    yield Labelled(image_id, file_name, width, height, checked.labels(details.get("labels")), tuple(boxes))


def _box(columns: list[str], names: dict[int, str]) -> tuple[Box, str]:
    """Of a line `class x y w h [confidence]`, or `class x1 y1 x2 y2 x3 y3 ...`, an outline."""
    number = checked.number(columns[0], "the class")
    if number not in names:
        raise ValueError(f"there is no class with the number {columns[0][:40]}")
    values = [checked.number(value, "a coordinate") for value in columns[1:]]
    if len(values) in (4, 5):
        x, y, width, height = values[:4]
        return checked.box(names[int(number)], x - width / 2, y - height / 2, width, height)
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"a line has a class and 4 numbers, or an outline; this has {len(values)} numbers")
    xs, ys = values[::2], values[1::2]
    return checked.box(names[int(number)], min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
