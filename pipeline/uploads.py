"""How people put pictures in and take them out again: the one way, whatever page or route they come by.

A picture is looked at before it is stored, and whoever sends something that cannot be used hears so at once. Its key
follows from its bytes and its owner: the same picture again is the same image, and one of another user is another, so
nobody learns what others have. The object says whose it is, for those who hear of it from the bucket; the pipeline
takes it from there.
"""

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any
from uuid import UUID, uuid5

from pipeline import renditions
from pipeline.context import Context
from pipeline.errors import BadImage
from pipeline.events import MAX_LABEL_LENGTH, NAMESPACE, ImageEvent, image_id
from pipeline.images.decode import decode_gray
from pipeline.images.probe import EXTENSIONS, MIME_TYPES, Probe, probe
from pipeline.ingest import UPLOADS, accept
from pipeline.sources import Batch
from pipeline.sources.local import LocalFile
from pipeline.stores.browse import note_facts

MAX_NAME_LENGTH = 200
# Pictures that are held in memory at the same time, for each request.
THREADS = 8
# Of Unicode: control characters, invisible ones that turn the direction of writing, halves of surrogate pairs, and
# line breaks.
UNWANTED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@dataclass(frozen=True)
class Given:
    """What the uploader says of pictures."""

    owner: str
    label: str | None = None
    private: bool = False


@dataclass(frozen=True)
class Stored:
    """A picture that is in the bucket, and not yet in the catalogue."""

    event: ImageEvent
    facts: dict[str, Any]

    @property
    def id(self) -> UUID:
        return image_id(self.event.bucket, self.event.key, self.event.etag or "")


def take_in(context: Context, data: bytes, name: str | None, given: Given) -> UUID:
    """Store one picture and make what people look at. Returns the image's id. Raises BadImage."""
    found = _examine(context, data)
    made = {kind: renditions.render(data, kind) for kind in renditions.SIDES}
    stored = _store(context, data, found, name, given)
    _register(context, [stored])
    for kind, picture in made.items():
        renditions.keep(context, stored.id, kind, picture)
    return stored.id


def take_in_all(context: Context, files: Iterable[LocalFile], given: Given) -> Iterator[tuple[LocalFile, UUID | str]]:
    """Store many pictures: each with its id, or the reason why it is refused.

    The folder of a file is its label where none is given. What people look at is made when they do.
    """
    rest = iter(files)
    with ThreadPoolExecutor(THREADS) as threads:
        while window := list(islice(rest, THREADS)):
            outcomes = list(threads.map(partial(_try, context, given), window))
            _register(context, [one for one in outcomes if isinstance(one, Stored)])
            for file, outcome in zip(window, outcomes, strict=True):
                yield file, outcome.id if isinstance(outcome, Stored) else outcome


def remove(context: Context, document: dict[str, Any], by: str) -> None:
    """Delete an image: its object, its entry, and all that was made of it."""
    bucket, key = document["bucket"], document["key"]
    # The object first. What is tombstoned while its object is there would be taken in again by the nightly sweep; and
    # what is killed in between can be asked for again.
    stored = context.objects.head(bucket, key)
    if stored is not None and stored.etag == document["version"]:
        context.objects.delete(bucket, key)
    context.catalog.delete([document["_id"]], f"deleted by {by}")
    renditions.forget(context, document["_id"])


def clean_name(name: str | None) -> str | None:
    """What is kept of a file's name: no folders, nothing invisible, the end of what is too long."""
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    return clean_text(last)[-MAX_NAME_LENGTH:].strip() or None


def clean_text(text: str) -> str:
    """The text without what nobody sees."""
    return "".join(one for one in text if unicodedata.category(one) not in UNWANTED).strip()


def _examine(context: Context, data: bytes) -> Probe:
    settings = context.settings
    found = probe(data, settings.max_image_bytes, settings.max_image_pixels)
    # Whoever sends a damaged picture should hear it now, not find it in quarantine later.
    decode_gray(data, found, settings.image_side)
    return found


def _try(context: Context, given: Given, file: LocalFile) -> Stored | str:
    if file.reason is not None:
        return file.reason
    folder = clean_text(file.name.parent.name)
    label = given.label or (folder if len(folder) <= MAX_LABEL_LENGTH else None)
    try:
        data = file.read()
        return _store(context, data, _examine(context, data), file.name.name, Given(given.owner, label, given.private))
    except BadImage as error:
        return error.reason


def _store(context: Context, data: bytes, found: Probe, name: str | None, given: Given) -> Stored:
    bucket = context.settings.require("s3_bucket")
    content = hashlib.sha256(data).hexdigest()
    key = f"{UPLOADS}{uuid5(NAMESPACE, f'{given.owner}:{content}')}.{EXTENSIONS[found.format]}"
    says = {"owner": given.owner} | ({"private": "true"} if given.private else {})
    event = ImageEvent(
        bucket,
        key,
        etag=context.objects.put(bucket, key, data, MIME_TYPES[found.format], **says),
        label=clean_text(given.label or "") or None,
        owner=given.owner,
        private=given.private,
        source="upload",
        original_filename=clean_name(name),
    )
    return Stored(event, {"width": found.width, "height": found.height, "bytes": len(data), "format": found.format})


def _register(context: Context, pictures: list[Stored]) -> None:
    accept(context, Batch([one.event for one in pictures], taken=len(pictures)))
    # Whoever looks at an upload at once need not wait for the pipeline to find out the same.
    note_facts(context.catalog, {one.id: one.facts for one in pictures})
