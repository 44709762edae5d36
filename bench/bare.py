"""Bare SIFT, which Sleeve's speed is measured against."""

import cv2
import numpy as np

from pipeline.features.sift import CONTRAST_THRESHOLD


def bare_sift(data: bytes, side: int, num_features: int) -> int:
    """What everybody's first script does with a picture, at our resolution. Returns how many descriptors there are."""
    gray = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert gray is not None
    scale = min(1.0, side / max(gray.shape))
    gray = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    sift = cv2.SIFT.create(nfeatures=num_features, contrastThreshold=CONTRAST_THRESHOLD)
    return len(sift.detectAndCompute(gray, None)[1])
