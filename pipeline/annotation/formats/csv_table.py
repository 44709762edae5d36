"""CSV: one table (RFC 4180, UTF-8), a row for each label and each box.

Columns: `file_name` (`<uuid>.<suffix>`), `original_file_name`, `width` and `height` of the picture in pixels, `label`,
then `x`, `y`, `box_width`, `box_height` in fractions, empty for a whole-image label. An image without any has one row
with an empty label.

A cell that begins with = + - @ (or their wide forms), tab or carriage return is a formula to a spreadsheet, so it gets
an apostrophe in front, and one more where there are some already; reading takes one away again.

From elsewhere: `filename`, `image` or `image_path` for the name, `class`, `class_name` or `category` for the label, and
`xmin`, `ymin`, `xmax`, `ymax` in pixels together with `width` and `height` (TensorFlow's and Roboflow's table) are read
as well. The order of columns and rows does not matter, more columns do no harm, and the separator may be a semicolon.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from pipeline.annotation.formats import checked
from pipeline.annotation.formats.entries import DAMAGED, BadEntry, Entry, opened
from pipeline.annotation.formats.gathered import Gathered
from pipeline.annotation.formats.records import Box, Labelled, Problem, exported_name, identified
from pipeline.annotation.formats.zip_output import zip_entry, zip_output
from pipeline.errors import BadSource

FRACTIONS = ("x", "y", "box_width", "box_height")
PIXELS = ("xmin", "ymin", "xmax", "ymax")
COLUMNS = ("file_name", "original_file_name", "width", "height", "label", *FRACTIONS)
SYNONYMS = {
    "filename": "file_name", "image": "file_name", "image_path": "file_name",
    "class": "label", "class_name": "label", "category": "label",
}  # fmt: skip
FORMULA = re.compile("'*[=+\\-@\t\r＝＋－＠]")
MAX_LINE = 1 << 20

Row = dict[str, str]


def write(records: Iterable[Labelled], out: IO[bytes], label_names: Sequence[str]) -> None:
    """A zip with annotations.csv. The table has no list of labels, so `label_names` is not used."""
    with (
        zip_output(out) as archive,
        archive.open(zip_entry("annotations.csv"), "w", force_zip64=True) as file,
        io.TextIOWrapper(file, "utf-8", newline="") as text,
    ):
        table = csv.writer(text)
        table.writerow(COLUMNS)
        for record in records:
            picture = (exported_name(record), _defused(record.file_name), record.width, record.height)
            for label in record.labels:
                table.writerow((*picture, _defused(label), "", "", "", ""))
            for box in record.boxes:
                table.writerow((*picture, _defused(box.label), box.x, box.y, box.width, box.height))
            if not record.labels and not record.boxes:
                table.writerow((*picture, "", "", "", "", ""))


def _defused(cell: str) -> str:
    return f"'{cell}" if FORMULA.match(cell) else cell


def _as_it_was(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def read(path: Path) -> Iterator[Labelled | Problem]:
    """The images of every table at `path`: a CSV file, or a zip of such.

    Raises:
        BadSource: there is no table, it has not the columns that are needed, or it cannot be read.
    """
    with opened(path) as export:
        tables = list(export.entries(".csv"))
        if not tables:
            raise BadSource("There is no CSV file in the zip")
        for table in tables:
            with Gathered() as gathered:
                yield from _gather(table, gathered)
                yield from gathered.records()


def _gather(table: Entry, gathered: Gathered) -> Iterator[Problem]:
    for where, row in _rows(table):
        try:
            note = row if isinstance(row, str) else _add(row, gathered)
        except ValueError as error:
            note = str(error)
        if note:
            yield Problem(where, note)


def _rows(table: Entry) -> Iterator[tuple[str, Row | str]]:
    """(where, row), or (where, what is wrong with it)."""
    try:
        with table.open() as file, io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
            header = text.readline(MAX_LINE)
            separator = "," if "," in header else ";"
            columns = _columns(table, next(csv.reader([header], delimiter=separator), []))
            yield from _parsed(table, columns, text, separator)
    except UnicodeDecodeError as error:
        raise BadSource(f"{table.name} is not in UTF-8; save it as `CSV UTF-8`") from error
    except (csv.Error, BadEntry, *DAMAGED) as error:
        raise BadSource(f"{table.name} cannot be read: {error}") from error


def _parsed(table: Entry, columns: list[str], text: IO[str], separator: str) -> Iterator[tuple[str, Row | str]]:
    # Bounded pieces: a file without any end of line is not to be read into memory as one.
    lines = csv.reader(iter(lambda: text.readline(MAX_LINE), ""), delimiter=separator)
    while True:
        try:
            cells = next(lines, None)
        except csv.Error as error:
            yield f"{table.name}, line {lines.line_num + 1}", str(error)
            continue
        if cells is None:
            return
        where = f"{table.name}, line {lines.line_num + 1}"
        if len(cells) > len(columns):
            yield where, f"{len(cells)} cells under {len(columns)} columns; is a comma or a quote not quoted?"
        elif cells:
            yield where, dict(zip(columns, map(_as_it_was, cells), strict=False))


def _columns(table: Entry, header: list[str]) -> list[str]:
    names = [name.strip().lower() for name in header]
    columns = [SYNONYMS.get(name, name) for name in names]
    if "file_name" not in columns or "label" not in columns:
        raise BadSource(
            f"{table.name}: the first line must name the columns, `file_name` and `label` among them; "
            f"found {', '.join(names)[:200]!r}"
        )
    return columns


def _add(row: Row, gathered: Gathered) -> str:
    """Take one row in; returns what had to be changed, or ""."""
    key = row.get("file_name", "").strip()
    if not key:
        raise ValueError("the row names no picture")
    picture = checked.size(row.get("width"), row.get("height"))
    gathered.add_image(key, Labelled(*identified(key, row.get("original_file_name", "")), *picture))
    fractions, pixels = ([row.get(name, "").strip() for name in names] for names in (FRACTIONS, PIXELS))
    label = row.get("label", "")
    if not any(fractions) and not any(pixels):
        if label.strip():
            gathered.add_label(key, checked.label(label))
        return ""
    box, note = _box(checked.label(label), fractions, pixels, picture)
    gathered.add_box(key, box)
    return note


def _box(
    label: str, fractions: list[str], pixels: list[str], picture: tuple[int | None, int | None]
) -> tuple[Box, str]:
    if any(fractions):
        x, y, width, height = (checked.number(value, name) for name, value in zip(FRACTIONS, fractions, strict=True))
        return checked.box(label, x, y, width, height)
    xmin, ymin, xmax, ymax = (checked.number(value, name) for name, value in zip(PIXELS, pixels, strict=True))
    return checked.pixel_box(label, (xmin, ymin, xmax - xmin, ymax - ymin), picture)
