import faiss
import numpy as np
import pytest

from pipeline.index.search import neighbours, votes


def ids(images: list[list[int]], starts: np.ndarray) -> np.ndarray:
    """Faiss ids of the first descriptors of these images."""
    numbers = np.array(images, np.int64)
    return np.where(numbers < 0, -1, starts[numbers])


def test_a_vote_is_one_minus_the_share_of_the_eighth_distance() -> None:
    distances = np.array([[10, 50, 60, 70, 80, 90, 95, 100]], np.float32)
    starts = np.array([0, 1, 2, 3, 7])
    found = votes(distances, ids([[3, 1, 1, 1, 1, 1, 1, 0]], starts), starts)
    # Image 3: 0.9 / sqrt(4). Image 1 votes once, with its nearest. Image 0 is the eighth: nothing.
    assert found.numbers.tolist() == [1, 3]
    assert found.totals == pytest.approx([0.5, 0.45])


def test_votes_of_several_descriptors_add_up() -> None:
    distances = np.array([[10, 100, 100, 100, 100, 100, 100, 100], [20, 40, 100, 100, 100, 100, 100, 100]], np.float32)
    starts = np.arange(7)
    found = votes(distances, ids([[2, 0, 0, 0, 0, 0, 0, 0], [2, 5, 0, 0, 0, 0, 0, 0]], starts), starts)
    assert found.numbers.tolist() == [2, 5]
    assert found.totals == pytest.approx([0.9 + 0.8, 0.6])


def test_a_tiny_collection_has_fewer_than_eight_neighbours() -> None:
    distances = np.array([[10, 40, np.inf, np.inf, np.inf, np.inf, np.inf, np.inf]], np.float32)
    found = votes(distances, np.array([[1, 0, -1, -1, -1, -1, -1, -1]]), np.arange(3))
    assert found.numbers.tolist() == [1]
    assert found.totals == pytest.approx([0.75])


def test_many_copies_of_one_picture_are_all_candidates() -> None:
    found = votes(np.zeros((1, 8), np.float32), np.arange(8)[None], np.arange(9))
    assert found.numbers.tolist() == list(range(8))
    assert found.totals == pytest.approx([1.0] * 8)


def test_an_id_belongs_to_the_image_that_owns_its_range() -> None:
    # Image 1 has no descriptors at all; the third neighbour is the last descriptor of image 2.
    found = votes(np.array([[1, 2, 3, 9]], np.float32), np.array([[0, 2, 5, 6]]), np.array([0, 2, 2, 6, 8]))
    assert found.numbers.tolist() == [0, 2]


def test_votes_know_which_descriptors_they_came_from() -> None:
    near = np.array([[5, 0, 1, 3], [2, 4, 6, 7]])
    found = votes(np.array([[1, 2, 3, 9], [1, 2, 3, 9]], np.float32), near, np.array([0, 2, 2, 6, 8]))
    query_rows, image_rows = found.matches(2)
    assert list(zip(query_rows.tolist(), image_rows.tolist(), strict=True)) == [(0, 3), (0, 1), (1, 0), (1, 2)]


@pytest.mark.parametrize("codes", ["SQ8", "RaBitQ", "PQ32x4fsr"])
def test_a_filter_leaves_out_all_others_and_keeps_the_nearest_of_the_allowed(codes: str) -> None:
    rng = np.random.default_rng(0)
    # Every allowed descriptor is hidden behind 20 better ones that are not.
    allowed_rows = rng.integers(0, 200, (300, 128))
    crowd = np.repeat(allowed_rows, 20, axis=0) + rng.integers(-3, 4, (6000, 128))
    stored = np.clip(np.concatenate([allowed_rows, crowd]), 0, 255).astype(np.uint8)
    index = faiss.index_factory(128, f"IVF16,{codes}")
    index.train(stored.astype(np.float32))
    index.add_with_ids(stored.astype(np.float32), np.arange(len(stored)))
    allowed = np.arange(len(stored)) < 300

    queries = stored[300 : 300 + 20 * 300 : 20]
    distances, ids = neighbours(index, [index], 16, queries, allowed)

    assert ids.max() < 300
    assert (ids[:, 0] == np.arange(300)).mean() > 0.95
    assert np.isfinite(distances[ids >= 0]).all()
    _, free = neighbours(index, [index], 16, queries)
    assert (free >= 300).mean() > 0.8


def test_the_parts_of_an_index_answer_as_the_whole_does() -> None:
    rng = np.random.default_rng(1)
    stored = rng.integers(0, 256, (2000, 128)).astype(np.float32)
    whole = faiss.index_factory(128, "IVF8,SQ8")
    whole.train(stored)
    parts = [faiss.clone_index(whole), faiss.clone_index(whole)]
    whole.add_with_ids(stored, np.arange(2000))
    parts[0].add_with_ids(stored[:1500], np.arange(1500))
    parts[1].add_with_ids(stored[1500:], np.arange(1500, 2000))
    queries = rng.integers(0, 256, (50, 128)).astype(np.uint8)

    together = neighbours(whole, parts, 4, queries)
    alone = neighbours(whole, [whole], 4, queries)

    assert np.array_equal(together[1], alone[1])
    assert np.array_equal(together[0], alone[0])
