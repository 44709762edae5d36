"""From bytes to the grey picture that SIFT sees."""

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import BadImage
from pipeline.images.probe import Probe

# libjpeg can decode at 1/2, 1/4 or 1/8 of the scale for a fraction of the time; OpenCV does the same for other formats
# after decoding, which still saves memory.
REDUCED = {8: cv2.IMREAD_REDUCED_GRAYSCALE_8, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2}


def decode_gray(data: bytes, probe: Probe, side: int) -> NDArray[np.uint8]:
    """Decode to grey uint8 (h, w) with max(h, w) <= side, aspect kept, EXIF orientation applied; never enlarged.

    16-bit, CMYK, palette and alpha pictures are converted by the decoder. Raises BadImage for bytes that do not decode,
    truncated files included.
    """
    longer, shorter = max(probe.width, probe.height), min(probe.width, probe.height)
    fitting = (flag for factor, flag in REDUCED.items() if longer // factor >= side and shorter >= factor)
    flag = next(fitting, cv2.IMREAD_GRAYSCALE)
    gray = imdecode(data, flag)
    height, width = gray.shape
    scale = side / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        gray = np.asarray(cv2.resize(gray, size, interpolation=cv2.INTER_AREA), np.uint8)
    return gray


def decode_color(data: bytes) -> NDArray[np.uint8]:
    """Decode to BGR uint8 (h, w, 3), EXIF orientation applied. Raises BadImage."""
    return imdecode(data, cv2.IMREAD_COLOR_BGR)


def imdecode(data: bytes, flag: int) -> NDArray[np.uint8]:
    """cv2.imdecode with one way to fail: BadImage."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error as error:
        raise BadImage(f"does not decode: {error.err}") from None
    if image is None:
        raise BadImage("does not decode: truncated or damaged")
    return np.asarray(image, np.uint8)
