"""What people look at instead of originals: upright, small, without a trace of where it was taken."""

import io
import os
from uuid import UUID

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipeline import renditions, uploads
from pipeline.context import Context
from pipeline.errors import BadImage, ObjectMissing, Unknown
from pipeline.samples import cover_jpeg
from pipeline.stores.catalog import Document

TOP_LEFT, BOTTOM_RIGHT = (200, 30, 30), (30, 30, 200)


def picture(width: int, height: int, kind: str = "JPEG", **options: object) -> bytes:
    """Red in its upper left quarter, blue elsewhere."""
    pixels = np.full((height, width, 3), BOTTOM_RIGHT, np.uint8)
    pixels[: height // 2, : width // 2] = TOP_LEFT
    made = io.BytesIO()
    Image.fromarray(pixels).save(made, kind, **options)
    return made.getvalue()


def sideways(width: int, height: int) -> bytes:
    """A photo as a phone stores it: lying on its side, with where it was taken."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned clockwise
    exif[ExifTags.Base.Make] = "Telltale"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 12.0)
    return picture(width, height, exif=exif)


def seen(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "WEBP"
    assert not image.getexif()
    assert not {"exif", "xmp", "icc_profile"} & image.info.keys()
    return image.convert("RGB")


def near(image: Image.Image, x: float, y: float, color: tuple[int, int, int]) -> bool:
    found = image.getpixel((int(x * (image.width - 1)), int(y * (image.height - 1))))
    return bool(np.abs(np.subtract(found, color)).max() < 25)


def taken(context: Context, data: bytes) -> Document:
    one = uploads.take_in(context, data, "x.jpg", uploads.Given("ann"))
    return context.catalog.find([one])[one]


@pytest.mark.parametrize(("kind", "side"), [("compressed", 2048), ("thumbnail", 320)])
def test_a_rendition_is_upright_small_and_tells_nothing(kind: renditions.Kind, side: int) -> None:
    data = sideways(3000, 2000)
    assert b"Telltale" in data
    image = seen(renditions.render(data, kind))
    assert image.size == (round(side * 2 / 3), side)
    # Turned clockwise, the upper left corner is the upper right one.
    assert near(image, 0.9, 0.1, TOP_LEFT)
    assert near(image, 0.1, 0.1, BOTTOM_RIGHT)


def test_nothing_is_enlarged_and_every_kind_of_picture_has_renditions() -> None:
    small = Image.open(io.BytesIO(picture(100, 60)))
    for mode, kind in [("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "PNG"), ("1", "PNG"), ("RGB", "WEBP")]:
        made = io.BytesIO()
        small.convert(mode).save(made, kind)
        assert seen(renditions.render(made.getvalue(), "thumbnail")).size == (100, 60), (mode, kind)


def test_a_rendition_is_made_when_it_is_asked_for_and_kept(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    document = taken(context, picture(900, 600))
    renditions.forget(context, document["_id"])
    first = {kind: renditions.rendition(context, document, kind) for kind in renditions.SIDES}
    assert [seen(made).size for made in first.values()] == [(900, 600), (320, 213)]
    monkeypatch.setattr(renditions, "render", None)
    assert {kind: renditions.rendition(context, document, kind) for kind in renditions.SIDES} == first
    # Thumbnails are asked for often, so they are remembered as well.
    monkeypatch.setattr(context, "objects", None)
    assert renditions.rendition(context, document, "thumbnail") == first["thumbnail"]


def test_what_is_not_to_be_decoded_is_not_rendered(context: Context) -> None:
    document = taken(context, picture(900, 600))
    renditions.forget(context, document["_id"])
    context.settings = context.settings.model_copy(update={"max_image_pixels": 1000})
    with pytest.raises(BadImage, match="more than 1000 pixels"):
        renditions.rendition(context, document, "compressed")
    with pytest.raises(BadImage, match="more than 1000 pixels"):
        renditions.tiles(context, document)
    context.objects.delete(document["bucket"], document["key"])
    with pytest.raises(Unknown, match="no longer in the bucket"):
        renditions.rendition(context, document, "compressed")


def test_tiles_put_together_are_the_picture(context: Context) -> None:
    document = taken(context, sideways(1300, 700))
    found = renditions.tiles(context, document)
    assert (found.width, found.height, found.tile_size, found.levels) == (700, 1300, 512, 12)
    whole = Image.new("RGB", (700, 1300))
    for x in range(2):
        for y in range(3):
            one = seen(renditions.tile(context, document, 11, x, y))
            assert one.size == (min(512, 700 - 512 * x), min(512, 1300 - 512 * y))
            whole.paste(one, (512 * x, 512 * y))
    assert near(whole, 0.9, 0.1, TOP_LEFT)
    assert near(whole, 0.1, 0.1, BOTTOM_RIGHT)
    assert near(whole, 0.9, 0.9, BOTTOM_RIGHT)
    assert seen(renditions.tile(context, document, 10, 0, 0)).size == (350, 512)
    assert seen(renditions.tile(context, document, 0, 0, 0)).size == (1, 1)
    for level, x, y in ((11, 2, 0), (12, 0, 0), (0, 0, 1)):
        with pytest.raises(Unknown, match="which levels there are"):
            renditions.tile(context, document, level, x, y)


def test_a_torn_pyramid_is_made_anew(context: Context) -> None:
    document = taken(context, picture(600, 600))
    renditions.tiles(context, document)
    [path] = (context.settings.sleeve_home / "tiles").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert seen(renditions.tile(context, document, 10, 1, 1)).size == (88, 88)


def test_tiles_that_nobody_looked_at_for_longest_make_room(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [taken(context, picture(600 + number, 600)) for number in range(3)]
    folder = context.settings.sleeve_home / "tiles"
    for minutes, document in enumerate(documents[:2]):
        renditions.tiles(context, document)
        os.utime(folder / f"{document['_id']}.zip", (minutes * 60, minutes * 60))
    size = max(path.stat().st_size for path in folder.iterdir())
    # The first is looked at again, so the second is the oldest.
    renditions.tiles(context, documents[0])
    monkeypatch.setattr(renditions, "TILE_CACHE_BYTES", int(size * 2.5))
    renditions.tiles(context, documents[2])
    left = {UUID(path.stem) for path in folder.iterdir()}
    assert left == {documents[0]["_id"], documents[2]["_id"]}


def test_prune_removes_what_is_left_of_deleted_images_only(context: Context) -> None:
    gone, stays = taken(context, cover_jpeg(1)), taken(context, cover_jpeg(2))
    for document in (gone, stays):
        renditions.tiles(context, document)
    context.catalog.delete([gone["_id"]], "removed from the bucket")
    assert renditions.prune(context) == {"renditions": 2}
    bucket = context.settings.sleeve_bucket
    left = [stored.key for page in context.objects.pages(bucket, "renditions/") for stored in page]
    assert left == [f"renditions/{kind}/{stays['_id']}.webp" for kind in ("compressed", "thumbnail")]
    assert [path.stem for path in (context.settings.sleeve_home / "tiles").iterdir()] == [str(stays["_id"])]
    assert renditions.prune(context) == {"renditions": 0}


def test_forget_leaves_nothing(context: Context) -> None:
    document = taken(context, cover_jpeg(1))
    renditions.tiles(context, document)
    renditions.forget(context, document["_id"])
    with pytest.raises(ObjectMissing):
        context.objects.get(context.settings.sleeve_bucket, f"renditions/thumbnail/{document['_id']}.webp")
    assert not list((context.settings.sleeve_home / "tiles").iterdir())
