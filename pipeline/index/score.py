"""How sure is it that a query shows an image? A score from 0 to 1 from everything that the stages saw.

Logistic regression on evidence from held-out photos of pictures that are in a collection and of pictures that are not.
`python -m bench.calibrate` makes the photos, fits the weights below and draws how well they hold.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.index.verify import Verified

SMALLEST = 1e-4


def evidence(geometry: Verified, lift: float) -> NDArray[np.float64]:
    """(6,): what speaks for a match. Logarithms, so that twice as much counts the same everywhere.

    Inliers; inliers among the matches; inliers among the keypoints of the query where the image should be; how far the
    inliers are spread over the image, along and across, since words or a logo that two pictures share are small or
    thin; and `lift`, votes relative to those that chance gives.
    """
    along, across = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(geometry.image_points.T))[::-1], SMALLEST**2))
    return np.log(
        [
            geometry.inliers,
            geometry.inliers / geometry.matches,
            geometry.inliers / max(geometry.facing, geometry.inliers),
            along,
            across,
            max(lift, 1.0),
        ]
    )


WEIGHTS = np.array([0.4, 5.91, 0.26, 1.12, 2.04, 1.03])
BIAS = 7.64


def score(geometry: Verified, lift: float) -> float:
    """Probability, under the mix of the calibration, that the query shows the image."""
    return float(1 / (1 + np.exp(-(evidence(geometry, lift) @ WEIGHTS + BIAS))))
