"""Second stage of a search: does the geometry of the matches make sense?

Descriptors are matched by mutual nearest neighbours and Lowe's ratio test. Every match says how the image would lie in
the query, since keypoints have a place, a size and an orientation; the matches that agree best with one of them are
kept (spatial verification from single correspondences: Philbin et al., Object retrieval with large vocabularies and
fast spatial matching, CVPR 2007). Wrong candidates end here. A homography is fitted to the others with MAGSAC (Barath
et al., MAGSAC++, a fast, reliable and accurate robust estimator, CVPR 2020).
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.features.sift import Features

RATIO = 0.8
# Agreement on one similarity: places within 8 % of the longer side (perspective and lens bend what is a homography),
# sizes within a factor of two, orientations within 36 degrees. Wrong candidates seldom have four such matches.
AGREE_DISTANCE = 0.08
AGREE_OCTAVES = 1.0
AGREE_RADIANS = np.pi / 5
MIN_AGREEING = 4
# OpenCV's MAGSAC is tuned to pixels: on coordinates from 0 to 1 it loses one true match in twenty.
PIXELS = 512
INLIER_PIXELS = 4
MAX_ITERATIONS = 2000
CONFIDENCE = 0.999
# A snapshot that shows a picture larger or smaller than this, or seen flatter, has too few common keypoints to be true.
MAX_SCALE = 16
MAX_STRETCH = 5

Points = NDArray[np.floating[Any]]
Rows = NDArray[np.intp]
Marks = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Verified:
    """A match that geometry supports. All coordinates are fractions of the longer side of their own picture."""

    inliers: int
    """Distinct points of the image that the homography finds again in the query."""
    matches: int
    """Pairs of descriptors that look alike, wherever they are."""
    visible: int
    """Keypoints of the image that lie inside the query's frame, when mapped by the homography."""
    facing: int
    """Keypoints of the query that lie inside the image's frame, when mapped back."""
    homography: NDArray[np.float64]
    """(3, 3): maps points of the image to points of the query."""
    polygon: Points
    """(4, 2): the image's corners in the query: top left, top right, bottom right, bottom left of the image."""
    query_points: Points
    """(inliers, 2), row by row the same points as `image_points`."""
    image_points: Points


def verify(query: Features, image: Features) -> Verified | None:
    """Fit the image into the query; None when too few matches agree or the transform is not one a camera makes."""
    query_rows, image_rows = match(query.descriptors, image.descriptors)
    agreeing = agree(image.keypoints[image_rows], query.keypoints[query_rows])
    if agreeing.sum() < MIN_AGREEING:
        return None
    source, target = image.keypoints[image_rows, :2], query.keypoints[query_rows, :2]
    homography = _fit(source[agreeing], target[agreeing])
    if homography is None or not plausible(homography, image.frame):
        return None
    near = np.linalg.norm(project(homography, source) - target, axis=1) < INLIER_PIXELS / PIXELS
    rows = np.flatnonzero(near)
    rows = rows[_distinct(source[rows]) & _distinct(target[rows])]
    if len(rows) < MIN_AGREEING:
        return None
    visible = within(project(homography, image.keypoints[:, :2]), query.frame)
    facing = within(project(np.linalg.inv(homography), query.keypoints[:, :2]), image.frame)
    return Verified(
        inliers=len(rows),
        matches=len(query_rows),
        visible=int(visible.sum()),
        facing=int(facing.sum()),
        homography=homography,
        polygon=project(homography, _corners(image.frame)),
        query_points=target[rows],
        image_points=source[rows],
    )


def match(query: NDArray[np.uint8], image: NDArray[np.uint8]) -> tuple[Rows, Rows]:
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


