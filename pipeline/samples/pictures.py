"""Photograph-like pictures for sample covers: coarse and fine detail, light, shadow. Each is BGR (height, width, 3)."""

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.samples.raster import Colour, Pixels, Point, Rng, arc, between, fill, noise, pick, resized, tinted, tones

_WORKING_SIDE = 320  # detail is made at this size and enlarged: a photograph is softer than type is


def picture(rng: Rng, colours: tuple[Colour, Colour, Colour], width: int, height: int) -> Pixels:
    """A picture of a random kind, toned from `colours`, dark to light."""
    scale = _WORKING_SIDE / max(width, height)
    small_width, small_height = max(32, round(width * scale)), max(32, round(height * scale))
    grey = pick(rng, _KINDS)(rng, small_width, small_height)
    return tinted(resized(_contrasted(_vignetted(grey)), width, height), tones(*colours))


def _vignetted(grey: Pixels) -> Pixels:
    height, width = grey.shape
    x = (np.arange(width) * 256 // width - 128) ** 2
    y = (np.arange(height) * 256 // height - 128) ** 2
    dimmed: Pixels = (grey * (32768 * 2 - (x + y[:, None])) >> 16).astype(np.uint8)
    return dimmed


def _contrasted(grey: Pixels) -> Pixels:
    """`grey` stretched to the full range, all but the darkest and the lightest hundredth."""
    ranks = np.cumsum(np.bincount(grey.ravel(), minlength=256)) * 100
    low, high = int(np.searchsorted(ranks, grey.size)), int(np.searchsorted(ranks, grey.size * 99))
    stretched: Pixels = (np.clip(grey.astype(np.int32) - low, 0, high - low) * 255 // max(1, high - low)).astype(
        np.uint8
    )
    return stretched


def _lit(relief: Pixels, rng: Rng) -> Pixels:
    """`relief` as a landscape of heights under a low sun: bright where it faces the light, dark behind."""
    heights = relief.astype(np.int32)
    light_x, light_y = int(rng.integers(-9, 10)), pick(rng, (-7, -5, 5, 7))
    slope = np.zeros_like(heights)
    slope[:, 1:] += (heights[:, 1:] - heights[:, :-1]) * light_x
    slope[1:, :] += (heights[1:, :] - heights[:-1, :]) * light_y
    lit: Pixels = np.clip(heights * 3 // 8 + 80 + slope, 0, 255).astype(np.uint8)
    return lit


def _rock(rng: Rng, width: int, height: int) -> Pixels:
    return _lit(noise(rng, width, height, int(rng.integers(2, 6)), 6), rng)


def _smoke(rng: Rng, width: int, height: int) -> Pixels:
    """Noise displaced by noise (domain warping): folds and swirls."""
    reach = int(rng.integers(40, 110))
    base = noise(rng, width + reach, height + reach, int(rng.integers(3, 7)), 5)
    push_x = noise(rng, width, height, 3, 3).astype(np.int32) * reach >> 8
    push_y = noise(rng, width, height, 3, 3).astype(np.int32) * reach >> 8
    folded: Pixels = base[np.arange(height)[:, None] + push_y, np.arange(width) + push_x]
    return _lit(folded, rng)


def _hills(rng: Rng, width: int, height: int) -> Pixels:
    """Sun, sky, and ridges that darken towards the front."""
    sky = noise(rng, width, height * 2, 4, 4)[::2] >> np.uint8(2)
    sky += np.linspace(200, 120, height).astype(np.uint8)[:, None] >> 1
    sky += 60
    image = np.ascontiguousarray(sky)
    sun = (between(rng, 0.15, 0.85) * width, between(rng, 0.15, 0.45) * height)
    fill(image, arc(sun, between(rng, 0.06, 0.18) * height), pick(rng, (255, 235, 30)))
    ridges = int(rng.integers(4, 8))
    texture = noise(rng, width, height, 24, 3)
    for ridge in range(ridges):
        level = height * (0.4 + 0.55 * ridge / ridges)
        outline = noise(rng, width, 2, 3 + 2 * ridge, 6)[0].astype(np.float64)
        points = [(float(x), level + (float(outline[x]) - 128) * height / 700) for x in range(0, width, 2)]
        layer = np.zeros((height, width), np.uint8)
        fill(layer, [(0.0, height), *points, (width, points[-1][1]), (width, height)], 255)
        shade = 150 - 130 * ridge // ridges + (texture.astype(np.int32) * (20 + 8 * ridge) >> 8)
        np.copyto(image, np.clip(shade, 0, 255).astype(np.uint8), where=layer > 127)
    return image


def _city(rng: Rng, width: int, height: int) -> Pixels:
    """A night skyline: towers with some windows lit."""
    image: Pixels = noise(rng, width, height, 3, 5) >> np.uint8(1)
    for row in range(3):
        x = -int(rng.integers(0, 20))
        while x < width:
            wide, top = int(rng.integers(18, 52)), int(height * between(rng, 0.15 + 0.2 * row, 0.5 + 0.2 * row))
            body = 120 - 45 * row + int(rng.integers(-15, 16))
            cv2.rectangle(image, (x, top), (x + wide, height), (body,), -1)
            _light_windows(image, rng, x, top, wide)
            x += wide + int(rng.integers(0, 12))
    return image


def _light_windows(image: Pixels, rng: Rng, left: int, top: int, wide: int) -> None:
    step, tall = int(rng.integers(5, 9)), int(rng.integers(6, 11))
    columns, rows = (wide - 3) // step, max(0, (image.shape[0] - top - 4) // tall)
    lit = rng.random((rows, columns)) < 0.4
    shades = rng.integers(140, 256, (rows, columns))
    for row, column in np.argwhere(lit).tolist():
        x, y = left + 3 + column * step, top + 4 + row * tall
        cv2.rectangle(image, (x, y), (x + step - 3, y + tall - 4), (int(shades[row, column]),), -1)


def _figure(rng: Rng, width: int, height: int) -> Pixels:
    """Head and shoulders against a lit wall, one side in shadow."""
    image: Pixels = (noise(rng, width, height, 3, 6) >> np.uint8(1)) + np.uint8(90)
    unit, x, y = min(width, height) / 100, between(rng, 0.35, 0.65) * width, between(rng, 0.38, 0.48) * height
    head, side = between(rng, 15, 20) * unit, pick(rng, (-1.0, 1.0))

    def oval(right: float, down: float, across: float, tall: float, shade: int) -> tuple[list[Point], int]:
        return _ellipse((x + right * head, y + down * head), across * head, tall * head), shade

    parts = [
        oval(0, 3.7, between(rng, 2.0, 2.6), 2.3, int(rng.integers(50, 190))),  # shoulders
        oval(0, 1.2, 0.45, 0.9, 130),  # neck
        oval(0, -0.25, between(rng, 1.0, 1.3), between(rng, 1.2, 1.5), int(rng.integers(20, 90))),  # hair
        oval(0, 0, 0.85, 1.15, 205),  # face
        oval(side * 0.5, 0, 0.5, 1.05, 110),  # its side in shadow
        oval(-0.35, -0.1, 0.17, 0.08, 25),
        oval(0.35, -0.1, 0.17, 0.08, 25),
        oval(0, 0.6, 0.3, 0.07, 45),
    ]
    if rng.random() < 0.4:
        brim, crown = head * between(rng, 1.3, 1.8), head * between(rng, 1.4, 2.0)
        parts.append(
            ([(x - brim, y - head * 0.8), (x + brim, y - head * 0.8), (x + head, y - crown), (x - head, y - crown)], 25)
        )
    person = np.zeros((height, width), np.uint8)
    for outline, shade in parts:
        fill(image, outline, shade)
        fill(person, outline, 255)
    grain = (noise(rng, width, height, 20, 4).astype(np.int32) - 128) // 3 * (person > 127)
    return np.asarray(np.clip(image + grain, 0, 255), np.uint8)


def _ellipse(centre: tuple[float, float], across: float, down: float) -> list[tuple[float, float]]:
    return [(x, centre[1] + (y - centre[1]) * down / across) for x, y in arc(centre, across)]


def _still_life(rng: Rng, width: int, height: int) -> Pixels:
    """Balls of stone on a ground, each with light, shade and a cast shadow."""
    image = noise(rng, width, height, 4, 6) // 3 + np.uint8(100)
    y, x = np.mgrid[0:height, 0:width].astype(np.int32)
    texture = noise(rng, width, height, 12, 5).astype(np.int32)
    light = pick(rng, (-1, 1))
    for _ in range(int(rng.integers(3, 9))):
        radius = int(min(width, height) * between(rng, 0.07, 0.24))
        cx, cy = int(rng.integers(0, width)), int(rng.integers(height // 4, height))
        fill(image, _ellipse((cx - light * radius * 0.8, cy + radius * 0.8), radius * 1.3, radius * 0.4), 40)
        inside = (x - cx) ** 2 + (y - cy) ** 2 < radius * radius
        shade = 130 + ((x - cx) * light - (y - cy)) * 90 // radius + (texture - 128) // 2
        np.copyto(image, np.clip(shade, 0, 255).astype(np.uint8), where=inside)
    return image


_KINDS: tuple[Callable[[Rng, int, int], Pixels], ...] = (_rock, _smoke, _hills, _city, _figure, _still_life)


def halftone(grey: Pixels, cell: int) -> Pixels:
    """`grey` as printer's dots on a grid turned by 45 degrees: a mask, 255 where ink lies. Darker is more ink."""
    height, width = grey.shape
    tile = np.array([[_spot(x, y, cell) for x in range(2 * cell)] for y in range(2 * cell)], np.int32)
    screen: NDArray[np.int32] = np.tile(tile, (height // (2 * cell) + 1, width // (2 * cell) + 1))[:height, :width]
    ink: Pixels = np.clip((screen - grey) * cell // 2 + 128, 0, 255).astype(np.uint8)
    return ink


def _spot(x: int, y: int, cell: int) -> int:
    """Threshold at (x, y) of a checkerboard of round dots: 0..255, highest in the middle of a dot."""
    down, up = math.cos(math.pi * (x + y) / cell), math.cos(math.pi * (x - y) / cell)
    return math.floor(128.2 + 63.75 * (down + up))  # .2 keeps clear of ties, where cosines of two C libraries may part
