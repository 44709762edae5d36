"""Pictures of every kind become the right grey pixels, checked by value."""

import io
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import BadImage
from pipeline.images.decode import decode_color, decode_gray, imdecode
from pipeline.images.probe import FORMATS, probe

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
# Luma of the three, ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B.
LUMA = {RED: 76, GREEN: 150, BLUE: 29}


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def gray(data: bytes, side: int = 512) -> NDArray[np.uint8]:
    return decode_gray(data, probe(data, 64 << 20, 50_000_000), side)


def color(data: bytes, side: int = 512) -> NDArray[np.uint8]:
    return decode_color(data, probe(data, 64 << 20, 50_000_000), side)


def corners(image: NDArray[np.uint8]) -> list[int]:
    """Top left, top right, bottom left, bottom right."""
    return [int(image[y, x]) for y in (0, -1) for x in (0, -1)]


def four_corners(mode: str, colors: list[Any], width: int = 64, height: int = 48) -> Image.Image:
    """A quarter of the picture for each colour, in the order of `corners`."""
    image = Image.new(mode, (width, height), colors[0])
    for number, color in enumerate(colors):
        left, top = number % 2 * width // 2, number // 2 * height // 2
        image.paste(color, (left, top, left + width // 2, top + height // 2))
    return image


@pytest.mark.parametrize("format", FORMATS)
def test_colours_become_luma(format: str) -> None:
    image = gray(encode(four_corners("RGB", [RED, GREEN, BLUE, (255, 255, 255)]), format))
    assert image.shape == (48, 64)
    assert image.dtype == np.uint8
    assert corners(image) == pytest.approx([LUMA[RED], LUMA[GREEN], LUMA[BLUE], 255], abs=4)


def test_sixteen_bits_become_eight() -> None:
    levels = np.zeros((48, 64), np.uint16)
    levels[0, 0], levels[0, -1], levels[-1, 0], levels[-1, -1] = 65535, 32768, 257, 514
    assert corners(gray(cv2.imencode(".png", levels)[1].tobytes())) == pytest.approx([255, 128, 1, 2], abs=1)


def test_cmyk() -> None:
    """Cyan, magenta, yellow and black ink in turn; paper where there is none."""
    inks = [(0, 0, 0, 0), (0, 0, 0, 255), (0, 255, 255, 0), (255, 0, 255, 0)]
    image = gray(encode(four_corners("CMYK", inks), "JPEG", quality=95))
    assert corners(image) == pytest.approx([255, 0, LUMA[RED], LUMA[GREEN]], abs=4)


def test_grey_and_one_bit() -> None:
    for format in ("JPEG", "PNG"):
        assert corners(gray(encode(four_corners("L", [0, 77, 128, 255]), format))) == pytest.approx(
            [0, 77, 128, 255], abs=3
        )
    assert corners(gray(encode(four_corners("1", [1, 0, 0, 1]), "PNG"))) == [255, 0, 0, 255]


def test_alpha_is_ignored() -> None:
    """The colour below shows, as in the file; nothing is put behind it."""
    image = four_corners("RGBA", [(*RED, 255), (*GREEN, 128), (*BLUE, 0), (255, 255, 255, 0)])
    assert corners(gray(encode(image, "PNG"))) == pytest.approx([LUMA[RED], LUMA[GREEN], LUMA[BLUE], 255], abs=2)
    assert corners(gray(encode(image, "WEBP", lossless=True, exact=True))) == pytest.approx(
        [LUMA[RED], LUMA[GREEN], LUMA[BLUE], 255], abs=2
    )
    assert corners(gray(encode(four_corners("LA", [(9, 0), (200, 255), (50, 128), (0, 0)]), "PNG"))) == [9, 200, 50, 0]


def test_palette() -> None:
    image = four_corners("P", [0, 1, 2, 3])
    image.putpalette([*RED, *GREEN, *BLUE, 255, 255, 255])
    expected = pytest.approx([LUMA[RED], LUMA[GREEN], LUMA[BLUE], 255], abs=2)
    assert corners(gray(encode(image, "PNG"))) == expected
    assert corners(gray(encode(image, "PNG", transparency=1))) == expected


# Where the white quarter, top left as stored, is to be seen (Exif 2.32, tag 0x0112), and whether the sides change.
ORIENTATIONS = {
    1: (0, False),
    2: (1, False),
    3: (3, False),
    4: (2, False),
    5: (0, True),
    6: (1, True),
    7: (3, True),
    8: (2, True),
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("scale", [1, 12], ids=["full", "reduced"])
def test_exif_orientation(format: str, orientation: int, scale: int) -> None:
    """At full size, and where the decoder itself reduces the picture."""
    where, swapped = ORIENTATIONS[orientation]
    exif = Image.Exif()
    exif[0x112] = orientation
    data = encode(four_corners("L", [255, 0, 0, 0], 64 * scale, 48 * scale).convert("RGB"), format, exif=exif)
    expected = [255 if corner == where else 0 for corner in range(4)]
    image = gray(data, 64)
    assert image.shape == ((64, 48) if swapped else (48, 64))
    assert corners(image) == pytest.approx(expected, abs=6)
    assert color(data, 64).shape == ((64, 48, 3) if swapped else (48, 64, 3))


def test_colour_is_blue_green_red() -> None:
    image = color(encode(four_corners("RGB", [RED, GREEN, BLUE, (255, 255, 255)]), "PNG"))
    assert image[0, 0].tolist() == [0, 0, 255]
    assert image[-1, 0].tolist() == [255, 0, 0]
    assert color(encode(Image.new("L", (5, 4), 9), "PNG")).shape == (4, 5, 3)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((1, 1), (1, 1)),
        ((2, 2), (2, 2)),
        ((1, 400), (400, 1)),
        ((1, 5000), (512, 1)),
        ((5000, 1), (1, 512)),
        ((3, 4000), (512, 1)),
        ((512, 300), (300, 512)),
        ((513, 300), (299, 512)),
        ((1100, 700), (326, 512)),
        ((4200, 1400), (171, 512)),
    ],
)
def test_fitted_never_stretched_nor_enlarged(format: str, size: tuple[int, int], shape: tuple[int, int]) -> None:
    image = gray(encode(Image.new("RGB", size, (90, 90, 90)), format))
    assert image.shape == shape
    assert set(np.unique(image)) <= {89, 90, 91}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("side", [512, 100, 40])
def test_truncated_is_refused_and_never_half_grey(format: str, side: int) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 400, 3), np.uint8))
    data = encode(noise, format)
    whole = probe(data, 64 << 20, 50_000_000)
    for kept in (len(data) // 50, len(data) // 10, len(data) // 2, len(data) * 9 // 10, len(data) - 50, len(data) - 2):
        with pytest.raises(BadImage, match="does not decode"):
            decode_gray(data[:kept], whole, side)


@pytest.mark.parametrize("data", [b"", b"hello", bytes(1000), b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8 "])
def test_bytes_that_do_not_decode(data: bytes) -> None:
    with pytest.raises(BadImage, match="does not decode"):
        imdecode(data, cv2.IMREAD_GRAYSCALE)


def test_what_follows_the_picture_does_not_matter() -> None:
    """Phones put second pictures and films behind the first one."""
    data = encode(four_corners("L", [0, 77, 128, 255]), "JPEG")
    assert np.array_equal(gray(data + bytes(5000)), gray(data))
    two = encode(
        four_corners("RGB", [RED, GREEN, BLUE, RED]), "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))]
    )
    assert gray(two).shape == (48, 64)
