"""Other ways to look at a photo, for what is not recognised as it is: in a mirror, and as if from another place.

SIFT knows a picture again when it is turned, larger or smaller, but not when it is mirrored, and hardly when it is seen
at more than 45 degrees from the front. Squeezing the photo in several directions undoes that (Morel and Yu, ASIFT: a
new framework for fully affine invariant image comparison, SIAM Journal on Imaging Sciences 2009).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import NoFeatures
from pipeline.features.sift import Features, extract

# One squeeze by two makes a slant of 60 degrees look like one of none, and helps from 45 to 75; the directions are
# those of that paper for this squeeze, rounded to four.
SQUEEZE = 2.0
DIRECTIONS = (0, 45, 90, 135)


@dataclass(frozen=True, eq=False)
class View:
    """A photo seen in another way."""

    features: Features
    to_photo: NDArray[np.float64]
    """(3, 3): maps points of the view to points of the photo, both as fractions of their own longer side."""


def mirror(features: Features) -> View:
    """The photo with left and right exchanged; nothing has to be described anew."""
    return View(features.mirrored(), np.array([[-1.0, 0, features.frame[0]], [0, 1, 0], [0, 0, 1]]))


def slants(gray: NDArray[np.uint8], num_features: int) -> Iterator[View]:
    """A grey photo (h, w) uint8, squeezed in each direction in turn. A view without features is left out."""
    for degrees in DIRECTIONS:
        squeezed, to_view = _squeezed(gray, degrees)
        try:
            features = extract(squeezed, num_features)
        except NoFeatures:
            continue
        photo, view = max(gray.shape), max(squeezed.shape)
        to_photo = np.linalg.inv(np.diag([1 / view, 1 / view, 1]) @ to_view @ np.diag([photo, photo, 1.0]))
        yield View(features, np.asarray(to_photo, np.float64))


def _squeezed(gray: NDArray[np.uint8], degrees: float) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The photo turned by `degrees` and squeezed from left and right, and (3, 3) from its pixels to those."""
    height, width = gray.shape
    turn = cv2.getRotationMatrix2D((0, 0), degrees, 1)[:, :2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ turn.T
    low, high = corners.min(axis=0), corners.max(axis=0)
    wide, tall = (int(side) for side in np.ceil(high - low))
    place = np.c_[turn, -low]
    turned = cv2.warpAffine(gray, place, (wide, tall), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # What would become finer than a pixel is blurred away before, in the direction of the squeeze only.
    blurred = cv2.GaussianBlur(turned, (0, 0), sigmaX=0.8 * np.sqrt(SQUEEZE**2 - 1), sigmaY=0.01)
    narrow = max(1, round(wide / SQUEEZE))
    squeezed = cv2.resize(blurred, (narrow, tall), interpolation=cv2.INTER_LINEAR)
    return np.asarray(squeezed, np.uint8), np.diag([narrow / wide, 1, 1]) @ np.r_[place, [[0, 0, 1]]]
