"""Pixel arithmetic whose result does not depend on the CPU, the thread count or the order of a sum.

Three rules make it so, and everything in this package keeps them:

* pixels are computed in integers; OpenCV is used only where it does the same (drawing, `LUT`, saturating `add`,
  `remap` with fixed-point maps, `GaussianBlur` of uint8), Pillow for resizing, whose kernels are integers too. OpenCV's
  `warpPerspective`, `addWeighted`, `INTER_CUBIC` and blur of floats give other bytes with AVX than without;
* floats are float64 and meet only `+ - * /` and rounding, which IEEE 754 defines to the last bit;
* sine and cosine come from `math`, never from numpy, whose array versions are other code on other CPUs.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]
Point = tuple[float, float]
Rng = np.random.Generator
T = TypeVar("T")

_SUBPIXEL_BITS = 4
_REMAP_STEPS = 32  # cv2.remap's fixed-point maps hold fractions of 1/32 pixel


def generator(*key: int) -> Rng:
    """The random stream of `key` (non-negative integers); equal keys give equal streams."""
    return np.random.Generator(np.random.PCG64(key))


def pick(rng: Rng, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def between(rng: Rng, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def resized(image: Pixels, width: int, height: int) -> Pixels:
    """`image`, grey (h, w) or BGR (h, w, 3), bicubic and antialiased to (height, width)."""
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0))


def noise(rng: Rng, width: int, height: int, cells: int, octaves: int, fade: int = 2) -> Pixels:
    """Value noise, shape (height, width): `octaves` random grids, each twice as fine and 1/`fade` as strong.

    The coarsest grid has `cells` cells along the longer side. The result is stretched to 0..255.
    """
    total = np.zeros((height, width), np.int32)
    weight = 1 << 12
    for _ in range(octaves):
        cell = max(width, height) / cells
        grid = rng.integers(0, 256, (max(2, round(height / cell)), max(2, round(width / cell))), np.uint8)
        total += resized(grid, width, height).astype(np.int32) * weight
        weight //= fade
        cells *= 2
    low, high = int(total.min()), int(total.max())
    stretched: Pixels = ((total - low).astype(np.int64) * 255 // max(1, high - low)).astype(np.uint8)
    return stretched


def tones(*colours: Colour) -> Pixels:
    """A table (256, 3) that maps grey to a run through `colours`, dark to light."""
    steps = len(colours) - 1
    table = np.empty((256, 3), np.uint8)
    for grey in range(256):
        at, rest = divmod(grey * steps, 256)
        for channel in range(3):
            table[grey, channel] = (colours[at][channel] * (256 - rest) + colours[at + 1][channel] * rest) >> 8
    return table


def tinted(grey: Pixels, table: Pixels) -> Pixels:
    """`grey` (h, w) coloured by a `tones` table: BGR (h, w, 3)."""
    return np.asarray(cv2.LUT(cv2.merge([grey, grey, grey]), table.reshape(256, 1, 3)), np.uint8)


def lay(canvas: Pixels, over: Pixels | Colour, alpha: Pixels, left: int, top: int) -> None:
    """Blend `over` into `canvas` (h, w, 3) in place by `alpha` (0..255) at (left, top); what sticks out is cut."""
    height, width = alpha.shape
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(canvas.shape[1], left + width), min(canvas.shape[0], top + height)
    if x0 >= x1 or y0 >= y1:
        return
    inside = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    cover = alpha[inside].astype(np.int32)[..., None]
    cover += cover >> 7  # 255 counts as 256, so that the division is a shift
    paint = over[inside].astype(np.int32) if isinstance(over, np.ndarray) else np.array(over, np.int32)
    patch = canvas[y0:y1, x0:x1]
    patch += ((paint - patch) * cover >> 8).astype(np.uint8)  # wraps to the right byte where the step is negative


def fixed(points: Sequence[Point]) -> NDArray[np.int32]:
    """Pixel coordinates in OpenCV's fixed point, for drawing calls with `shift=_SUBPIXEL_BITS`."""
    scale = 1 << _SUBPIXEL_BITS
    return np.array([[math.floor(x * scale + 0.5), math.floor(y * scale + 0.5)] for x, y in points], np.int32)


