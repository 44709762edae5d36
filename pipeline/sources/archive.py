"""The files of a zip or tar archive, read one after another and never unpacked to disk.

Archives lie: names that lead outside, links, devices, a few bytes that unpack to a terabyte. Names and kinds are
checked before reading, sizes while reading, whatever the headers say; an archive inside an archive is just a file of
the wrong kind.
"""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from pipeline.errors import BadSource
from pipeline.sources.local import Files, LocalFile, is_picture, storable

# How to open an entry, or the reason why it must not be opened.
Content = Callable[[], IO[bytes]] | str
# OSError is what bz2 and gzip raise; names in a zip may only claim to be UTF-8; tar headers may be nested.
DAMAGED = (
    zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, NotImplementedError, OSError,
    UnicodeDecodeError, RecursionError,
)  # fmt: skip
MAX_ENTRIES = 1_000_000
# Long names and attributes of a tar; tarfile takes them into memory as a whole.
MAX_EXTENDED_HEADER = 1 << 20
EXTENDED = (b"x", b"g", b"X", b"L", b"K")
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


def is_archive(path: Path) -> bool:
    """Whether the name says zip or tar; the content is checked when it is opened."""
    return path.name.lower().endswith((".zip", *TAR_SUFFIXES))


def archive_files(path: Path, max_bytes: int, max_total: int) -> Files:
    """Pictures of an archive in its own order.

    A bad entry (outside path, link, too large, damaged) comes with a reason and the rest goes on; an archive that is
    no archive, or that unpacks to more than `max_total` bytes or MAX_ENTRIES entries, raises BadSource.
    """
    members = _zip_members if path.name.lower().endswith(".zip") else _tar_members

    def files(after: str) -> Iterator[LocalFile]:
        passed = not after
        try:
            for number, (raw_name, content) in enumerate(members(path, max_total)):
                if number >= MAX_ENTRIES:
                    raise BadSource(f"{path.name}: more than {MAX_ENTRIES} entries; split it")
                name = PurePosixPath(storable(raw_name.replace("\\", "/")))
                if not is_picture(name):
                    continue
                if not passed:
                    passed = str(name) == after
                    continue
                yield _checked(name, content, max_bytes)
        except DAMAGED as error:
            raise BadSource(f"{path.name} is damaged or no archive: {error}") from error

    return files


def _checked(name: PurePosixPath, content: Content, max_bytes: int) -> LocalFile:
    """Read an entry to at most `max_bytes`, whatever its header says."""
    reason, data = (content, b"") if isinstance(content, str) else (None, b"")
    if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
        reason = "its path leads out of the archive"
    elif not isinstance(content, str):
        try:
            with content() as file:
                data = file.read(max_bytes + 1)
        except DAMAGED as error:
            reason = f"damaged in the archive: {error}"
        if len(data) > max_bytes:
            data, reason = b"", f"larger than {max_bytes} bytes"
    return LocalFile(name, lambda: data, reason)


def _zip_members(path: Path, max_total: int) -> Iterator[tuple[str, Content]]:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > max_total:
            raise BadSource(f"{path.name}: unpacks to more than {max_total} bytes; split it")
        for entry in entries:
            # The upper half of the external attributes is the Unix mode; 0o12 in its top bits is a symbolic link.
            kind = entry.external_attr >> 28
            if entry.is_dir():
                continue
            if kind not in (0, 0o10):
                yield entry.filename, "a link or device, not a file"
            elif entry.flag_bits & 1:
                yield entry.filename, "encrypted"
            else:
                yield entry.filename, partial(archive.open, entry)


def _tar_members(path: Path, max_total: int) -> Iterator[tuple[str, Content]]:
    with tarfile.open(path, mode="r:*", tarinfo=_TarHeader) as archive:
        total = 0
        while entry := archive.next():
            # Or it remembers them all.
            archive.members.clear()  # type: ignore[attr-defined]
            archive.pax_headers.clear()  # type: ignore[attr-defined]
            # A compressed tar is unpacked even where an entry is passed over, so those count as well.
            total += tarfile.BLOCKSIZE + entry.size
            if total > max_total:
                raise BadSource(f"{path.name}: unpacks to more than {max_total} bytes; split it")
            if entry.isdir():
                continue
            if entry.isfile():
                yield entry.name, partial(_extract, archive, entry)
            else:
                yield entry.name, "a link or device, not a file"


class _TarHeader(tarfile.TarInfo):
    """A header as tarfile reads it, without the lies that it believes and the damage that it hides."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> "_TarHeader":
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            # tarfile takes a broken header for the end, and the rest would be missing in silence.
            raise tarfile.ReadError(f"{error} at byte {archive.offset}") from error

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size < 0 or (self.type in EXTENDED and self.size > MAX_EXTENDED_HEADER):
            raise tarfile.ReadError(f"a header with the size {self.size}")
        header: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return header


def _extract(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(entry)
    assert file is not None  # it is a regular file
    return file
