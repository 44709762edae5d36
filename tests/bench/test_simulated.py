"""Simulated images: always the same, and to an index no different from real ones."""

from pathlib import Path

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from bench.simulated import Pool, SimulatedSegment, simulated_id
from pipeline.features.photo import Photo
from pipeline.features.sift import Features
from pipeline.index.verify import verify
from pipeline.samples import cover_jpeg
from pipeline.settings import Settings

COVERS = 24


@pytest.fixture(scope="module")
def covers() -> list[Features]:
    settings = Settings()
    return [Photo(cover_jpeg(number, 512), settings).features for number in range(COVERS)]


@pytest.fixture(scope="module")
def pool(covers: list[Features]) -> Pool:
    return Pool.of(covers)


def test_an_image_follows_from_its_number_alone(pool: Pool, tmp_path: Path) -> None:
    pool.save(tmp_path / "pool.npz")
    segment = SimulatedSegment(pool, 100, 20)
    other = SimulatedSegment(Pool.load(tmp_path / "pool.npz"), 107, 3)
    for row in range(3):
        one, same = segment.image(7 + row), other.image(row)
        np.testing.assert_array_equal(one.descriptors, same.descriptors)
        np.testing.assert_array_equal(one.keypoints, same.keypoints)
        np.testing.assert_array_equal(other.keypoints(row), same.keypoints)
    assert segment.ids[7] == other.ids[0] == simulated_id(107)
    assert len(set(segment.ids)) == 20


def test_what_is_indexed_is_the_beginning_of_each_image(pool: Pool) -> None:
    segment = SimulatedSegment(pool, 0, 30)
    images = [segment.image(row).descriptors for row in range(30)]
    np.testing.assert_array_equal(segment.descriptors(0, int(segment.offsets[-1])), np.concatenate(images))
    indexed = np.concatenate(list(segment.strongest(50)))
    np.testing.assert_array_equal(indexed, np.concatenate([one[:50] for one in images]))


def test_images_have_as_many_descriptors_as_real_ones(pool: Pool, covers: list[Features]) -> None:
    counts = np.diff(SimulatedSegment(pool, 0, 1000).offsets)
    assert set(counts.tolist()) <= {len(one) for one in covers}
    assert counts.mean() == pytest.approx(np.mean([len(one) for one in covers]), rel=0.05)


def test_descriptors_have_the_length_and_the_neighbourhood_of_real_ones(pool: Pool, covers: list[Features]) -> None:
    real = [one.descriptors for one in covers]
    segment = SimulatedSegment(pool, 0, COVERS)
    simulated = [segment.image(row).descriptors for row in range(COVERS)]
    lengths = np.linalg.norm(np.concatenate(simulated).astype(float), axis=1)
    assert np.abs(lengths - 512).max() < 8
    # As far from the next of another image as real ones are from each other: within the spread of these.
    low, high = np.percentile(to_other_images(real), [25, 75])
    assert low < np.median(to_other_images(simulated)) < high
    sources, moves = pool.rows(np.zeros(2000, np.int64), np.arange(2000))
    moved = ((pool.moved(sources, moves).astype(float) - pool.descriptors[sources]) ** 2).sum(axis=1)
    assert low < np.median(moved) < high


def to_other_images(images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Squared distance of every fourth descriptor to the nearest one in another image."""
    nearest = []
    for number, image in enumerate(images):
        index = faiss.IndexFlatL2(128)
        index.add(np.concatenate(images[:number] + images[number + 1 :]).astype(np.float32))
        nearest.append(index.search(image[::4].astype(np.float32), 1)[0].ravel())
    return np.concatenate(nearest)


def test_simulated_images_show_nothing_of_real_ones(pool: Pool, covers: list[Features]) -> None:
    segment = SimulatedSegment(pool, 0, 5)
    for row in range(5):
        found = [verify(covers[number], segment.image(row)) for number in range(5)]
        assert all(one is None or one.inliers < 10 for one in found)
