"""Where images come from. One protocol for a folder, an archive, an S3 prefix and a Kafka topic.

A source hands out batches of events. Whoever drains it writes the batch down first and commits it then, so that a crash
in between brings the same batch again, which changes nothing.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import BadSource
from pipeline.events import ImageEvent
from pipeline.settings import Settings
from pipeline.stores.catalog import Catalog
from pipeline.stores.objects import Objects


@dataclass(frozen=True)
class Reject:
    """A message that could not be understood, with the reason and where it came from."""

    message: bytes | None
    reason: str
    where: str


@dataclass(frozen=True)
class Batch:
    """Some events, in order. `position` is what commit() has to remember; `taken` counts what was read for it."""

    events: list[ImageEvent]
    rejects: list[Reject] = field(default_factory=list)
    position: Any = None
    taken: int = 0


class Source(Protocol):
    """Anything that images come from."""

    def backlog(self) -> int:
        """How much is waiting; 0 when there is nothing to do. Cheap enough to ask every second."""

    def drain(self, limit: int) -> Batch:
        """At most `limit` things that wait; an empty batch (taken == 0) at the end. Does not wait for more to come."""

    def commit(self, batch: Batch) -> None:
        """Note that the batch is safe in the catalogue."""

    def close(self) -> None:
        """Give back connections and files."""


def origin(uri: str) -> str:
    """What the images of an import say as their source: the URI, or the name of the folder or archive."""
    return uri if uri.startswith("s3://") else Path(uri).expanduser().resolve().name


def open_source(uri: str, settings: Settings, catalog: Catalog, objects: Objects) -> Source:
    """The source of an import: ``s3://bucket/prefix``, a folder, or a zip or tar archive. Raises BadSource."""
    from pipeline.sources.archive import archive_files, is_archive
    from pipeline.sources.folder import folder_files
    from pipeline.sources.local import LocalSource
    from pipeline.sources.prefix import PrefixSource

    if uri.startswith("s3://"):
        return PrefixSource(uri, catalog, objects)
    path = Path(uri).expanduser().resolve()
    if not path.exists():
        raise BadSource(
            f"there is no {path} on this machine; give a folder, a zip or tar archive, or s3://bucket/prefix"
        )
    if path.is_dir():
        name, files = f"folder:{path}", folder_files(path, settings.max_image_bytes)
    elif is_archive(path):
        stat = path.stat()
        name = f"archive:{path}:{stat.st_size}:{stat.st_mtime_ns}"
        files = archive_files(path, settings.max_image_bytes, settings.max_archive_bytes)
    else:
        raise BadSource(f"{path} is neither a folder nor a zip or tar archive; to add one picture, give its folder")
    return LocalSource(name, origin(uri), files, settings.require("s3_bucket"), catalog, objects)
