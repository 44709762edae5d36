"""The files of an annotation export from elsewhere, read in place and never unpacked to disk.

An export is a zip, or a bare JSON, XML or CSV file. Zips lie: names that lead outside, links, a few bytes that unpack
to a terabyte, a million entries. Directory and sizes are checked before anything is read; zipfile itself never reads
more of an entry than its header says.
"""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from pipeline.errors import BadSource

# A directory of this size is 300,000 pictures with their annotations; it is in memory while the zip is read.
MAX_DIRECTORY_BYTES = 32 << 20
MAX_ENTRIES = 300_000
# Of all annotation files together; pictures in the zip do not count, since they are never opened.
MAX_TOTAL_BYTES = 4 << 30
# Annotations compress to a thirtieth, repetitive ones to a hundredth; a bomb to a thousandth.
MAX_RATIO = 300
RATIO_COUNTS_FROM = 1 << 20
# The annotations of one picture.
MAX_WHOLE_BYTES = 4 << 20
TEXT_SUFFIXES = {".json", ".jsonl", ".xml", ".csv", ".txt", ".yaml", ".yml", ".names"}
DAMAGED = (zipfile.BadZipFile, struct.error, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, OSError)


class BadEntry(ValueError):
    """One file of an export cannot be read; the rest goes on."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an export; `refused` is the reason why it must not be opened, or ""."""

    name: str
    size: int
    refused: str
    _open: Callable[[], IO[bytes]]

    def open(self) -> IO[bytes]:
        """Its bytes, as a stream. Raises BadEntry; reading from the stream may raise one of DAMAGED."""
        if self.refused:
            raise BadEntry(self.refused)
        try:
            return self._open()
        except DAMAGED as error:
            raise BadEntry(f"damaged: {error}") from error

    def whole(self, limit: int = MAX_WHOLE_BYTES) -> bytes:
        """Its bytes, all at once.

        Raises:
            BadEntry: it is refused, damaged, or larger than `limit` bytes.
        """
        try:
            with self.open() as file:
                data = file.read(limit + 1)
        except DAMAGED as error:
            raise BadEntry(f"damaged: {error}") from error
        if len(data) > limit:
            raise BadEntry(f"larger than {limit} bytes, more than a file of this kind needs")
        return data


@dataclass(frozen=True)
class Export:
    """An opened export. `bare` if it is one plain file, whose name then says nothing."""

    bare: bool
    _entries: Callable[[], Iterator[Entry]]

    def entries(self, *suffixes: str) -> Iterator[Entry]:
        """Files with one of these suffixes (all without), hidden ones and what macOS adds left out."""
        for entry in self._entries():
            parts = PurePosixPath(entry.name).parts
            hidden = any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in parts)
            if self.bare or (not hidden and (not suffixes or suffix(entry.name) in suffixes)):
                yield entry


def suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


@contextmanager
def opened(path: Path) -> Iterator[Export]:
    """The files of the export at `path`.

    Raises:
        BadSource: a damaged zip, or one with too many entries or too much in them.
    """
    with path.open("rb") as file:
        zipped = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
        if not zipped:
            bare = Entry(path.name, path.stat().st_size, "", lambda: path.open("rb"))
            _check_total(bare.size)
            yield Export(True, lambda: iter((bare,)))
            return
        try:
            _check_directory(file)
            archive = zipfile.ZipFile(file)
        except (*DAMAGED, UnicodeDecodeError) as error:
            raise BadSource(f"The zip is damaged: {error}") from error
        with archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
            _check_total(sum(info.file_size for info in infos if suffix(info.filename) in TEXT_SUFFIXES))
            yield Export(False, lambda: (_entry(archive, info) for info in infos))


def _check_directory(file: IO[bytes]) -> None:
    # What zipfile is about to read into memory, twenty times as large there; it has no limit of its own.
    end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
    if end is None:
        raise BadSource("The zip is damaged: it has no directory; was it uploaded as a whole?")
    if end[zipfile._ECD_ENTRIES_TOTAL] > MAX_ENTRIES or end[zipfile._ECD_SIZE] > MAX_DIRECTORY_BYTES:  # type: ignore[attr-defined]
        raise BadSource(f"The zip has more than {MAX_ENTRIES} files, or their names are too long; split it")


def _check_total(size: int) -> None:
    if size > MAX_TOTAL_BYTES:
        raise BadSource(f"The annotations unpack to more than {MAX_TOTAL_BYTES} bytes; split them")


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    name = info.filename.replace("\\", "/")
    path = PurePosixPath(name)
    # The upper half of the external attributes is the Unix mode; 0o12 in its top bits is a symbolic link.
    kind = info.external_attr >> 28
    refused = ""
    if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        refused = "its path leads out of the archive"
    elif kind not in (0, 0o10):
        refused = "a link or device, not a file"
    elif info.flag_bits & 1:
        refused = "encrypted; unlock it first"
    elif info.file_size > max(RATIO_COUNTS_FROM, info.compress_size * MAX_RATIO):
        refused = f"unpacks to more than {MAX_RATIO} times its size, as no annotations do"
    return Entry(name, info.file_size, refused, partial(archive.open, info))
