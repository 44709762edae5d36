"""Whether two images show the same picture: near-duplicates, not parts or logos that they share."""

import numpy as np
from numpy.typing import NDArray

from pipeline.features.sift import Features
from pipeline.index.verify import Verified, project, verify, within

# Of each frame this much lies in the other one: 6 % may be cut off at every side.
MIN_SHARED = 0.75
# In a grid over the picture, the share of cells with keypoints in which both show the same. Of copies (JPEG quality 25,
# a quarter of the width, 10 % cut off) 95 % reach 0.6, of covers of one series none more than 0.36.
MIN_ALIKE = 0.5
CELLS = 6
BUSY = 3


def show_the_same(one: Features, other: Features) -> bool:
    """Whether one image is nearly the other; a mirror image is not."""
    geometry = verify(one, other)
    return geometry is not None and nearly_whole(geometry, one, other)


def nearly_whole(geometry: Verified, query: Features, image: Features) -> bool:
    """Whether two pictures show each other nearly whole and all over, not a part or a logo that they share."""
    back = np.asarray(np.linalg.inv(geometry.homography), np.float64)
    shared = min(
        _shared(geometry.homography, image.frame, query.frame),
        _shared(back, query.frame, image.frame),
    )
    alike = min(_alike_share(query, geometry.query_points), _alike_share(image, geometry.image_points))
    return shared >= MIN_SHARED and alike >= MIN_ALIKE


def _shared(homography: NDArray[np.float64], source: tuple[float, float], target: tuple[float, float]) -> float:
    """Share of a frame's area that the homography maps into another frame."""
    side = (np.arange(16, dtype=np.float32) + 0.5) / 16
    points = np.stack(np.meshgrid(side * source[0], side * source[1]), axis=-1).reshape(-1, 2)
    return float(within(project(homography, points), target).mean())


def _alike_share(features: Features, inliers: NDArray[np.float32]) -> float:
    """Share of the cells with keypoints that have inliers."""
    busy = _in_cells(features.keypoints[:, :2], features.frame) >= BUSY
    return float((_in_cells(inliers, features.frame)[busy] > 0).mean()) if busy.any() else 0.0


def _in_cells(points: NDArray[np.float32], frame: tuple[float, float]) -> NDArray[np.intp]:
    """(CELLS * CELLS,): how many of the points are in each cell of the frame."""
    columns, rows = np.minimum(points / np.array(frame) * CELLS, CELLS - 1).astype(np.intp).T
    return np.bincount(rows * CELLS + columns, minlength=CELLS * CELLS)
