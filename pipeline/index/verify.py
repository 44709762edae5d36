"""Second stage of a search: does the geometry of the matches make sense?

Descriptors are matched by mutual nearest neighbours and Lowe's ratio test, then a homography is fitted with MAGSAC
(Barath et al., MAGSAC++, a fast, reliable and accurate robust estimator, CVPR 2020).
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.features.sift import Features

RATIO = 0.8
MIN_MATCHES = 6
# OpenCV's MAGSAC is tuned to pixels: on coordinates from 0 to 1 it loses one true match in twenty.
PIXELS = 512
INLIER_PIXELS = 4
MAX_ITERATIONS = 2000
CONFIDENCE = 0.999
# A snapshot that shows a picture larger or smaller than this, or seen flatter, has too few common keypoints to be true.
MAX_SCALE = 16
MAX_STRETCH = 5

Points = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Verified:
    """A match that geometry supports. All coordinates are fractions of the longer side of their own picture."""

    inliers: int
    """Distinct points of the image that the homography finds again in the query."""
    homography: NDArray[np.float64]
    """(3, 3): maps points of the image to points of the query."""
    polygon: Points
    """(4, 2): the image's corners in the query: top left, top right, bottom right, bottom left of the image."""
    query_points: Points
    """(inliers, 2), row by row the same points as `image_points`."""
    image_points: Points


def score(inliers: int) -> float:
    """Inliers as a score from 0 to 1: n / (n + 10), so the default threshold 0.5 asks for ten.

    Pictures that are not in the collection reach 4 or 5 inliers (0.3), true matches usually more than 30 (0.75).
    """
    return inliers / (inliers + 10)


def verify(query: Features, image: Features) -> Verified | None:
    """Fit the image into the query; None when too few matches agree or the transform is not one a camera makes."""
    query_rows, image_rows = match(query.descriptors, image.descriptors)
    if len(query_rows) < MIN_MATCHES:
        return None
    source, target = image.keypoints[image_rows, :2], query.keypoints[query_rows, :2]
    homography, mask = _fit(source, target)
    if homography is None or not plausible(homography, image.frame):
        return None
    inside = np.flatnonzero(mask)
    inside = inside[_distinct(source[inside]) & _distinct(target[inside])]
    return Verified(
        inliers=len(inside),
        homography=homography,
        polygon=_project(homography, _corners(image.frame)),
        query_points=target[inside],
        image_points=source[inside],
    )


def match(query: NDArray[np.uint8], image: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of matching descriptors: nearest to each other, and clearly nearer than the second nearest in the image."""
    if len(query) < 2 or len(image) < 2:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    left, right = query.astype(np.float32), image.astype(np.float32)
    squared = np.einsum("ij,ij->i", right, right) - 2 * (left @ right.T)
    nearest = squared.argmin(axis=1)
    rows = np.arange(len(left))
    length = np.einsum("ij,ij->i", left, left)
    first = squared[rows, nearest] + length
    # The image's point of view: the query's own length does not change which row is nearest, but the column does.
    mutual = (squared + length[:, None]).argmin(axis=0)[nearest] == rows
    squared[rows, nearest] = np.inf
    second = squared.min(axis=1) + length
    good = mutual & (first < RATIO**2 * second)
    return rows[good], nearest[good]


def _fit(source: Points, target: Points) -> tuple[NDArray[np.float64] | None, NDArray[np.bool_]]:
    """The homography that maps `source` to `target` (None when there is none), and which rows agree with it."""
    found: Any
    found, mask = cv2.findHomography(
        source * PIXELS,
        target * PIXELS,
        cv2.USAC_MAGSAC,
        INLIER_PIXELS,
        maxIters=MAX_ITERATIONS,
        confidence=CONFIDENCE,
    )
    agree = np.asarray(mask, np.bool_).ravel()
    if found is None:
        return None, agree
    to_pixels = np.diag([PIXELS, PIXELS, 1.0])
    return np.linalg.inv(to_pixels) @ found @ to_pixels, agree


def _distinct(points: Points) -> NDArray[np.bool_]:
    """Marks the first of points at the same place: SIFT gives one point several orientations, which is no evidence."""
    _, first = np.unique(points, axis=0, return_index=True)
    marks = np.zeros(len(points), np.bool_)
    marks[first] = True
    return marks


def _corners(frame: tuple[float, float]) -> Points:
    width, height = frame
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)


def _project(homography: NDArray[np.float64], points: Points) -> Points:
    return np.asarray(cv2.perspectiveTransform(points[None], homography)[0], np.float32)


def plausible(homography: NDArray[np.float64], frame: tuple[float, float]) -> bool:
    """Whether a camera could have made this: all of the image before it, not mirrored, of sane size and shape."""
    corners = _corners(frame).astype(np.float64)
    depth = corners @ homography[2, :2] + homography[2, 2]
    if not np.isfinite(homography).all() or depth.min() <= 0.1 * depth.max() or np.linalg.det(homography) <= 0:
        return False
    stretch = np.linalg.svd(_jacobian(homography, corners.mean(axis=0)), compute_uv=False)
    return bool(stretch[0] < MAX_SCALE and stretch[1] > 1 / MAX_SCALE and stretch[0] < MAX_STRETCH * stretch[1])


def _jacobian(homography: NDArray[np.float64], point: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, 2): how the homography scales and turns the neighbourhood of a point."""
    x, y, depth = homography @ np.array([*point, 1.0])
    return np.asarray((homography[:2, :2] - np.outer([x, y], homography[2, :2]) / depth) / depth, np.float64)
