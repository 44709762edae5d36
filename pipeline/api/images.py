"""Images over REST: upload, browse, describe, download, delete."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from typing import IO, Annotated, Any, Literal
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, File, Form, Header, Query, Request, Response, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from pipeline import renditions, uploads
from pipeline.accounts.users import User
from pipeline.api.access import Annotator, Viewer, changeable, readable, visible_to
from pipeline.api.forms import LargeForm
from pipeline.api.problems import documented
from pipeline.context import Context
from pipeline.errors import BadQuery, BadSource, Conflict, NotAllowed, ObjectMissing, Unknown
from pipeline.events import MAX_LABEL_LENGTH
from pipeline.images.probe import EXTENSIONS, MIME_TYPES
from pipeline.searching import parse_filter
from pipeline.sources.archive import archive_files
from pipeline.sources.local import LocalFile
from pipeline.stores import browse
from pipeline.stores.catalog import Document

router = APIRouter(tags=["images"])
large = APIRouter(tags=["images"], route_class=LargeForm)
Rendition = Literal["original", "compressed", "thumbnail", "tile"]
Living = Literal["pending", "collected", "featured", "indexed", "quarantined"]

Picture = Annotated[UploadFile, File(description="A JPEG, PNG or WebP picture")]
Label = Annotated[str | None, Form(max_length=MAX_LABEL_LENGTH, description="What the picture shows")]
Private = Annotated[bool, Form(description="Show it to its owner and to admins only")]
OfLabel = Annotated[str | None, Query(min_length=1, max_length=MAX_LABEL_LENGTH, description="Only with this label")]
Owner = Annotated[str | None, Query(min_length=1, max_length=MAX_LABEL_LENGTH, description="Only of this owner")]
Since = Annotated[str | None, Query(description="Only images added then or later: a date, or an ISO time; UTC")]
Until = Annotated[str | None, Query(description="Only images added before that time, or up to that date; UTC")]
NOSNIFF = {"X-Content-Type-Options": "nosniff"}
# What a browser must never do with a file that somebody sent, whatever is in it.
UNTRUSTED = {**NOSNIFF, "Content-Security-Policy": "default-src 'none'; sandbox"}
FOREVER = "private, max-age=31536000, immutable"


class ImageInfo(BaseModel):
    """An image of the collection."""

    id: UUID
    original_filename: str | None
    width: int | None = Field(description="In pixels, as stored; null until the image was looked at")
    height: int | None
    file_size: int | None = Field(description="Bytes")
    file_type: str | None = Field(examples=["image/jpeg"])
    upload_date: datetime
    last_modified: datetime
    status: str = Field(description="pending, collected, featured, indexed (searchable) or quarantined")
    reason: str | None = Field(description="Why it is in quarantine")
    labels: list[str]
    stage: str | None = Field(description="unlabelled, labelled, accepted or rejected")
    revision: int = Field(description="Number of decisions that people made on its labels")
    owner: str | None
    private: bool = Field(description="Shown to its owner and to admins only")
    group: UUID | None = Field(description="Near-duplicates have the same")
    links: dict[str, str] = Field(description="Paths of the original, compressed, thumbnail and tiles")


class Page(BaseModel):
    """Some images."""

    images: list[ImageInfo]
    next: str | None = Field(description="Give this as `after` to get the next page; null where there is none")


class Uploaded(BaseModel):
    """Where an upload is."""

    id: UUID


class Taken(BaseModel):
    """A file that is an image of the collection now."""

    name: str
    id: UUID


class Refused(BaseModel):
    """A file that is not."""

    name: str
    reason: str


class Bulk(BaseModel):
    """What became of each file."""

    accepted: list[Taken]
    refused: list[Refused]


class Change(BaseModel):
    """What to change of an image; the rest stays."""

    model_config = ConfigDict(extra="forbid")

    original_filename: str | None = Field(None, max_length=uploads.MAX_NAME_LENGTH)
    private: bool | None = None
    owner: str | None = Field(None, description="A user's name; only admins may change it, null is for nobody")


class TilesInfo(BaseModel):
    """The pyramid of an image; tiles come from `/image/download/{id}?rendition=tile&level=&x=&y=`."""

    width: int = Field(description="Pixels of the last level: the picture upright")
    height: int
    tile_size: int = Field(description="Pixels along and across; the last ones of a row or column may be smaller")
    levels: int = Field(description="Level 0 is one pixel, each level after it has twice as many along and across")


# Upload


@router.post("/image/upload", status_code=201, responses=documented(401, 403, 413, 422))
def upload(
    request: Request, user: Annotator, file: Picture, label: Label = None, private: Private = False
) -> ImageInfo:
    """Store one picture. It becomes searchable within seconds: `status` is `indexed` then."""
    context: Context = request.app.state.context
    given = uploads.Given(user.name, label, private)
    return info(readable(context, user, uploads.take_in(context, file.file.read(), file.filename, given)))


@router.post("/single_upload", status_code=201, responses=documented(401, 403, 413, 422))
def single_upload(request: Request, user: Annotator, file: Picture, label: Label = None) -> Uploaded:
    """Store one picture. It becomes searchable within seconds; `/search` finds it then."""
    given = uploads.Given(user.name, label)
    return Uploaded(id=uploads.take_in(request.app.state.context, file.file.read(), file.filename, given))


@large.post("/bulk_upload", responses=documented(401, 403, 413, 422))
def bulk_upload(
    request: Request,
    user: Annotator,
    files: Annotated[list[UploadFile], File(description="Pictures, and zip or tar archives of pictures")],
    label: Annotated[
        str | None, Form(max_length=MAX_LABEL_LENGTH, description="Of all; without it an archive's folders are labels")
    ] = None,
    private: Private = False,
) -> Bulk:
    """Store many pictures. Those that cannot be used do not stop the others, and each says why."""
    context: Context = request.app.state.context
    given = uploads.Given(user.name, label, private)
    answer = Bulk(accepted=[], refused=[])
    for file in files:
        try:
            for one, outcome in uploads.take_in_all(context, _pictures(context, file), given):
                name = uploads.clean_text(str(one.name))
                if isinstance(outcome, UUID):
                    answer.accepted.append(Taken(name=name, id=outcome))
                else:
                    answer.refused.append(Refused(name=name, reason=outcome))
        except BadSource as error:
            # What came before the damage is in the collection.
            answer.refused.append(Refused(name=uploads.clean_name(file.filename) or "archive", reason=str(error)))
    return answer


def _pictures(context: Context, file: UploadFile) -> Iterator[LocalFile]:
    """The file itself or, if it is an archive, what is in it."""
    name, settings = uploads.clean_name(file.filename) or "unnamed", context.settings
    suffix = _archive_suffix(file.file)
    if suffix is None:
        if (file.size or 0) > settings.max_image_bytes:
            too_large = f"larger than {settings.max_image_bytes} bytes ({file.size} bytes)"
            yield LocalFile(PurePosixPath(name), lambda: b"", too_large)
        else:
            yield LocalFile(PurePosixPath(name), file.file.read)
        return
    with _on_disk(file.file, suffix) as path:
        # Pictures do not get smaller in an archive: what unpacks to more than a bulk upload is no archive of them.
        empty = True
        for one in archive_files(path, settings.max_image_bytes, settings.max_bulk_bytes)(""):
            empty = False
            yield one
    if empty:
        yield LocalFile(PurePosixPath(name), lambda: b"", "no picture in it; archives in an archive are not unpacked")


def _archive_suffix(file: IO[bytes]) -> str | None:
    """What an archive of this content should be called; None where it is none. Names are not believed."""
    begin = file.read(512)
    file.seek(0)
    if begin.startswith((b"PK\3\4", b"PK\5\6")):
        return ".zip"
    packed = begin.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0"))
    return ".tar" if packed or begin[257:262] == b"ustar" else None


@contextmanager
def _on_disk(file: IO[bytes], suffix: str) -> Iterator[Path]:
    with TemporaryDirectory(prefix="sleeve-") as folder:
        path = Path(folder) / f"archive{suffix}"
        with path.open("wb") as copy:
            copyfileobj(file, copy)
        yield path


# Browse and describe


@router.get("/image/all", responses=documented(401, 403, 422))
def list_images(
    request: Request,
    user: Viewer,
    label: OfLabel = None,
    owner: Owner = None,
    status: Annotated[Living | None, Query(description="Only images that are that far")] = None,
    group: Annotated[UUID | None, Query(description="Only near-duplicates of this group")] = None,
    name: Annotated[
        str | None,
        Query(min_length=1, max_length=200, description="Only file names that begin so; in the order of names"),
    ] = None,
    source: Annotated[
        str | None, Query(min_length=1, max_length=2000, description="Only images that this import or producer brought")
    ] = None,
    since: Since = None,
    until: Until = None,
    order: Annotated[browse.Order, Query(description="Newest first, or by id")] = "newest",
    limit: Annotated[int, Query(ge=1, le=200, description="Most images")] = 50,
    after: Annotated[str | None, Query(max_length=1000, description="`next` of the page before")] = None,
) -> Page:
    """A page of the images that one may see."""
    when = parse_filter(label, owner, since, until, visible_to(user))
    wanted = browse.Wanted(**vars(when), status=status, group=group, name=name, source=source)
    found, end = browse.page(request.app.state.context.catalog, wanted, limit, after or None, order)
    return Page(images=[info(document) for document in found], next=end)


@router.get("/image/{id}", responses=documented(401, 403, 404, 422))
def get_image(request: Request, response: Response, user: Viewer, id: UUID) -> ImageInfo:
    """One image. Its `ETag` can be the `If-Match` of a change."""
    return _described(response, readable(request.app.state.context, user, id))


@router.put("/image/{id}", responses=documented(401, 403, 404, 409, 422))
def change_image(
    request: Request,
    response: Response,
    user: Annotator,
    id: UUID,
    change: Change,
    if_match: Annotated[str | None, Header(description="The `ETag` of what one has seen: 409 if it changed")] = None,
) -> ImageInfo:
    """Change the name, who may see it, or the owner. Labels have a route of their own."""
    context: Context = request.app.state.context
    seen = changeable(context, user, id)
    if if_match is not None and if_match != _tag(seen):
        raise _conflict(seen)
    when = seen["updated_at"] if if_match is not None else None
    changed = browse.change(context.catalog, id, _fields(context, user, change), when)
    if changed is None:
        # Gone, or changed in this moment.
        raise _conflict(readable(context, user, id))
    return _described(response, changed)


@router.delete("/image/{id}", status_code=204, responses=documented(401, 403, 404, 422))
def delete_image(request: Request, user: Annotator, id: UUID) -> None:
    """Delete an image from the collection and from the bucket. It is no answer from the next search on."""
    context: Context = request.app.state.context
    uploads.remove(context, changeable(context, user, id), user.name)


def _fields(context: Context, user: User, change: Change) -> Document:
    fields: Document = {}
    if change.original_filename is not None:
        fields["original_filename"] = uploads.clean_name(change.original_filename)
        if fields["original_filename"] is None:
            raise BadQuery("original_filename is empty; give a name that one can see")
    if change.private is not None:
        fields["private"] = change.private
    if "owner" in change.model_fields_set:
        if not user.may("admin"):
            raise NotAllowed("Only an admin may give an image to somebody else.")
        owner = context.users.find(change.owner) if change.owner is not None else None
        if change.owner is not None and owner is None:
            raise BadQuery(f"there is no user {change.owner!r:.100} to own the image")
        fields["owner"] = owner.name if owner else None
    return fields


def _conflict(document: Document) -> Conflict:
    current = info(document).model_dump(mode="json")
    return Conflict("The image was changed meanwhile; look at it again, and repeat the change.", current)


def _described(response: Response, document: Document) -> ImageInfo:
    response.headers["ETag"] = _tag(document)
    return info(document)


def _tag(document: Document) -> str:
    return f'"{(document["updated_at"] - browse.EPOCH) // browse.MILLISECOND}"'


def info(document: Document) -> ImageInfo:
    """What people are told of an image document."""
    one = document["_id"]
    links = {kind: f"/image/download/{one}?rendition={kind}" for kind in ("original", *renditions.SIDES)}
    return ImageInfo(
        id=one,
        original_filename=document["original_filename"],
        width=document["width"],
        height=document["height"],
        file_size=document["bytes"],
        file_type=MIME_TYPES.get(document["format"]),
        upload_date=document["created_at"],
        last_modified=document["updated_at"],
        status=document["status"],
        reason=document["reason"],
        labels=document["labels"],
        stage=document.get("stage"),
        revision=document.get("revision", 0),
        owner=document["owner"],
        private=document.get("private", False),
        group=document.get("group"),
        links={**links, "tiles": f"/image/{one}/tiles"},
    )


@router.get("/fetch", responses=documented(401, 403))
def fetch(request: Request, user: Viewer) -> dict[str, int]:
    """All labels with the number of images that have each, the commonest first."""
    context: Context = request.app.state.context
    return context.labels(visible_to(user))


# Pictures


PICTURES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MIME_TYPES.values()}
        | {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    304: {"description": "What `If-None-Match` names is still the same"},
}


@router.get("/image/download/{id}", response_class=Response, responses={**PICTURES, **documented(401, 403, 404, 422)})
def download(
    request: Request,
    user: Viewer,
    id: UUID,
    rendition: Annotated[Rendition, Query(description="All but the original are WebP without metadata")] = "original",
    level: Annotated[int | None, Query(ge=0, le=32, description="Of a tile, from 0")] = None,
    x: Annotated[int | None, Query(ge=0, le=100_000, description="Column of a tile, from 0")] = None,
    y: Annotated[int | None, Query(ge=0, le=100_000, description="Row of a tile, from 0")] = None,
    if_none_match: Annotated[str | None, Header(description="The `ETag` of what one has")] = None,
) -> Response:
    """The file as it came, or a picture for looking at."""
    context: Context = request.app.state.context
    document = readable(context, user, id)
    # An id stands for its content, so what was made of it never changes.
    tag = f'"{id}-{rendition}-{level}-{x}-{y}"'
    headers = {**UNTRUSTED, "ETag": tag, "Cache-Control": FOREVER}
    if if_none_match is not None and tag in if_none_match:
        return Response(status_code=304, headers=headers)
    if rendition == "original":
        return _original(context, document, headers)
    if rendition == "tile":
        if level is None or x is None or y is None:
            raise BadQuery("a tile needs level, x and y; GET /image/{id}/tiles says which there are")
        content = renditions.tile(context, document, level, x, y)
    else:
        content = renditions.rendition(context, document, rendition)
    return Response(content, media_type=renditions.MIME_TYPE, headers=headers)


@router.get("/image/{id}/tiles", responses=documented(401, 403, 404, 422))
def get_tiles(request: Request, user: Viewer, id: UUID) -> TilesInfo:
    """How the image is cut into tiles, for a deep zoom."""
    context: Context = request.app.state.context
    return TilesInfo(**asdict(renditions.tiles(context, readable(context, user, id))))


def _original(context: Context, document: Document, headers: dict[str, str]) -> Response:
    missing = f"The file of image {document['_id']} is no longer in the bucket."
    try:
        chunks, size, etag = context.objects.stream(document["bucket"], document["key"])
    except ObjectMissing:
        raise Unknown(missing) from None
    if etag != document["version"]:
        chunks.close()
        raise Unknown(missing)
    headers = {**headers, "Content-Length": str(size), "Content-Disposition": attachment(document)}
    kind = MIME_TYPES.get(document["format"], "application/octet-stream")
    return StreamingResponse(chunks, media_type=kind, headers=headers)


def attachment(document: Document) -> str:
    """The header that lets a browser save an original under its name (RFC 6266), with the suffix of its content."""
    name = uploads.clean_name(document["original_filename"]) or str(document["_id"])
    suffix = EXTENSIONS.get(document["format"], "bin")
    if PurePosixPath(name).suffix.lower() not in (f".{suffix}", ".jpeg" if suffix == "jpg" else ""):
        name = f"{name}.{suffix}"
    plain = "".join(one if one.isascii() and (one.isalnum() or one in " ._-") else "_" for one in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


router.include_router(large)
