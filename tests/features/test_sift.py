import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import NoFeatures
from pipeline.features.sift import extract, root_sift
from pipeline.samples import cover


@pytest.fixture(scope="module")
def gray() -> NDArray[np.uint8]:
    picture = cv2.cvtColor(cover(1, 400), cv2.COLOR_BGR2GRAY)
    return np.asarray(picture[:200], np.uint8)


def test_root_sift_is_the_square_root_of_the_share_of_each_component() -> None:
    even = np.full((1, 128), 7, np.float32)
    peaked = np.zeros((1, 128), np.float32)
    peaked[0, :3] = [1, 15, 84]
    assert root_sift(even).tolist() == [[45] * 128]  # 512 * sqrt(1 / 128) = 45.25
    assert root_sift(peaked)[0, :4].tolist() == [51, 198, 255, 0]  # 51.2, 198.3, and 469 does not fit


def test_the_same_pixels_give_the_same_features_on_any_number_of_threads(gray: NDArray[np.uint8]) -> None:
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = extract(gray, 200)
        cv2.setNumThreads(4)
        four = extract(gray, 200)
    finally:
        cv2.setNumThreads(threads)
    assert np.array_equal(one.keypoints, four.keypoints)
    assert np.array_equal(one.descriptors, four.descriptors)


def test_fewer_features_are_the_strongest_of_more(gray: NDArray[np.uint8]) -> None:
    many, few = extract(gray, 200), extract(gray, 50)
    assert len(few) == 50
    assert np.array_equal(few.keypoints, many.keypoints[:50])


def test_keypoints_are_fractions_of_the_longer_side(gray: NDArray[np.uint8]) -> None:
    features = extract(gray, 500)
    assert features.frame == (1.0, 0.5)
    x, y = features.keypoints[:, 0], features.keypoints[:, 1]
    assert 0.8 < x.max() <= 1
    assert 0.4 < y.max() <= 0.5


def test_a_picture_without_features_is_refused_with_a_reason() -> None:
    with pytest.raises(NoFeatures, match="only 0 distinctive points"):
        extract(np.full((300, 400), 200, np.uint8), 500)
    with pytest.raises(NoFeatures):
        extract(np.zeros((1, 1), np.uint8), 500)
