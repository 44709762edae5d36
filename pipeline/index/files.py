"""The local cache of immutable files. Each is named by the SHA-256 of its bytes and never changes once it is there."""

import hashlib
import tempfile
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.errors import BrokenGeneration, ObjectMissing
from pipeline.stores.objects import Objects

DOWNLOADS_AT_ONCE = 8
# A file that is younger, in seconds, may be on its way up.
BEING_WRITTEN = 600


class Files:
    """Files of one bucket, with a cache on the local disk that any number of processes may share."""

    def __init__(self, objects: Objects, bucket: str, home: Path) -> None:
        self._objects = objects
        self._bucket = bucket
        self._cache = home / "cache"

    def folder(self, kind: str) -> Path:
        """Where cached files of a kind ("segments", "parts", "trained") lie; writing one here by its name caches it."""
        return self._cache / kind

    def upload(self, key: str) -> None:
        """Store a file of the cache. The name follows from the content, so what is there already is the same."""
        if not self._objects.exists(self._bucket, key):
            self._objects.upload(self._bucket, key, self._cache / key)

    def fetch(self, key: str, size: int | None = None) -> Path:
        """The local copy of ``kind/<SHA-256>.suffix``, downloaded if it is not here yet. Raises BrokenGeneration.

        `size` in bytes, where known, catches a copy that the local disk has cut short.
        """
        path = self._cache / key
        return path if path.exists() and size in (None, path.stat().st_size) else self.download(key)

    def download(self, key: str) -> Path:
        """A fresh local copy. Raises BrokenGeneration if the object is missing or its bytes do not match its name."""
        path = self._cache / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".download-") as folder:
            partial = Path(folder) / path.name
            try:
                self._objects.download(self._bucket, key, partial)
            except ObjectMissing as error:
                raise BrokenGeneration(f"s3://{self._bucket}/{key} is missing") from error
            with partial.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != path.stem:
                raise BrokenGeneration(f"s3://{self._bucket}/{key} is damaged: the SHA-256 of its bytes is {found}")
            partial.replace(path)
        return path

    def fetch_all(self, keys_and_sizes: Sequence[tuple[str, int | None]]) -> list[Path]:
        """`fetch`, several at once; paths in the order of the keys."""
        with ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool:
            return list(pool.map(lambda one: self.fetch(*one), keys_and_sizes))

    def remove(self, key: str) -> None:
        """Delete a file from the store and from this disk. A process that has it open goes on reading it."""
        self._objects.delete(self._bucket, key)
        (self._cache / key).unlink(missing_ok=True)

    def clean(self, wanted: Collection[str]) -> None:
        """Drop from this disk what the store does not hold any more: deleted pictures must not live on in a cache."""
        before = time.time() - BEING_WRITTEN
        for path in self._cache.glob("*/*"):
            key = path.relative_to(self._cache).as_posix()
            if key in wanted or not path.is_file() or path.stat().st_mtime > before:
                continue
            if not self._objects.exists(self._bucket, key):
                path.unlink(missing_ok=True)