def fill(canvas: Pixels, points: Sequence[Point], colour: Colour | int) -> None:
    """Fill the polygon `points` (pixels) on `canvas`, with smooth edges."""
    shade = (colour, colour, colour) if isinstance(colour, int) else colour
    cv2.fillPoly(canvas, [fixed(points)], shade, cv2.LINE_AA, _SUBPIXEL_BITS)


def arc(centre: Point, radius: float, start: float = 0.0, stop: float = 360.0) -> list[Point]:
    """Points along a circle from angle `start` to `stop`, degrees."""
    count = max(12, math.ceil(abs(stop - start) / 5))
    angles = [math.radians(start + (stop - start) * k / count) for k in range(count + 1)]
    return [(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles]


def rotated(centre: Point, width: float, height: float, degrees: float) -> list[Point]:
    """Corners (top left first, clockwise) of a width x height box about `centre`, turned by `degrees`."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    halves = ((-width / 2, -height / 2), (width / 2, -height / 2), (width / 2, height / 2), (-width / 2, height / 2))
    return [(centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos) for x, y in halves]


def bounds(quad: Sequence[Point], width: int, height: int) -> tuple[int, int, int, int]:
    """The pixel box (left, top, right, bottom) around `quad`, cut to a width x height frame; may be empty."""
    xs, ys = [p[0] for p in quad], [p[1] for p in quad]
    left, top = max(0, math.floor(min(xs))), max(0, math.floor(min(ys)))
    return left, top, max(left, min(width, math.ceil(max(xs)))), max(top, min(height, math.ceil(max(ys))))


def warped(image: Pixels, quad: Sequence[Point], box: tuple[int, int, int, int]) -> Pixels:
    """What `box` shows when the corners of `image` (top left, clockwise) lie on `quad`. Outside of it: 0."""
    left, top, right, bottom = box
    a, b, c, d, e, f, g, h, i = _to_unit_square(quad)
    x = np.arange(left, right, dtype=np.float64) + 0.5
    y = (np.arange(top, bottom, dtype=np.float64) + 0.5)[:, None]
    scale = _REMAP_STEPS / ((g * x) + (h * y + i))
    u = np.rint(((a * x) + (b * y + c)) * scale * image.shape[1] - _REMAP_STEPS / 2).astype(np.int32)
    v = np.rint(((d * x) + (e * y + f)) * scale * image.shape[0] - _REMAP_STEPS / 2).astype(np.int32)
    whole = np.stack([u >> 5, v >> 5], axis=-1).astype(np.int16)
    fraction = ((v & 31) << 5 | (u & 31)).astype(np.uint16)
    return np.asarray(cv2.remap(image, whole, fraction, cv2.INTER_LINEAR), np.uint8)


def _to_unit_square(quad: Sequence[Point]) -> tuple[float, ...]:
    """The homography from `quad` to the unit square, row by row.

    Square to quad in closed form (Heckbert, "Fundamentals of Texture Mapping and Image Warping", 1989, 2.2.3), then
    the adjugate: a general solver goes through BLAS, whose last bits depend on the CPU.
    """
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = quad
    dx1, dx2, sx = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    dy1, dy2, sy = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    det = dx1 * dy2 - dx2 * dy1
    g, h = (sx * dy2 - dx2 * sy) / det, (dx1 * sy - sx * dy1) / det
    a, b, c = x1 - x0 + g * x1, x3 - x0 + h * x3, x0
    d, e, f = y1 - y0 + g * y1, y3 - y0 + h * y3, y0
    return (
        *(e - f * h, c * h - b, b * f - c * e),
        *(f * g - d, a - c * g, c * d - a * f),
        *(d * h - e * g, b * g - a * h, a * e - b * d),
    )


def jpeg(image: Pixels, quality: int) -> bytes:
    """`image` as JPEG. libjpeg's integer DCT gives the same bytes with and without SIMD."""
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1])
