"""A zip of any number of entries, written to a stream that need not seek, in memory that does not grow with them."""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo


@contextmanager
def zip_output(out: IO[bytes]) -> Iterator[ZipFile]:
    """A ZipFile to write to; the same entries give the same bytes."""
    with TemporaryFile() as spool, ZipFile(out, "w", ZIP_DEFLATED) as archive:
        archive.filelist = _Directory(spool)
        archive.NameToInfo = _Forgetful()
        yield archive


def zip_entry(name: str) -> ZipInfo:
    """A compressed entry without a date: the time of day would make two equal exports differ."""
    info = ZipInfo(name)
    info.compress_type = ZIP_DEFLATED
    info.external_attr = 0o100644 << 16
    return info


class _Directory(list[ZipInfo]):
    """The entries so far, on disk: zipfile keeps them for the end of the archive, half a gigabyte for a million."""

    def __init__(self, spool: IO[bytes]) -> None:
        super().__init__()
        self._spool = spool
        self._count = 0

    def append(self, info: ZipInfo, /) -> None:
        pickle.dump(info, self._spool)
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[ZipInfo]:
        self._spool.seek(0)
        for _ in range(self._count):
            yield pickle.load(self._spool)  # our own entries, from a file that has no name


class _Forgetful(dict[str, ZipInfo]):
    """zipfile looks here for names that come twice; ours are made of unique ids."""

    def __setitem__(self, name: str, info: ZipInfo, /) -> None:
        pass
