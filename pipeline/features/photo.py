"""A picture, described when somebody asks and as closely as they ask: for the collection and for queries alike."""

import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadImage
from pipeline.features.sift import Features, extract
from pipeline.features.views import View, slants
from pipeline.images.decode import decode_gray
from pipeline.images.probe import probe
from pipeline.settings import Settings

# A closer look sees three times the resolution, and so up to nine times the keypoints: enough for a dozen pictures in
# one photo.
CLOSER = 3

Crop = tuple[float, float, float, float]
"""Left, top, width and height as fractions of the picture's width and height."""


class Photo:
    """An encoded picture, or a part of it. Raises BadImage when it is none within the limits of the settings."""

    def __init__(self, data: bytes, settings: Settings, crop: Crop = (0, 0, 1, 1)) -> None:
        self._data = data
        self._probe = probe(data, settings.max_image_bytes, settings.max_image_pixels)
        self._side = settings.image_side
        self._num_features = settings.num_features
        self._crop = crop

    @cached_property
    def features(self) -> Features:
        """Described as images of the collection are. Raises BadImage or NoFeatures."""
        return extract(self._gray(self._side), self._num_features)

    @cached_property
    def closer(self) -> Features:
        """Described at three times the resolution, where the photo has that. Raises BadImage or NoFeatures."""
        return extract(self._gray(CLOSER * self._side), CLOSER**2 * self._num_features)

    def slants(self) -> Iterator[View]:
        """Described as if seen from other places, see pipeline.features.views. Raises BadImage."""
        return slants(self._gray(self._side), self._num_features)

    def _gray(self, side: int) -> NDArray[np.uint8]:
        """The crop in grey, its longer side at most `side` pixels."""
        left, top, wide, tall = self._crop
        longer = max(self._probe.width, self._probe.height)
        part = max(wide * self._probe.width, tall * self._probe.height) / longer
        whole = decode_gray(self._data, self._probe, math.ceil(side / part) if part > 0 else side)
        height, width = whole.shape
        rows = slice(round(top * height), round((top + tall) * height))
        columns = slice(round(left * width), round((left + wide) * width))
        crop = whole[rows, columns][:side, :side]
        if not crop.size:
            raise BadImage(f"nothing of the picture lies in the crop {self._crop}")
        return np.ascontiguousarray(crop)
