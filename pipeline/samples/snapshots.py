"""Phone snapshots of a picture: what a camera makes of it when it lies on a table somewhere.

The order is that of light: table, print, perspective, illumination, lens, glare, sensor.
"""

import math

import cv2
import numpy as np

from pipeline.samples.names import SEED
from pipeline.samples.raster import (
    Colour,
    Pixels,
    Point,
    Rng,
    arc,
    between,
    bounds,
    fill,
    generator,
    jpeg,
    noise,
    pick,
    resized,
    rotated,
    tinted,
    tones,
    warped,
)


def snapshot(image: Pixels, seed: int, strength: float = 1.0, longer: int = 960) -> Pixels:
    """A phone snapshot of `image` (BGR, any size): BGR uint8, `longer` pixels by three quarters of that.

    `image` lies on a cluttered table, turned by up to 25 degrees and tilted, and takes up 50 to 95 % of the frame in
    the direction in which it is longer; in one of three, up to a tenth is cut off at an edge. Light, white balance,
    focus, glare and noise vary too. A picture that is clearly wider than tall is taken with the phone held that way.
    The same image, seed and strength give the same bytes on every machine.

    Args:
        strength: scales all of it: 0 is a still, even, sharp frame; 1 is an ordinary day; 2 is a bad one.

    Raises:
        ValueError: `image` is not BGR uint8, `seed` is negative, or `strength` is outside 0..2.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"a snapshot takes a BGR uint8 picture (h, w, 3), not {image.dtype} {image.shape}")
    if seed < 0 or not 0 <= strength <= 2:
        raise ValueError(f"seed must be 0 or more and strength within 0..2, not {seed} and {strength}")
    rng = generator(SEED, 4, seed)
    aspect = image.shape[1] / image.shape[0]
    held_wide = rng.random() < 0.5 if 0.8 < aspect < 1.25 else aspect > 1
    width, height = (longer, longer * 3 // 4) if held_wide else (longer * 3 // 4, longer)
    quad = _pose(rng, aspect, width, height, strength)
    frame = _table(rng, width, height, quad)
    _lay_down(frame, image, quad)
    _illuminate(frame, rng, strength)
    frame = _focused(frame, rng, strength)
    _glare(frame, rng, quad, strength)
    _expose(frame, rng, strength)
    return frame


def snapshot_jpeg(image: Pixels, seed: int, strength: float = 1.0, longer: int = 960) -> bytes:
    """`snapshot` as a JPEG file."""
    return jpeg(snapshot(image, seed, strength, longer), quality=80)


def _pose(rng: Rng, aspect: float, width: int, height: int, strength: float) -> list[Point]:
    """Where the corners of a picture of `aspect` (width / height) lie in the frame: a pinhole camera's view."""
    turn = math.radians(between(rng, -25, 25) * strength)
    tilt_x, tilt_y = (math.radians(between(rng, -20, 20) * strength) for _ in range(2))
    corners = []
    for x, y in rotated((0.0, 0.0), aspect, 1.0, math.degrees(turn)):
        depth = 2.2 * max(1.0, aspect) + x * math.sin(tilt_y) + y * math.sin(tilt_x)
        corners.append((x * math.cos(tilt_y) / depth, y * math.cos(tilt_x) / depth))
    left, right = min(p[0] for p in corners), max(p[0] for p in corners)
    top, bottom = min(p[1] for p in corners), max(p[1] for p in corners)
    filled = max(between(rng, 0.5, 0.95), between(rng, 0.5, 0.95))  # people step closer rather than back
    scale = filled * min(width / (right - left), height / (bottom - top))
    wide, tall = (right - left) * scale, (bottom - top) * scale
    move_x, move_y = between(rng, 0, width - wide), between(rng, 0, height - tall)
    if rng.random() < strength / 3:
        cut = between(rng, 0.02, 0.1)
        if rng.random() < 0.5:
            move_x = pick(rng, (-cut * wide, width - wide * (1 - cut)))
        else:
            move_y = pick(rng, (-cut * tall, height - tall * (1 - cut)))
    return [((x - left) * scale + move_x, (y - top) * scale + move_y) for x, y in corners]


