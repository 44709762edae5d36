import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import NoFeatures
from pipeline.features.sift import CONTRAST_THRESHOLD, Features, extract, root_sift
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


def test_fewer_features_are_those_of_highest_contrast(gray: NDArray[np.uint8]) -> None:
    found = cv2.SIFT.create(nfeatures=200, contrastThreshold=CONTRAST_THRESHOLD).detect(gray, None)
    strongest = {point.pt for point in sorted(found, key=lambda point: -point.response)[:40]}
    few = {(x * 400, y * 400) for x, y in extract(gray, 50).keypoints[:, :2].tolist()}
    assert all(any(abs(x - a) + abs(y - b) < 0.01 for a, b in few) for x, y in strongest)


def test_what_survives_a_blur_comes_first(gray: NDArray[np.uint8]) -> None:
    sharp, blurred = extract(gray, 200), extract(np.asarray(cv2.GaussianBlur(gray, (0, 0), 3), np.uint8), 200)

    def found_again(some: Features) -> int:
        apart = np.linalg.norm(some.keypoints[:, None, :2] - blurred.keypoints[None, :, :2], axis=2)
        return int((apart.min(axis=1) < 0.01).sum())

    assert found_again(sharp.take(slice(50))) > 1.5 * found_again(sharp.take(slice(-50, None)))


def test_mirrored_features_are_those_of_the_mirror_image(gray: NDArray[np.uint8]) -> None:
    expected = extract(np.ascontiguousarray(gray[:, ::-1]), 200)
    mirrored = extract(gray, 200).mirrored()
    apart = np.linalg.norm(mirrored.keypoints[:, None, :2] - expected.keypoints[None, :, :2], axis=2)
    rows, partners = np.arange(len(mirrored)), apart.argmin(axis=1)
    same = (apart[rows, partners] < 0.003) & (
        np.abs((mirrored.keypoints[:, 3] - expected.keypoints[partners, 3] + 180) % 360 - 180) < 10
    )
    assert same.mean() > 0.7
    distance = np.linalg.norm(mirrored.descriptors[same].astype(float) - expected.descriptors[partners[same]], axis=1)
    assert np.median(distance) < 100  # of at most 724; random descriptors are some 500 apart


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
