"""What people look at instead of an original: a compressed picture, a thumbnail, the tiles of a deep zoom.

All are upright (EXIF orientation applied), sRGB, WebP, and free of metadata, so that nobody gives away where a photo
was taken. Compressed pictures and thumbnails are made at the upload of a single picture and otherwise when somebody
first asks, and kept in SLEEVE_BUCKET under ``renditions/<kind>/<image id>.webp``. Tiles are made when somebody first
zooms, and kept on this machine. An image's id stands for its content, so nothing of this ever becomes outdated.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import BoundedSemaphore, Lock
from typing import Any, Literal
from uuid import UUID
from xml.etree import ElementTree
from zipfile import BadZipFile, ZipFile

import pyvips

from pipeline.context import Context
from pipeline.errors import BadImage, ObjectMissing, Unknown
from pipeline.images.probe import probe

Kind = Literal["compressed", "thumbnail"]
SIDES: Mapping[Kind, int] = {"compressed": 2048, "thumbnail": 320}
"""Longest side in pixels; nothing is enlarged."""
MIME_TYPE = "image/webp"
QUALITY = 82
TILE = 512
# Of libvips; larger than any picture that is let in.
LARGEST = 10_000_000
TILE_CACHE_BYTES = 2 << 30
FOLDER = "renditions/"
CACHED_SECONDS = 3600
# Of libvips' readers only those that are tested with hostile files; and no memory of what was read before.
pyvips.block_untrusted_set(True)
pyvips.cache_set_max(0)
# Requests run beside each other, so each computes on one core, and as many at a time as there are cores: a decoded
# picture takes up to four bytes per pixel.
pyvips.concurrency_set(1)
_computing = BoundedSemaphore(os.cpu_count() or 1)
_tiling = Lock()


@dataclass(frozen=True)
class Tiles:
    """The pyramid of an image: width and height in pixels as people see it, upright; the last level has all of them,
    each one before half as many along and across, the first is one pixel."""

    width: int
    height: int
    tile_size: int
    levels: int


def render(data: bytes, kind: Kind) -> bytes:
    """A rendition of a picture that was probed. Raises BadImage."""
    return _webp(data, SIDES[kind])


def rendition(context: Context, document: Mapping[str, Any], kind: Kind) -> bytes:
    """A rendition of an image of the collection; made now if it is not there yet. Raises BadImage, Unknown."""
    if kind == "compressed":
        return _kept(context, document, kind)
    # A page shows fifty of them.
    name = f"{kind}:{document['_id']}"
    return context.cache.remember(name, lambda: _kept(context, document, kind), CACHED_SECONDS)


def keep(context: Context, image: UUID, kind: Kind, made: bytes) -> None:
    """Store what `render` made of an image."""
    context.objects.put(context.settings.sleeve_bucket, _key(kind, image), made, MIME_TYPE)


def tiles(context: Context, document: Mapping[str, Any]) -> Tiles:
    """How an image is cut into tiles. Raises BadImage, Unknown."""
    with _pyramid(context, document) as pyramid:
        size = ElementTree.fromstring(pyramid.read("tiles.dzi"))[0].attrib
    width, height = int(size["Width"]), int(size["Height"])
    return Tiles(width, height, TILE, levels=(max(width, height) - 1).bit_length() + 1)


def tile(context: Context, document: Mapping[str, Any], level: int, x: int, y: int) -> bytes:
    """The tile in column x and row y of a level. Raises BadImage, Unknown."""
    with _pyramid(context, document) as pyramid:
        try:
            return pyramid.read(f"tiles_files/{level}/{x}_{y}.webp")
        except KeyError:
            detail = f"GET /image/{document['_id']}/tiles says which levels there are"
            raise Unknown(f"There is no tile ({x}, {y}) on level {level} of this image; {detail}.") from None


def forget(context: Context, image: UUID) -> None:
    """Remove all renditions of an image."""
    for kind in SIDES:
        context.objects.delete(context.settings.sleeve_bucket, _key(kind, image))
    _tile_file(context, image).unlink(missing_ok=True)


def prune(context: Context) -> dict[str, int]:
    """Remove what is left of images that are gone: their bucket deleted them, or a request did and was killed."""
    bucket, removed = context.settings.sleeve_bucket, 0
    for page in context.objects.pages(bucket, FOLDER):
        images = {stored.key: UUID(Path(stored.key).stem) for stored in page}
        alive = context.catalog.alive(list(set(images.values())))
        gone = [key for key, image in images.items() if image not in alive]
        for key in gone:
            context.objects.delete(bucket, key)
        removed += len(gone)
    _trim_tiles(context)
    return {"renditions": removed}


def _kept(context: Context, document: Mapping[str, Any], kind: Kind) -> bytes:
    with suppress(ObjectMissing):
        return context.objects.get(context.settings.sleeve_bucket, _key(kind, document["_id"]))
    with _computing:
        made = render(_original(context, document), kind)
    keep(context, document["_id"], kind, made)
    return made


def _key(kind: Kind, image: UUID) -> str:
    return f"{FOLDER}{kind}/{image}.webp"


def _original(context: Context, document: Mapping[str, Any]) -> bytes:
    """Bytes of an original, within the limits on what is decoded."""
    settings = context.settings
    try:
        data, etag = context.objects.fetch(document["bucket"], document["key"], settings.max_image_bytes)
    except ObjectMissing:
        etag = None
    if etag != document["version"]:
        raise Unknown(f"The file of image {document['_id']} is no longer in the bucket.")
    probe(data, settings.max_image_bytes, settings.max_image_pixels)
    return data


def _upright(data: bytes, side: int) -> Any:
    """A picture as people see it, with no side longer than `side`."""
    # An sRGB picture for every screen: without its profile, a phone's wide colours would be dull.
    return pyvips.Image.thumbnail_buffer(data, side, height=side, size="down", export_profile="srgb")


def _webp(data: bytes, side: int) -> bytes:
    try:
        made: bytes = _upright(data, side).webpsave_buffer(Q=QUALITY, keep="none")
    except pyvips.Error as error:
        raise BadImage(f"does not decode: {_first_line(error)}") from None
    return made


def _first_line(error: pyvips.Error) -> str:
    return (str(error.detail).strip() or error.message).splitlines()[0]


# Tiles: one zip file for each pyramid, so that it appears, is measured and goes in one piece


def _tile_folder(context: Context) -> Path:
    return Path(context.settings.sleeve_home) / "tiles"


def _tile_file(context: Context, image: UUID) -> Path:
    return _tile_folder(context) / f"{image}.zip"


def _pyramid(context: Context, document: Mapping[str, Any]) -> ZipFile:
    """The tiles of an image, made if they are not there."""
    path = _tile_file(context, document["_id"])
    with suppress(FileNotFoundError, BadZipFile):
        return _used(path)
    # A viewer asks for a dozen tiles at once; the first request makes them all.
    with _tiling:
        with suppress(FileNotFoundError, BadZipFile):
            return _used(path)
        with _computing:
            _cut(_original(context, document), path)
        _trim_tiles(context)
        return _used(path)


def _used(path: Path) -> ZipFile:
    os.utime(path)
    return ZipFile(path)


def _cut(data: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".making-") as folder:
        made = Path(folder) / "tiles.zip"
        try:
            _upright(data, LARGEST).dzsave(
                str(made), imagename="tiles", container="zip", tile_size=TILE, overlap=0,
                suffix=f".webp[Q={QUALITY},keep=none]",
            )  # fmt: skip
        except pyvips.Error as error:
            raise BadImage(f"does not decode: {_first_line(error)}") from None
        made.replace(path)


def _trim_tiles(context: Context) -> None:
    """Drop the tiles that nobody looked at for longest, down to TILE_CACHE_BYTES, and those of images that are gone."""
    files = sorted(_tile_files(context), reverse=True)
    alive = context.catalog.alive([UUID(path.stem) for _, _, path in files])
    room = TILE_CACHE_BYTES
    for _, size, path in files:
        room -= size
        if room < 0 or UUID(path.stem) not in alive:
            path.unlink(missing_ok=True)


def _tile_files(context: Context) -> Iterator[tuple[float, int, Path]]:
    """(when it was last used, bytes, path) of each pyramid."""
    for path in _tile_folder(context).glob("*.zip"):
        with suppress(FileNotFoundError):
            stat = path.stat()
            yield stat.st_mtime, stat.st_size, path
