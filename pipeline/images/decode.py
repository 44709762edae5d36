"""From bytes to pixels, never more of them than are needed."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadImage
from pipeline.images.probe import Probe

# libjpeg can decode at 1/2, 1/4 or 1/8 of the scale for a fraction of the time; OpenCV does the same for other formats
# after decoding, which still saves memory.
GRAY = {
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    1: cv2.IMREAD_GRAYSCALE,
}
COLOR = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR_BGR,
}


def decode_gray(data: bytes, probe: Probe, side: int) -> NDArray[np.uint8]:
    """Decode to grey uint8 (h, w) with max(h, w) <= side, aspect kept, EXIF orientation applied; never enlarged.

    16-bit, CMYK, palette and alpha pictures are converted by the decoder. Raises BadImage for bytes that do not decode,
    truncated files included.
    """
    return _fit(imdecode(data, _flag(GRAY, probe, side)), side)


def decode_color(data: bytes, probe: Probe, side: int) -> NDArray[np.uint8]:
    """Like `decode_gray`, but BGR uint8 (h, w, 3)."""
    return _fit(imdecode(data, _flag(COLOR, probe, side)), side)


def _flag(flags: dict[int, int], probe: Probe, side: int) -> int:
    """The smallest scale that leaves the longer side `side` pixels and the shorter one any."""
    longer, shorter = max(probe.width, probe.height), min(probe.width, probe.height)
    fitting = (flag for factor, flag in flags.items() if longer // factor >= side and shorter >= factor)
    return next(fitting, flags[1])


def _fit(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def imdecode(data: bytes, flag: int) -> NDArray[np.uint8]:
    """cv2.imdecode with one way to fail: BadImage."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error as error:
        raise BadImage(f"does not decode: {error.err}") from None
    if image is None:
        raise BadImage("does not decode: truncated or damaged")
    return np.asarray(image, np.uint8)
