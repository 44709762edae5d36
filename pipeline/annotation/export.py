"""Exports: the labelled images that a user may see, as a zip in one of the formats, written as a stream."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO
from uuid import UUID

from pipeline.annotation import formats
from pipeline.annotation.formats import Box, Format, Labelled
from pipeline.context import Context
from pipeline.stores.catalog import EVERYTHING, Catalog, Document, Filter
from pipeline.stores.jobs import Tell, result_key
from pipeline.stores.labelled import count_labelled, labelled
from pipeline.stores.multipart import written


@dataclass(frozen=True)
class Export:
    """What is to be in an export: images that pass; with `accepted`, only those whose labels were accepted."""

    format: Format
    passing: Filter = EVERYTHING
    accepted: bool = False

    def arguments(self) -> Document:
        """As a job's arguments."""
        return {"format": self.format, "accepted": self.accepted, **vars(self.passing)}


def export(catalog: Catalog, wanted: Export, out: IO[bytes], tell: Tell) -> int:
    """Write the zip to `out`, which need not seek. Returns how many images are in it.

    The same catalogue gives the same bytes. What changes meanwhile may be in it or not, image by image.
    """
    total = count_labelled(catalog, wanted.passing, wanted.accepted)
    done = 0

    def records() -> Iterator[Labelled]:
        nonlocal done
        for document in labelled(catalog, wanted.passing, wanted.accepted):
            yield _record(document)
            done += 1
            tell(done, max(done, total))

    formats.write(wanted.format, records(), out)
    return done


def export_file(catalog: Catalog, wanted: Export, path: Path, tell: Tell) -> int:
    """Write the zip to `path`, which is there either whole or not at all. Returns how many images are in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        partial = Path(file.name)
        try:
            images = export(catalog, wanted, file, tell)
            file.flush()
            # Temporary files are for their owner alone, which a file that somebody asked for need not be.
            partial.chmod(0o644)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return images


def export_job(context: Context, job: Document, tell: Tell) -> dict[str, int]:
    """The work of a job of the kind `export`: its zip comes under `result_key`. Returns counts."""
    arguments = dict(job["arguments"])
    wanted = Export(arguments.pop("format"), accepted=arguments.pop("accepted"), passing=Filter(**arguments))
    with written(context.objects, context.settings.sleeve_bucket, result_key(job), "application/zip") as out:
        return {"images": export(context.catalog, wanted, out, tell)}


def _record(document: Document) -> Labelled:
    one: UUID = document["_id"]
    boxes = (Box(box["label"], box["x"], box["y"], box["width"], box["height"]) for box in document.get("boxes") or ())
    name = document.get("original_filename") or document["key"].rsplit("/")[-1]
    return Labelled(str(one), name, document["width"], document["height"], tuple(document["labels"]), tuple(boxes))
