from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.features.sift import Features
from pipeline.index.verify import match, plausible, score, verify

from .conftest import Picture

# Turned by 20 degrees, half the size, seen from the side.
VIEW = np.array([[0.47, -0.17, 0.3], [0.17, 0.47, 0.2], [0.2, 0.1, 1.0]])
MIRRORED = np.array([[-1.0, 0, 1], [0, 1, 0], [0, 0, 1]])


def random_image(points: int, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    keypoints = rng.random((points, 4), np.float32)
    return Features(keypoints, rng.integers(0, 256, (points, 128), np.uint8), (1.0, 1.0))


def moved(image: Features, homography: NDArray[np.float64]) -> Features:
    """The image's points as another camera sees them, with the same descriptors."""
    points = np.c_[image.keypoints[:, :2], np.ones(len(image))] @ homography.T
    keypoints = np.c_[points[:, :2] / points[:, 2:], image.keypoints[:, 2:]].astype(np.float32)
    return Features(keypoints, image.descriptors, image.frame)


def test_finds_the_transform_and_the_outline() -> None:
    image = random_image(60)
    found = verify(moved(image, VIEW), image)
    assert found is not None
    assert found.inliers == 60
    assert found.homography / found.homography[2, 2] == pytest.approx(VIEW, abs=2e-3)
    corners = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]]) @ VIEW.T
    assert found.polygon == pytest.approx(corners[:, :2] / corners[:, 2:], abs=2e-3)


def test_wrong_matches_are_no_inliers() -> None:
    image = random_image(60)
    query = moved(image, VIEW)
    query.keypoints[:20, :2] = np.random.default_rng(1).random((20, 2))
    found = verify(query, image)
    assert found is not None
    assert 40 <= found.inliers <= 42
    residue = np.c_[found.image_points, np.ones(found.inliers)] @ found.homography.T
    assert np.abs(residue[:, :2] / residue[:, 2:] - found.query_points).max() < 8 / 512


@pytest.mark.parametrize(
    "homography",
    [
        MIRRORED,
        np.diag([0.5, 0.09, 1.0]),  # squeezed to a line
        np.diag([0.05, 0.05, 1.0]),  # shrunk to a dot
        np.diag([20.0, 20.0, 1.0]),  # a detail that fills the query
        np.array([[1.0, 0, 0], [0, 1, 0], [-1.2, 0, 1.0]]),  # a part of the image lies behind the camera
    ],
)
def test_what_no_camera_makes_is_refused(homography: NDArray[np.float64]) -> None:
    assert plausible(VIEW, (1.0, 1.0))
    assert not plausible(homography, (1.0, 1.0))
    image = random_image(60)
    assert verify(moved(image, homography), image) is None


def test_a_match_is_mutual_and_clearly_the_best() -> None:
    image = np.zeros((4, 128), np.uint8)
    image[[0, 1, 2, 3], [0, 1, 2, 3]] = 200
    query = image.copy()
    query[1, 0], query[1, 1] = 195, 0  # looks like image row 0, but query row 0 does so more
    query[2, 3] = 170  # between image rows 2 and 3
    rows, columns = match(query, image)
    assert rows.tolist() == columns.tolist() == [0, 3]


def test_one_place_with_many_orientations_is_one_inlier() -> None:
    image = random_image(60)
    image.keypoints[10:, :2] = image.keypoints[9, :2]
    found = verify(moved(image, VIEW), image)
    assert found is None or found.inliers <= 10


def test_noise_and_other_pictures_stay_below_the_default_score(pictures: list[Picture]) -> None:
    noise = random_image(500, seed=9)
    for picture, other in pairwise(pictures):
        for query in (noise, other.photo):
            found = verify(query, picture.features)
            assert found is None or score(found.inliers) < 0.5


def test_snapshots_reach_the_default_score(pictures: list[Picture]) -> None:
    good = [found for one in pictures if (found := verify(one.photo, one.features)) and score(found.inliers) >= 0.5]
    assert len(good) >= 0.9 * len(pictures)


def test_ten_inliers_are_the_default_threshold() -> None:
    assert score(0) == 0
    assert score(10) == 0.5
    assert 0.74 < score(30) < 1


def test_too_few_features_are_no_match() -> None:
    one = random_image(1)
    assert verify(one, random_image(60)) is None
    assert verify(random_image(60), one) is None
