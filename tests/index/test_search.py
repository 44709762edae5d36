import numpy as np
import pytest

from pipeline.index.build import ROW_BITS
from pipeline.index.search import votes


def ids(images: list[list[int]]) -> np.ndarray:
    """Faiss ids of descriptors of these images, all in different rows."""
    numbers = np.array(images, np.int64)
    return np.where(numbers < 0, -1, numbers << ROW_BITS | np.arange(numbers.shape[1]))


def test_a_vote_is_one_minus_the_share_of_the_eighth_distance() -> None:
    distances = np.array([[10, 50, 60, 70, 80, 90, 95, 100]], np.float32)
    numbers, totals = votes(distances, ids([[3, 1, 1, 1, 1, 1, 1, 0]]), np.array([1, 1, 1, 4]))
    # Image 3: 0.9 / sqrt(4). Image 1 votes once, with its nearest. Image 0 is the eighth: nothing.
    assert numbers.tolist() == [1, 3]
    assert totals == pytest.approx([0.5, 0.45])


def test_votes_of_several_descriptors_add_up() -> None:
    distances = np.array([[10, 100, 100, 100, 100, 100, 100, 100], [20, 40, 100, 100, 100, 100, 100, 100]], np.float32)
    numbers, totals = votes(distances, ids([[2, 0, 0, 0, 0, 0, 0, 0], [2, 5, 0, 0, 0, 0, 0, 0]]), np.ones(6, np.int64))
    assert numbers.tolist() == [2, 5]
    assert totals == pytest.approx([0.9 + 0.8, 0.6])


def test_a_tiny_collection_has_fewer_than_eight_neighbours() -> None:
    distances = np.array([[10, 40, np.inf, np.inf, np.inf, np.inf, np.inf, np.inf]], np.float32)
    numbers, totals = votes(distances, ids([[1, 0, -1, -1, -1, -1, -1, -1]]), np.array([1, 1]))
    assert numbers.tolist() == [1]
    assert totals == pytest.approx([0.75])


def test_many_copies_of_one_picture_are_all_candidates() -> None:
    numbers, totals = votes(np.zeros((1, 8), np.float32), ids([[0, 1, 2, 3, 4, 5, 6, 7]]), np.ones(8, np.int64))
    assert numbers.tolist() == list(range(8))
    assert totals == pytest.approx([1.0] * 8)
