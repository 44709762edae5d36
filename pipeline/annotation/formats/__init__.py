"""Annotations as files: COCO, Pascal VOC, YOLO and CSV, written and read as streams.

Exports hold annotations only; pictures are named `<uuid>.<suffix>` in them, and the original name stands beside where
the format has room. Each format's module says where it keeps what its standard has no place for.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Literal, get_args

from pipeline.annotation.formats import coco, csv_table, voc, yolo
from pipeline.annotation.formats.entries import opened, suffix
from pipeline.annotation.formats.records import Box, Labelled, Problem
from pipeline.errors import BadSource

__all__ = ["FORMATS", "Box", "Format", "Labelled", "Problem", "detect", "read", "write"]

Format = Literal["coco", "voc", "yolo", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)

_WRITERS: dict[Format, Callable[[Iterable[Labelled], IO[bytes], Sequence[str]], None]] = {
    "coco": coco.write,
    "voc": voc.write,
    "yolo": yolo.write,
    "csv": csv_table.write,
}
_READERS: dict[Format, Callable[[Path], Iterator[Labelled | Problem]]] = {
    "coco": coco.read,
    "voc": voc.read,
    "yolo": yolo.read,
    "csv": csv_table.read,
}


def write(format: Format, records: Iterable[Labelled], out: IO[bytes], label_names: Sequence[str] = ()) -> None:
    """Write a zip to `out`, which need not seek.

    Args:
        records: images of the collection, each once; taken one at a time.
        label_names: in the order in which they are to be numbered; labels that are not among them follow as they come.

    Raises:
        ValueError: a record has no id, or boxes but no size where the format counts in pixels.
    """
    _WRITERS[format](records, out, label_names)


def read(format: Format, path: Path) -> Iterator[Labelled | Problem]:
    """What an export says, one image at a time, and what could not be used of it.

    A Problem does not end the reading: an image of which one box is bad comes with the others.

    Raises:
        BadSource: while reading, if the export as a whole is unusable: damaged, too large, not of this format.
    """
    return _READERS[format](path)


def detect(path: Path) -> Format:
    """The format of an export, by what is in it.

    Raises:
        BadSource: it is none of the four, or a damaged zip.
    """
    with opened(path) as export:
        if export.bare:
            return _detect_bare(path)
        names = {PurePosixPath(entry.name).name.lower() for entry in export.entries()}
    suffixes = {suffix(name) for name in names}
    if suffixes & {".yaml", ".yml", ".names"} or "classes.txt" in names:
        return "yolo"
    by_suffix: dict[str, Format] = {".xml": "voc", ".json": "coco", ".csv": "csv", ".txt": "yolo"}
    for known, format in by_suffix.items():
        if known in suffixes:
            return format
    raise BadSource("The zip has no annotations in it: no COCO JSON, VOC XML, YOLO label files or CSV")


def _detect_bare(path: Path) -> Format:
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"{"):
        return "coco"
    if start.startswith(b"<"):
        return "voc"
    if b"," in start or b";" in start:
        return "csv"
    raise BadSource("The file is neither a zip nor COCO JSON, VOC XML or CSV")
