"""Pictures for people: a query beside its match, with the evidence drawn in."""

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.features.photo import Crop
from pipeline.images.decode import decode_color
from pipeline.images.probe import probe
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.index.verify import Verified

HEIGHT = 640
GREEN, ORANGE = (80, 200, 60), (40, 140, 255)
MAX_LINES = 60


def draw_match(
    query: bytes, image: bytes, geometry: "Verified", path: Path, settings: Settings, crop: Crop = (0, 0, 1, 1)
) -> None:
    """Write `path` (PNG or JPEG): the query left, the image right, a line for each inlier, the image's outline.

    `crop` is the part of the query that was searched for.
    """
    left, right = _decode(query, settings, crop), _decode(image, settings, (0, 0, 1, 1))
    canvas = np.zeros((HEIGHT, left.shape[1] + right.shape[1], 3), np.uint8)
    canvas[:, : left.shape[1]] = left
    canvas[:, left.shape[1] :] = right
    offset = np.array([left.shape[1], 0])
    outline = _pixels(geometry.polygon, left)
    cv2.polylines(canvas, [outline], True, ORANGE, 3, cv2.LINE_AA)
    starts, ends = _pixels(geometry.query_points, left), _pixels(geometry.image_points, right) + offset
    # Evenly spread over the inliers, which are ordered by strength: more lines than this hide the picture.
    for row in np.linspace(0, len(starts) - 1, min(len(starts), MAX_LINES)).astype(int):
        cv2.line(canvas, tuple(map(int, starts[row])), tuple(map(int, ends[row])), GREEN, 1, cv2.LINE_AA)
        for point in (starts[row], ends[row]):
            cv2.circle(canvas, tuple(map(int, point)), 3, GREEN, -1, cv2.LINE_AA)
    if not cv2.imwrite(str(path), canvas):
        raise OSError(f"cannot write {path}; use a name that ends in .png or .jpg")


def _decode(data: bytes, settings: Settings, crop: Crop) -> NDArray[np.uint8]:
    x, y, width, height = crop
    side = round(2 * HEIGHT / max(width, height))
    whole = decode_color(data, probe(data, settings.max_image_bytes, settings.max_image_pixels), side)
    tall, wide = whole.shape[:2]
    image = whole[round(y * tall) : round((y + height) * tall), round(x * wide) : round((x + width) * wide)]
    scaled = max(1, round(image.shape[1] * HEIGHT / image.shape[0]))
    return np.asarray(cv2.resize(image, (scaled, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def _pixels(points: NDArray[np.float32], image: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Features place points in fractions of the longer side."""
    return np.asarray(np.rint(points * max(image.shape[:2])), np.int32)