def _table(rng: Rng, width: int, height: int, quad: list[Point]) -> Pixels:
    """Wood, cloth or stone with things lying about; made at half size, as the lens focuses on the picture."""
    wide, tall = width // 2, height // 2
    dark, light = pick(rng, _SURFACES)
    if rng.random() < 0.5:
        grain = resized(noise(rng, wide, max(2, tall // 12), 40, 4), wide, tall)  # stretched noise is wood
        grain = grain // 2 + noise(rng, wide, tall, 5, 3) // 2
    else:
        grain = noise(rng, wide, tall, int(rng.integers(4, 40)), 4)
    surface = tinted(grain, tones(dark, light))
    for _ in range(int(rng.integers(3, 9))):
        _thing(surface, rng)
    _cast_shadow(surface, quad)
    return np.asarray(cv2.resize(surface, (width, height), interpolation=cv2.INTER_LINEAR_EXACT), np.uint8)


_SURFACES: tuple[tuple[Colour, Colour], ...] = (
    ((30, 50, 80), (90, 130, 180)),
    ((20, 30, 45), (60, 80, 110)),
    ((120, 140, 150), (200, 210, 220)),
    ((60, 60, 60), (130, 130, 135)),
    ((70, 45, 35), (140, 110, 90)),
    ((40, 70, 50), (110, 140, 120)),
)


def _thing(surface: Pixels, rng: Rng) -> None:
    """A cup, a coin, a book, a cable or a sheet of print, with its shadow."""
    height, width = surface.shape[:2]
    at, reach = (between(rng, 0, width), between(rng, 0, height)), between(rng, 0.08, 0.3) * height
    base = int(rng.integers(25, 190))
    blue, green, red = (base + int(step) for step in rng.integers(-22, 60, 3))
    kind = int(rng.integers(4))
    if kind == 0:
        for radius, shade in (
            (1.0, (blue, green, red)),
            (0.8, (blue // 2, green // 2, red // 2)),
            (0.72, (20, 30, 45)),
        ):
            fill(surface, arc(at, reach * radius / 2), shade)
    elif kind == 1:
        start = between(rng, 0, 360)
        cable = np.array(arc(at, between(rng, 0.4, 1.5) * height, start, start + 150)).round().astype(np.int32)
        cv2.polylines(surface, [cable], False, (blue // 3, green // 3, red // 3), max(2, int(reach / 14)), cv2.LINE_AA)
    else:
        turn = between(rng, 0, 180)
        fill(surface, rotated((at[0] + 4, at[1] + 5), reach * 1.4, reach, turn), (25, 25, 28))
        fill(surface, rotated(at, reach * 1.4, reach, turn), (blue, green, red))
        for k in range(int(rng.integers(2, 8))):
            shift = rotated(at, 0, reach * (0.8 - 0.2 * k), turn)[0]
            fill(
                surface,
                rotated(shift, reach * between(rng, 0.3, 1.1), reach * 0.07, turn),
                (255 - blue, 255 - green, 255 - red),
            )


def _cast_shadow(surface: Pixels, quad: list[Point]) -> None:
    """Darken the half-size table around the picture at `quad`, in place."""
    shadow = np.zeros(surface.shape[:2], np.uint8)
    fill(shadow, [(x / 2 + 4, y / 2 + 5) for x, y in quad], 170)
    left_over = (255 - cv2.GaussianBlur(shadow, (0, 0), 4.0)).astype(np.uint16)
    np.copyto(surface, surface * left_over[..., None] >> 8, casting="unsafe")


def _lay_down(frame: Pixels, image: Pixels, quad: list[Point]) -> None:
    """Put the corners of `image` on `quad`, in place."""
    height, width = frame.shape[:2]
    longest = max(math.dist(quad[k], quad[k - 1]) for k in range(4))
    scale = min(1.0, longest / max(image.shape[:2]))
    small = resized(image, max(2, round(image.shape[1] * scale)), max(2, round(image.shape[0] * scale)))
    box = bounds(quad, width, height)
    mask = np.zeros((height, width), np.uint8)
    fill(mask, quad, 255)
    left, top, right, bottom = box
    cv2.copyTo(warped(small, quad, box), mask[top:bottom, left:right] & 128, frame[top:bottom, left:right])


def _illuminate(frame: Pixels, rng: Rng, strength: float) -> None:
    """Uneven light, and light that is not white, in place. 128 stands for a gain of 1."""
    height, width = frame.shape[:2]
    swing = int(45 * strength)
    slope_x, slope_y = int(rng.integers(-swing, swing + 1)), int(rng.integers(-swing, swing + 1))
    level = 128 + int(rng.integers(-swing // 2, swing // 2 + 1))
    y, x = np.mgrid[0:12, 0:12]
    blobs = noise(rng, 12, 12, 2, 2).astype(np.int64) - 128
    light = level + ((x - 6) * slope_x + (y - 6) * slope_y) // 12 + blobs * swing // 400
    warmth, tint = int(rng.integers(-swing // 4, swing // 4 + 1)), int(rng.integers(-swing // 10, swing // 10 + 1))
    gains = np.stack([light - warmth, light + tint, light + warmth], axis=-1)
    grid = np.clip(gains, 40, 255).astype(np.uint8)
    gain = cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    product = np.multiply(frame, gain, dtype=np.uint16)
    product >>= 7
    np.copyto(frame, np.minimum(product, 255, out=product), casting="unsafe")


def _focused(frame: Pixels, rng: Rng, strength: float) -> Pixels:
    """Out of focus, or moved while the shutter was open."""
    blur = between(rng, 0, 1) * strength
    sharp = 0.3 + 0.4 * blur
    across, down = pick(rng, ((blur, blur), (blur, blur), (1.5 * blur, 0.0), (0.0, 1.5 * blur)))
    return np.asarray(cv2.GaussianBlur(frame, (0, 0), sharp + across, sigmaY=sharp + down), np.uint8)


def _glare(frame: Pixels, rng: Rng, quad: list[Point], strength: float) -> None:
    """The lamp in the gloss of the print: a soft bright blob, in place."""
    if rng.random() > 0.6 * strength:
        return
    height, width = frame.shape[:2]
    x, y = between(rng, min(p[0] for p in quad), max(p[0] for p in quad)), between(rng, quad[0][1], quad[2][1])
    across, down = between(rng, 0.06, 0.24) * width, between(rng, 0.06, 0.16) * height
    peak = int(between(rng, 60, 190))
    columns, rows = np.arange(0, width, 16) + 8, (np.arange(0, height, 16) + 8)[:, None]
    squared = ((columns - x) / across) ** 2 + ((rows - y) / down) ** 2
    blob = np.floor(peak / (1 + squared * squared)).astype(np.uint8)
    bright = cv2.resize(cv2.merge([blob, blob, blob]), (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    cv2.add(frame, bright, dst=frame)


def _expose(frame: Pixels, rng: Rng, strength: float) -> None:
    """Sensor noise, in place. The bits of a random byte are eight tosses of a coin: nearly normal, and exact."""
    sigma = between(rng, 1, 6) * strength
    tosses = np.array([byte.bit_count() - 4 for byte in range(256)])
    steps = np.floor(tosses * sigma / math.sqrt(2) + 0.5).astype(np.int64)
    coins = np.frombuffer(rng.bytes(frame.size), np.uint8).reshape(frame.shape)
    cv2.add(frame, cv2.LUT(coins, np.maximum(steps, 0).astype(np.uint8)), dst=frame)
    cv2.subtract(frame, cv2.LUT(coins, np.maximum(-steps, 0).astype(np.uint8)), dst=frame)
