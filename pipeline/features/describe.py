"""From the bytes of a picture to its features: the same way for images of the collection and for queries."""

from pipeline.features.sift import Features, extract
from pipeline.images.decode import decode_gray
from pipeline.images.probe import probe
from pipeline.settings import Settings


def describe(data: bytes, settings: Settings) -> Features:
    """Probe, decode and describe a picture. Raises BadImage, or NoFeatures where nothing can be recognised."""
    found = probe(data, settings.max_image_bytes, settings.max_image_pixels)
    return extract(decode_gray(data, found, settings.image_side), settings.num_features)
