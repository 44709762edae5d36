"""The local cache of immutable files. Each is named by the SHA-256 of its bytes and never changes once it is there."""

import hashlib
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.errors import BrokenGeneration, ObjectMissing
from pipeline.stores.objects import Objects

DOWNLOADS_AT_ONCE = 8


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
        """The local copy of ``kind/<SHA-256>.suffix``, downloaded and checked if it is not here yet.

        Raises BrokenGeneration if the object is missing or its bytes do not match its name. `size` in bytes, where
        known, also catches a copy that the local disk has cut short.
        """
        path = self._cache / key
        if path.exists() and size in (None, path.stat().st_size):
            return path
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
