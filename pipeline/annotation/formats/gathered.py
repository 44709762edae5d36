"""Images whose labels and boxes come in any order, put together on disk: memory does not grow with them."""

import json
import sqlite3
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from pipeline.annotation.formats.records import Box, Labelled

SCHEMA = """
CREATE TABLE images (key TEXT PRIMARY KEY, record TEXT, width INTEGER, height INTEGER);
CREATE TABLE parts (key TEXT, label TEXT, x REAL, y REAL, width REAL, height REAL);
"""


class Gathered:
    """Add images and parts, then read the records, in the order in which the images were added."""

    def __init__(self) -> None:
        # SQLite's name for a database in a temporary file that it removes itself.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(SCHEMA)
        # One transaction that never ends, or every insert would be one.
        self._db.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def add_image(self, key: str, image: Labelled) -> bool:
        """False if there is an image with this key already; that one stays. Its boxes are added by `add_box`."""
        record = json.dumps([image.image_id, image.file_name, image.labels])
        row = (key, record, image.width, image.height)
        return self._db.execute("INSERT OR IGNORE INTO images VALUES (?, ?, ?, ?)", row).rowcount == 1

    def size(self, key: str) -> tuple[int | None, int | None] | None:
        """Width and height as added; None if there is no such image."""
        found: tuple[int | None, int | None] | None
        found = self._db.execute("SELECT width, height FROM images WHERE key = ?", (key,)).fetchone()
        return found

    def add_label(self, key: str, label: str) -> None:
        self._db.execute("INSERT INTO parts (key, label) VALUES (?, ?)", (key, label))

    def add_box(self, key: str, box: Box) -> None:
        row = (key, box.label, box.x, box.y, box.width, box.height)
        self._db.execute("INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?)", row)

    def records(self) -> Iterator[Labelled]:
        """Every image with its labels (each once) and boxes."""
        self._db.execute("CREATE INDEX parts_of_image ON parts (key)")
        for key, record, width, height in self._db.execute("SELECT * FROM images ORDER BY rowid"):
            image_id, file_name, labels = json.loads(record)
            parts = self._db.execute("SELECT * FROM parts WHERE key = ? ORDER BY rowid", (key,)).fetchall()
            labels += [label for _, label, x, *_ in parts if x is None]
            boxes = tuple(Box(label, *place) for _, label, *place in parts if place[0] is not None)
            yield Labelled(image_id, file_name, width, height, tuple(dict.fromkeys(labels)), boxes)
