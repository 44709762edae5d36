from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.features.sift import Features
from pipeline.index.score import score
from pipeline.index.verify import agree, inside, match, plausible, verify

from .conftest import Picture

# Turned by 20 degrees, half the size, seen from the side.
VIEW = np.array([[0.47, -0.17, 0.3], [0.17, 0.47, 0.2], [0.2, 0.1, 1.0]])
MIRRORED = np.array([[-1.0, 0, 1], [0, 1, 0], [0, 0, 1]])


def random_image(points: int, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    keypoints = rng.random((points, 4), np.float32) * np.array([1, 1, 0.1, 360], np.float32)
    return Features(keypoints, rng.integers(0, 256, (points, 128), np.uint8), (1.0, 1.0))


def moved(image: Features, homography: NDArray[np.float64]) -> Features:
    """The image's keypoints as another camera sees them, with the same descriptors."""

    def seen(points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        mapped = np.c_[points, np.ones(len(points))] @ homography.T
        return np.asarray(mapped[:, :2] / mapped[:, 2:])

    centres, radians = image.keypoints[:, :2], np.deg2rad(image.keypoints[:, 3])
    ahead = np.c_[np.cos(radians), np.sin(radians)] * 1e-3
    arrows = seen(centres + ahead) - seen(centres)
    lengths = np.linalg.norm(arrows, axis=1) / 1e-3
    angles = np.rad2deg(np.arctan2(arrows[:, 1], arrows[:, 0])) % 360
    keypoints = np.c_[seen(centres), image.keypoints[:, 2] * lengths, angles].astype(np.float32)
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
            assert found is None or score(found, lift=10.0) < 0.5


def test_snapshots_reach_the_default_score(pictures: list[Picture]) -> None:
    good = [found for one in pictures if (found := verify(one.photo, one.features)) and score(found, lift=10.0) >= 0.5]
    assert len(good) >= 0.9 * len(pictures)


def test_matches_that_agree_on_one_place_are_told_from_the_others() -> None:
    image = random_image(40)
    query = moved(image, np.array([[0.4, -0.3, 0.4], [0.3, 0.4, 0.2], [0, 0, 1.0]]))
    rng = np.random.default_rng(2)
    query.keypoints[:10] = random_image(10, seed=3).keypoints
    query.keypoints[10:15, 3] += 90  # the right place, turned the wrong way
    query.keypoints[15:20, 2] *= 4  # the right place, much too large
    agreeing = agree(image.keypoints, query.keypoints)
    assert agreeing[20:].all()
    assert agreeing[:20].sum() <= 1
    assert agree(image.keypoints[rng.permutation(40)], query.keypoints).sum() < 8


def test_words_that_two_covers_share_are_no_proof() -> None:
    whole, line = random_image(40), random_image(40)
    line.keypoints[:, 1] = 0.8 + line.keypoints[:, 1] * 0.03
    sure, unsure = (verify(moved(image, VIEW), image) for image in (whole, line))
    assert sure is not None
    assert unsure is None or score(unsure, lift=3.0) < score(sure, lift=3.0) - 0.2


def test_counts_what_should_have_matched() -> None:
    image = random_image(100)
    # Only the left half of the image is in the photo, and every other keypoint there looks different.
    half = moved(image, np.array([[1.0, 0, 0.5], [0, 1, 0], [0, 0, 1]]))
    shown = np.flatnonzero(half.keypoints[:, 0] < 1)
    query = Features(half.keypoints[shown], half.descriptors[shown].copy(), half.frame)
    query.descriptors[::2] = random_image(len(shown), seed=5).descriptors[::2]
    found = verify(query, image)
    assert found is not None
    assert found.inliers == len(shown) // 2
    assert found.visible == found.facing == len(shown)


def test_inside_a_polygon_whichever_way_round() -> None:
    square = np.array([[0.2, 0.2], [0.8, 0.2], [0.8, 0.6], [0.2, 0.6]])
    points = np.array([[0.5, 0.4], [0.1, 0.4], [0.5, 0.7], [0.79, 0.59]])
    assert inside(square, points).tolist() == inside(square[::-1], points).tolist() == [True, False, False, True]


def test_too_few_features_are_no_match() -> None:
    one = random_image(1)
    assert verify(one, random_image(60)) is None
    assert verify(random_image(60), one) is None
