"""Local features of one picture: SIFT keypoints with RootSIFT descriptors.

SIFT: Lowe, Distinctive Image Features from Scale-Invariant Keypoints, IJCV 2004. RootSIFT: Arandjelović and Zisserman,
Three things everyone should know to improve object retrieval, CVPR 2012.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import NoFeatures

# Fewer can never pass geometric verification, so such a picture could be indexed but never found.
MIN_FEATURES = 6
# Half of OpenCV's default: photographs of 300 pixels keep 457 keypoints instead of 389 (medians of 800), for about a
# sixth more time. The strongest NUM_FEATURES are kept either way, so pictures with plenty of texture do not change.
CONTRAST_THRESHOLD = 0.02


@dataclass(frozen=True, eq=False)
class Features:
    """Local features of one picture, the most recognisable first.

    Positions and sizes are fractions of the picture's longer side, so they hold at every resolution and both axes have
    the same scale: multiply by max(width, height) to get pixels.
    """

    keypoints: NDArray[np.float32]
    """(n, 4): x, y, diameter (fractions of the longer side), orientation (degrees, clockwise, 0 to 360)."""
    descriptors: NDArray[np.uint8]
    """(n, 128): RootSIFT; the squared L2 distance of two descriptors is at most about 2 * 512 * 512."""
    frame: tuple[float, float]
    """(width, height) of the picture as fractions of its longer side, so one of the two is 1."""

    def __len__(self) -> int:
        return len(self.descriptors)

    def take(self, rows: Any) -> "Features":
        """Features of these rows only: a slice, row numbers, or a mask."""
        return Features(self.keypoints[rows], self.descriptors[rows], self.frame)

    def mirrored(self) -> "Features":
        """What `extract` would find in the mirror image of the picture, left and right exchanged."""
        keypoints = self.keypoints.copy()
        keypoints[:, 0] = self.frame[0] - keypoints[:, 0]
        keypoints[:, 3] = (180 - keypoints[:, 3]) % 360
        return Features(keypoints, self.descriptors[:, _MIRROR], self.frame)


# A descriptor is a grid of 4 x 4 cells with 8 directions each, laid along the orientation of its keypoint. In a mirror
# the rows of the grid change places and directions turn the other way round.
_MIRROR = np.arange(128).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].ravel()


def extract(gray: NDArray[np.uint8], num_features: int) -> Features:
    """The at most `num_features` keypoints of highest contrast in a grey picture, (h, w) uint8.

    First come those that a camera is most likely to find again: high contrast counts as much as size, since the finest
    details are lost in a blurred or distant photo. Of 400 snapshots of covers, votes of the first 240 descriptors find
    all, votes of the 240 of highest contrast 390.

    SIFT doubles the picture first, so hand it half of the resolution that you want described. The same pixels give the
    same arrays. Raises NoFeatures when there are fewer than MIN_FEATURES.
    """
    sift = cv2.SIFT.create(nfeatures=num_features, contrastThreshold=CONTRAST_THRESHOLD)
    found, descriptors = sift.detectAndCompute(gray, None)
    if len(found) < MIN_FEATURES:
        raise NoFeatures(f"only {len(found)} distinctive points; at least {MIN_FEATURES} are needed to recognise it")
    table = np.array([(*point.pt, point.size, point.angle, point.response) for point in found], np.float32)
    x, y, size, angle, response = table.T
    # OpenCV's order depends on its threads, and equal responses may give more than it was asked for.
    strongest = np.lexsort((angle, size, y, x, -response))[:num_features]
    by_size = np.argsort(np.argsort(-size[strongest], kind="stable"), kind="stable")
    order = strongest[np.argsort(by_size + np.arange(len(strongest)), kind="stable")]
    height, width = gray.shape
    longer = max(height, width)
    keypoints = np.asarray(table[order, :4] / np.array([longer, longer, longer, 1], np.float32), np.float32)
    return Features(keypoints, root_sift(np.asarray(descriptors[order], np.float32)), (width / longer, height / longer))


def root_sift(descriptors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """RootSIFT of SIFT descriptors, (n, 128): L1-normalised, square root, times 512, rounded, at most 255, as uint8.

    512 spreads the values over uint8: a component above 255 would hold a quarter of the whole gradient energy.
    """
    total = descriptors.sum(axis=1, keepdims=True, dtype=np.float32)
    rooted = np.sqrt(descriptors / np.maximum(total, np.finfo(np.float32).tiny))
    return np.asarray(np.minimum(np.rint(512 * rooted), 255), np.uint8)
