"""Files on this machine: a folder or an archive, put into the image bucket under names that are ours."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePosixPath
from uuid import uuid5

from pipeline.events import NAMESPACE, ImageEvent
from pipeline.images.probe import EXTENSIONS, MIME_TYPES
from pipeline.sources import Batch
from pipeline.stores.catalog import Catalog
from pipeline.stores.objects import Objects

# What a person would call a picture. Kinds that Sleeve cannot use are on the list so that they end in quarantine with a
# reason instead of being passed over in silence; everything else in a folder (notes, .DS_Store) is no image.
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".avif", ".jp2"}
CONTENT_TYPES = {f".{EXTENSIONS[format]}": mime for format, mime in MIME_TYPES.items()} | {".jpeg": "image/jpeg"}
# Files that are held in memory at the same time; times MAX_IMAGE_BYTES this bounds the memory.
THREADS = 8


@dataclass(frozen=True)
class LocalFile:
    """A file below the root of an import. `read` gives its bytes; `reason` says why they must not be used."""

    name: PurePosixPath
    read: Callable[[], bytes]
    reason: str | None = None


# Files in an order that does not change, from the one after the named one on.
Files = Callable[[str], Iterator[LocalFile]]


def is_picture(name: PurePosixPath) -> bool:
    """Whether a file is worth importing, by its name. Hidden files and what macOS adds to archives are not."""
    hidden = any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in name.parts)
    return not hidden and name.suffix.lower() in PICTURE_SUFFIXES


def storable(name: str) -> str:
    """The name, with bytes that are no UTF-8 (old archives and disks have such names) written as backslash escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class LocalSource:
    """One pass over local files. `name` keys the watermark, `origin` is what people see as the source."""

    def __init__(self, name: str, origin: str, files: Files, bucket: str, catalog: Catalog, objects: Objects) -> None:
        self._name = name
        self._origin = origin
        self._files = files
        self._bucket = bucket
        self._catalog = catalog
        self._objects = objects
        self._rest = files(catalog.watermark(name))

    def backlog(self) -> int:
        return sum(1 for _ in self._files(self._catalog.watermark(self._name)))

    def drain(self, limit: int) -> Batch:
        """Upload the next files; the batch's position is the name of the last one. A file's folder is its label."""
        events: list[ImageEvent] = []
        last = None
        with ThreadPoolExecutor(THREADS) as threads:
            while window := list(islice(self._rest, min(THREADS, limit - len(events)))):
                events += threads.map(self._upload, window)
                last = str(window[-1].name)
        return Batch(events, position=last, taken=len(events))

    def commit(self, batch: Batch) -> None:
        # At the end of a pass the watermark goes back, and the next import looks at everything again.
        self._catalog.set_watermark(self._name, batch.position or "")

    def close(self) -> None:
        """Nothing is held open between two batches but the file that is being read."""

    def _upload(self, file: LocalFile) -> ImageEvent:
        """Put one file into the bucket, under a key that follows from its name and content.

        A second import finds the object there and uploads nothing.
        """
        key, etag, reason = f"{self._origin}!{file.name}", None, file.reason
        if reason is None:
            try:
                data = file.read()
            except OSError as error:
                reason = f"cannot be read: {error.strerror or error}"
            else:
                key, etag = self._store(file.name, data)
        return ImageEvent(
            self._bucket,
            key,
            etag=etag,
            label=file.name.parent.name or None,
            source=self._origin,
            original_filename=file.name.name,
            reason=reason,
        )

    def _store(self, name: PurePosixPath, data: bytes) -> tuple[str, str]:
        suffix = name.suffix.lower()
        key = f"imports/{uuid5(NAMESPACE, f'{name}:{hashlib.sha256(data).hexdigest()}')}{suffix}"
        stored = self._objects.head(self._bucket, key)
        content_type = CONTENT_TYPES.get(suffix, "application/octet-stream")
        return key, stored.etag if stored else self._objects.put(self._bucket, key, data, content_type)
