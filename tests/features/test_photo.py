import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import BadImage
from pipeline.features.photo import Photo
from pipeline.features.sift import extract
from pipeline.samples import cover
from pipeline.settings import Settings


def png(pixels: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return cover(1, 1200)[:, :900]


@pytest.fixture
def small(settings: Settings) -> Settings:
    return settings.model_copy(update={"nor_x": 300, "nor_y": 300})


def test_a_closer_look_sees_more(pixels: NDArray[np.uint8], small: Settings) -> None:
    photo = Photo(png(pixels), small)
    assert len(photo.features) <= small.num_features
    assert len(photo.closer) > 1.5 * len(photo.features)
    assert photo.closer.frame == photo.features.frame == (0.75, 1.0)


def test_a_crop_is_described_as_if_it_were_the_picture(pixels: NDArray[np.uint8], small: Settings) -> None:
    crop = Photo(png(pixels), small, (0.5, 0.25, 0.5, 0.5)).features
    part = cv2.cvtColor(pixels[300:900, 450:], cv2.COLOR_BGR2GRAY)
    expected = extract(np.asarray(cv2.resize(part, (225, 300), interpolation=cv2.INTER_AREA), np.uint8), 500)
    assert crop.frame == expected.frame
    apart = np.linalg.norm(crop.keypoints[:, None, :2] - expected.keypoints[None, :, :2], axis=2)
    assert (apart.min(axis=1) < 0.01).mean() > 0.8


def test_a_crop_with_nothing_in_it_and_a_picture_that_is_none_are_refused(
    pixels: NDArray[np.uint8], small: Settings
) -> None:
    with pytest.raises(BadImage, match="crop"):
        _ = Photo(png(pixels), small, (0.5, 0.5, 0.0, 0.1)).features
    with pytest.raises(BadImage):
        Photo(b"no picture", small)
