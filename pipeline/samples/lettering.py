"""Type for sample covers: many faces out of the one font that ships inside Pillow."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.samples.raster import Colour, Pixels, Rng, between, bounds, lay, pick, resized, rotated, warped


@dataclass(frozen=True)
class Face:
    """How to set a line. `weight`, `tracking` and `slant` are in ems; `stretch` is width to height."""

    weight: float = 0.0
    stretch: float = 1.0
    tracking: float = 0.0
    slant: float = 0.0
    outline: bool = False
    capitals: bool = False


def random_face(rng: Rng) -> Face:
    """A face that hardly comes twice: with one font, like letters equally spaced would match from cover to cover."""
    weight = between(rng, 0.0, 0.08)
    return Face(
        weight=weight,
        stretch=between(rng, 0.55, 1.3),
        tracking=weight + pick(rng, (between(rng, 0.0, 0.1), between(rng, 0.1, 0.3))),
        slant=pick(rng, (0.0, 0.0, 0.0, between(rng, 0.1, 0.3))),
        outline=rng.random() < 0.12,
        capitals=rng.random() < 0.55,
    )


@lru_cache(maxsize=256)
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(pixels)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError(
            "Pillow was built without FreeType; install a wheel from its project, or build it with FreeType"
        )
    return font


def line(text: str, face: Face, height: float, width: float) -> Pixels:
    """Mask (h, w) of `text`, 255 inside the letters, at most `height` pixels per em and `width` pixels wide."""
    text = text.upper() if face.capitals else text
    ems = _font(64).getlength(text) / 64 + face.tracking * len(text) + face.slant + 2 * face.weight
    pixels = max(6, int(min(height, width / (ems * face.stretch))))
    # small letters are hinted to whole pixels: they advance by more than their share of an em
    advance = sum(_font(pixels).getlength(letter) + face.tracking * pixels for letter in text)
    image = Image.new("L", (int(advance + 2 * face.weight * pixels) + 4, pixels * 5 // 4))
    _letters(image, text, face, pixels, 255, 0.0)
    if face.outline:
        _letters(image, text, face, pixels, 255, max(1.0, pixels / 40))
        _letters(image, text, face, pixels, 0, 0.0)
    mask = np.array(image)
    if face.stretch != 1.0:
        mask = resized(mask, max(1, round(mask.shape[1] * face.stretch)), mask.shape[0])
    return _slanted(mask, face.slant) if face.slant else mask


def _letters(image: Image.Image, text: str, face: Face, pixels: int, shade: int, swell: float) -> None:
    """Draw `text` one letter at a time, for the tracking; `swell` pixels bolder than the face."""
    draw, font, stroke = ImageDraw.Draw(image), _font(pixels), face.weight * pixels
    x = stroke + 1
    for letter in text:
        draw.text((round(x), pixels), letter, shade, font, anchor="ls", stroke_width=stroke + swell)
        x += font.getlength(letter) + face.tracking * pixels


def _slanted(mask: Pixels, slant: float) -> Pixels:
    height, width = mask.shape
    lean = slant * height
    quad = [(lean, 0.0), (width + lean, 0.0), (float(width), float(height)), (0.0, float(height))]
    return warped(mask, quad, bounds(quad, width + int(lean) + 1, height))


def put(canvas: Pixels, mask: Pixels, colour: Colour, left: float, top: float, degrees: float = 0.0) -> None:
    """Print `mask` in `colour` with its top left corner at (left, top), turned about its centre by `degrees`."""
    height, width = mask.shape
    if degrees == 0.0:
        lay(canvas, colour, mask, round(left), round(top))
        return
    quad = rotated((left + width / 2, top + height / 2), width, height, degrees)
    box = bounds(quad, canvas.shape[1], canvas.shape[0])
    if box[0] < box[2] and box[1] < box[3]:
        lay(canvas, colour, warped(mask, quad, box), box[0], box[1])


def paragraph(canvas: Pixels, lines: tuple[str, ...], colour: Colour, left: float, top: float, height: float) -> None:
    """Small print: `lines` under each other, `height` pixels per em."""
    for k, text in enumerate(lines):
        put(canvas, line(text, Face(), height, canvas.shape[1]), colour, left, top + k * height * 1.35)
