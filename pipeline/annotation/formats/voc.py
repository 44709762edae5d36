"""Pascal VOC: one XML file for each image; boxes as whole pixels xmin, ymin, xmax, ymax.

The edges count from 0, as FiftyOne, CVAT and Label Studio write and read them (the devkit of 2007 counted from 1). VOC
keeps whole-image labels in lists beside the XML, one file for each label; ours stand in the XML itself, as `<labels>`,
next to `<original_filename>`: readers of VOC look for the elements they know. An `<object>` without a box, as others
write it, is read as a whole-image label too.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from posixpath import splitext
from typing import IO
from xml.etree.ElementTree import Element, TreeBuilder, tostring
from xml.parsers import expat
from xml.sax.saxutils import escape

from pipeline.annotation.formats import checked
from pipeline.annotation.formats.entries import Entry, opened
from pipeline.annotation.formats.records import Box, Labelled, Problem, exported_name, identified
from pipeline.annotation.formats.zip_output import zip_entry, zip_output
from pipeline.errors import BadSource

# What XML 1.0 cannot hold in any spelling.
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# FiftyOne writes `&` in file names as it is.
BARE_AMPERSAND = re.compile(rb"&(?![A-Za-z_][\w.-]{0,50};|#[0-9]{1,7};|#x[0-9A-Fa-f]{1,6};)")


def write(records: Iterable[Labelled], out: IO[bytes], label_names: Sequence[str]) -> None:
    """A zip of Annotations/<uuid>.xml. VOC has no list of labels, so `label_names` is not used.

    Raises:
        ValueError: an image has boxes but no size.
    """
    with zip_output(out) as archive:
        for record in records:
            name = exported_name(record)
            archive.writestr(zip_entry(f"Annotations/{splitext(name)[0]}.xml"), _document(record, name))


def _document(record: Labelled, name: str) -> bytes:
    lines = [
        "<annotation>",
        "<folder>JPEGImages</folder>",
        _element("filename", name),
        _element("original_filename", record.file_name),
        "<source><database>Sleeve</database></source>",
    ]
    if record.width is not None and record.height is not None:
        lines.append(
            f"<size><width>{record.width}</width><height>{record.height}</height><depth>3</depth></size>",
        )
    lines.append("<segmented>0</segmented>")
    lines.append(f"<labels>{''.join(_element('label', label) for label in record.labels)}</labels>")
    lines += [_object(box, record) for box in record.boxes]
    return "\n".join([*lines, "</annotation>\n"]).encode()


def _object(box: Box, record: Labelled) -> str:
    if record.width is None or record.height is None:
        raise ValueError(f"image {record.image_id} has boxes but no width and height, and VOC counts in pixels")
    xmin, xmax = _edges(box.x, box.width, record.width)
    ymin, ymax = _edges(box.y, box.height, record.height)
    return (
        f"<object>{_element('name', box.label)}<pose>Unspecified</pose><truncated>0</truncated>"
        f"<difficult>0</difficult><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
        f"</bndbox></object>"
    )


def _edges(start: float, length: float, pixels: int) -> tuple[int, int]:
    """Whole pixels, at least one apart: a box thinner than half a pixel would have no area."""
    first = min(round(start * pixels), pixels - 1)
    return first, max(round((start + length) * pixels), first + 1)


def _element(tag: str, text: str) -> str:
    # A bare carriage return would be read as a newline.
    content = escape(NOT_XML.sub("\ufffd", text), {"\r": "&#13;"})
    return f"<{tag}>{content}</{tag}>"


def read(path: Path) -> Iterator[Labelled | Problem]:
    """The image of every XML file at `path`: one such file, or a zip with any folders.

    Raises:
        BadSource: there is no XML file.
    """
    with opened(path) as export:
        entry = None
        for entry in export.entries(".xml"):
            try:
                yield from _image(entry, _parsed(entry.whole()))
            except ValueError as error:
                yield Problem(entry.name, str(error))
        if entry is None:
            raise BadSource("There is no XML file in the zip; is this a Pascal VOC export?")


def _parsed(data: bytes) -> Element:
    """The root element. Entities are refused: a few lines of them expand to gigabytes.

    Raises:
        ValueError: no XML, no `<annotation>`, or it declares entities.
    """

    def refuse(name: str, *_: object) -> None:
        raise ValueError(f"it declares the XML entity {name!r}, which annotations do not need")

    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(BARE_AMPERSAND.sub(b"&amp;", data), True)
    except (expat.ExpatError, LookupError) as error:
        raise ValueError(f"no readable XML: {error}") from error
    root = builder.close()
    if root.tag != "annotation":
        raise ValueError(f"the XML is <{root.tag[:40]}>, not <annotation>")
    return root


def _image(entry: Entry, root: Element) -> Iterator[Labelled | Problem]:
    name = root.findtext("filename", "").strip() or PurePosixPath(entry.name).stem
    image_id, file_name = identified(name, root.findtext("original_filename", ""))
    picture = checked.size(root.findtext("size/width"), root.findtext("size/height"))
    labels = [element.text for element in root.findall("labels/label")]
    boxes: list[Box] = []
    for number, element in enumerate(root.findall("object"), 1):
        note = ""
        try:
            label = checked.label(_unescaped(element.find("name")))
            place = element.find("bndbox")
            if place is None:
                labels.append(label)
                continue
            box, note = checked.pixel_box(label, _place(place), picture)
            boxes.append(box)
        except ValueError as error:
            note = str(error)
        if note:
            yield Problem(f"{entry.name}, object {number}", note)
    yield Labelled(image_id, file_name, *picture, checked.labels(labels), tuple(boxes))


def _unescaped(name: Element | None) -> str:
    """The text of an element. FiftyOne writes a label with HTML in it as it is, so there it is elements."""
    if name is None:
        return ""
    try:
        return (name.text or "") + "".join(tostring(child, "unicode") for child in name)
    except RecursionError as error:
        raise ValueError("the label is XML, nested deeper than any label is") from error


def _place(bndbox: Element) -> tuple[float, float, float, float]:
    xmin, ymin, xmax, ymax = (checked.number(bndbox.findtext(edge), edge) for edge in ("xmin", "ymin", "xmax", "ymax"))
    return xmin, ymin, xmax - xmin, ymax - ymin
