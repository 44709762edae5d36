import numpy as np
import pytest

from pipeline.index.search import votes


def ids(images: list[list[int]], starts: np.ndarray) -> np.ndarray:
    """Faiss ids of the first descriptors of these images."""
    numbers = np.array(images, np.int64)
    return np.where(numbers < 0, -1, starts[numbers])


def test_a_vote_is_one_minus_the_share_of_the_eighth_distance() -> None:
    distances = np.array([[10, 50, 60, 70, 80, 90, 95, 100]], np.float32)
    starts = np.array([0, 1, 2, 3, 7])
    numbers, totals = votes(distances, ids([[3, 1, 1, 1, 1, 1, 1, 0]], starts), starts)
    # Image 3: 0.9 / sqrt(4). Image 1 votes once, with its nearest. Image 0 is the eighth: nothing.
    assert numbers.tolist() == [1, 3]
    assert totals == pytest.approx([0.5, 0.45])


def test_votes_of_several_descriptors_add_up() -> None:
    distances = np.array([[10, 100, 100, 100, 100, 100, 100, 100], [20, 40, 100, 100, 100, 100, 100, 100]], np.float32)
    starts = np.arange(7)
    numbers, totals = votes(distances, ids([[2, 0, 0, 0, 0, 0, 0, 0], [2, 5, 0, 0, 0, 0, 0, 0]], starts), starts)
    assert numbers.tolist() == [2, 5]
    assert totals == pytest.approx([0.9 + 0.8, 0.6])


def test_a_tiny_collection_has_fewer_than_eight_neighbours() -> None:
    distances = np.array([[10, 40, np.inf, np.inf, np.inf, np.inf, np.inf, np.inf]], np.float32)
    numbers, totals = votes(distances, np.array([[1, 0, -1, -1, -1, -1, -1, -1]]), np.arange(3))
    assert numbers.tolist() == [1]
    assert totals == pytest.approx([0.75])


def test_many_copies_of_one_picture_are_all_candidates() -> None:
    numbers, totals = votes(np.zeros((1, 8), np.float32), np.arange(8)[None], np.arange(9))
    assert numbers.tolist() == list(range(8))
    assert totals == pytest.approx([1.0] * 8)


def test_an_id_belongs_to_the_image_that_owns_its_range() -> None:
    # Image 1 has no descriptors at all; the third neighbour is the last descriptor of image 2.
    numbers, _ = votes(np.array([[1, 2, 3, 9]], np.float32), np.array([[0, 2, 5, 6]]), np.array([0, 2, 2, 6, 8]))
    assert numbers.tolist() == [0, 2]