def agree(source: NDArray[np.float32], target: NDArray[np.float32]) -> Marks:
    """Marks the largest set of matches that one similarity explains; `source` and `target` are keypoints, (n, 4)."""
    if not len(source):
        return np.zeros(0, np.bool_)
    scale = target[:, 2] / source[:, 2]
    turn = np.deg2rad(target[:, 3] - source[:, 3])
    # As complex numbers a similarity is z -> factor * z + shift; here is one for every match.
    factor = scale * np.exp(1j * turn)
    here, there = source[:, 0] + 1j * source[:, 1], target[:, 0] + 1j * target[:, 1]
    missed = np.abs(factor[:, None] * (here[None] - here[:, None]) + there[:, None] - there[None])
    octaves = np.log2(scale)
    turned = np.abs((turn[:, None] - turn[None] + np.pi) % (2 * np.pi) - np.pi)
    same = (missed < AGREE_DISTANCE) & (np.abs(octaves[:, None] - octaves[None]) < AGREE_OCTAVES)
    same &= turned < AGREE_RADIANS
    return np.asarray(same[same.sum(axis=1).argmax()])


def _fit(source: Points, target: Points) -> NDArray[np.float64] | None:
    """The homography that maps `source` to `target`; None when there is none."""
    found: Any
    found, _ = cv2.findHomography(
        source * PIXELS,
        target * PIXELS,
        cv2.USAC_MAGSAC,
        INLIER_PIXELS,
        maxIters=MAX_ITERATIONS,
        confidence=CONFIDENCE,
    )
    if found is None:
        return None
    to_pixels = np.diag([PIXELS, PIXELS, 1.0])
    return np.asarray(np.linalg.inv(to_pixels) @ found @ to_pixels, np.float64)


def _distinct(points: Points) -> Marks:
    """Marks the first of points at the same place: SIFT gives one point several orientations, which is no evidence."""
    _, first = np.unique(points, axis=0, return_index=True)
    marks = np.zeros(len(points), np.bool_)
    marks[first] = True
    return marks


def within(points: Points, frame: tuple[float, float]) -> Marks:
    """Marks the points inside a frame of (width, height)."""
    return np.asarray(((points >= 0) & (points < np.array(frame, np.float32))).all(axis=1))


def inside(polygon: Points, points: Points) -> Marks:
    """Marks the points inside a convex polygon, (n, 2), whichever way round it is given."""
    edges = np.roll(polygon, -1, axis=0) - polygon
    to_points = points[:, None] - polygon[None]
    side = edges[:, 0] * to_points[..., 1] - edges[:, 1] * to_points[..., 0]
    return np.asarray((side >= 0).all(axis=1) | (side <= 0).all(axis=1))


def _corners(frame: tuple[float, float]) -> Points:
    width, height = frame
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)


def project(homography: NDArray[np.floating[Any]], points: Points) -> Points:
    """(n, 2): the points, mapped by the homography."""
    return np.asarray(cv2.perspectiveTransform(points[None].astype(np.float32), homography)[0], np.float32)


def plausible(homography: NDArray[np.float64], frame: tuple[float, float]) -> bool:
    """Whether a camera could have made this: all of the image before it, not mirrored, of sane size and shape."""
    corners = _corners(frame).astype(np.float64)
    depth = corners @ homography[2, :2] + homography[2, 2]
    if not np.isfinite(homography).all() or depth.min() <= 0.1 * depth.max() or np.linalg.det(homography) <= 0:
        return False
    stretch = _stretches(homography, frame)
    return bool(stretch[0] < MAX_SCALE and stretch[1] > 1 / MAX_SCALE and stretch[0] < MAX_STRETCH * stretch[1])


def _stretches(homography: NDArray[np.float64], frame: tuple[float, float]) -> NDArray[np.float64]:
    """(2,): how much larger the middle of the image becomes, in the direction in which it grows most and across."""
    x, y, depth = homography @ np.array([frame[0] / 2, frame[1] / 2, 1.0])
    jacobian = (homography[:2, :2] - np.outer([x, y], homography[2, :2]) / depth) / depth
    return np.asarray(np.linalg.svd(jacobian, compute_uv=False))
