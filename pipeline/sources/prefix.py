"""The objects below an S3 prefix, where they lie: nothing is copied.

S3 lists by key and not by time, so a bare "start after the last key" misses keys that sort earlier. A pass therefore
looks at every key and compares each page with the catalogue; the watermark only lets a pass that was interrupted go on
where it stopped.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from pipeline.errors import BadSource, ObjectMissing
from pipeline.events import ImageEvent, image_id
from pipeline.sources import Batch
from pipeline.sources.local import is_picture
from pipeline.stores.catalog import Catalog
from pipeline.stores.objects import Objects, StoredObject, parse_s3_uri


class PrefixSource:
    """One pass over ``s3://bucket/prefix``; the folder that an object lies in, below the prefix, is its label."""

    def __init__(self, uri: str, catalog: Catalog, objects: Objects, folder_is_label: bool = True) -> None:
        self._bucket, self._prefix = parse_s3_uri(uri)
        self._name = uri
        self._folder_is_label = folder_is_label
        self._catalog = catalog
        self._objects = objects
        self._rest = self._unknown(catalog.watermark(uri))

    def backlog(self) -> int:
        """Objects of the rest of this pass that the catalogue does not know."""
        return sum(1 for _ in self._unknown(self._catalog.watermark(self._name)))

    def drain(self, limit: int) -> Batch:
        events: list[ImageEvent] = []
        last = None
        for event in self._rest:
            events.append(event)
            last = event.key
            if len(events) == limit:
                break
        return Batch(events, position=last, taken=len(events))

    def commit(self, batch: Batch) -> None:
        self._catalog.set_watermark(self._name, batch.position or "")

    def close(self) -> None:
        """Nothing is held open between two pages."""

    def _unknown(self, after: str) -> Iterator[ImageEvent]:
        for page in self._pages(after):
            pictures = [stored for stored in page if is_picture(PurePosixPath(stored.key))]
            ids = {stored.key: image_id(self._bucket, stored.key, stored.etag) for stored in pictures}
            known = self._catalog.alive(list(ids.values()))
            yield from (self._event(stored) for stored in pictures if ids[stored.key] not in known)

    def _pages(self, after: str) -> Iterator[list[StoredObject]]:
        try:
            yield from self._objects.pages(self._bucket, self._prefix, after)
        except ObjectMissing as error:
            raise BadSource(f"there is no bucket {self._bucket}; check the address {self._name}") from error

    def _event(self, stored: StoredObject) -> ImageEvent:
        below = PurePosixPath(stored.key[self._prefix.rfind("/") + 1 :])
        label = below.parent.name or None if self._folder_is_label else None
        return ImageEvent(self._bucket, stored.key, etag=stored.etag, label=label, source=self._name)
