"""What a file claims to be, read from its header alone, and refused before a decoder sees it where that is too much.

Only JPEG, PNG and WebP come in: they are what phones and catalogues send, and their decoders are the best fuzzed ones.
"""

import io
from dataclasses import dataclass

from PIL import Image, UnidentifiedImageError

from pipeline.errors import BadImage

FORMATS = ("JPEG", "PNG", "WEBP")
MIME_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
# Pillow has a limit of its own and warns below it, which is not safe in threads; `probe` has the one that counts.
Image.MAX_IMAGE_PIXELS = None
# Magic bytes of what people send by mistake, so that the reason names it.
OTHER_KINDS = {
    b"II*\0": "TIFF", b"MM\0*": "TIFF", b"GIF8": "GIF", b"BM": "BMP", b"%PDF": "PDF", b"PK\3\4": "a zip archive",
    b"\x1f\x8b": "a gzip file", b"8BPS": "Photoshop",
}  # fmt: skip


@dataclass(frozen=True)
class Probe:
    """Width and height in pixels as stored, before any EXIF rotation; `format` is one of FORMATS."""

    format: str
    width: int
    height: int


def probe(data: bytes, max_bytes: int, max_pixels: int) -> Probe:
    """Read the header of a picture. Raises BadImage with a reason that a person can act on."""
    if not data:
        raise BadImage("empty file")
    if len(data) > max_bytes:
        raise BadImage(f"larger than {max_bytes} bytes ({len(data)} bytes)")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            # What Pillow calls MPO is a JPEG with more pictures behind the first one, as many phones write it.
            found = Probe("JPEG" if image.format == "MPO" else image.format or "", *image.size)
    except UnidentifiedImageError:
        raise BadImage(_not_an_image(data)) from None
    except (OSError, SyntaxError, ValueError) as error:
        raise BadImage(f"broken header: {error}") from None
    if found.width * found.height > max_pixels:
        raise BadImage(f"more than {max_pixels} pixels ({found.width} x {found.height})")
    if found.format == "PNG" and not _png_is_whole(data):
        raise BadImage("does not decode: truncated or damaged")
    return found


def _png_is_whole(data: bytes) -> bool:
    """Whether all chunks are there. OpenCV makes room for what a chunk's length says, up to 4 GB, before it looks."""
    position, kind = 8, b""
    while kind != b"IEND" and position + 12 <= len(data):
        kind = data[position + 4 : position + 8]
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return kind == b"IEND" and position <= len(data)


def _not_an_image(data: bytes) -> str:
    for magic, name in OTHER_KINDS.items():
        if data.startswith(magic):
            return f"{name} is not accepted; send JPEG, PNG or WebP"
    return "not an image (JPEG, PNG or WebP expected)"
