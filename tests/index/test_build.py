from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.features.segments import Segment, write_segment
from pipeline.features.sift import Features
from pipeline.index import build, search


def random_segment(folder: Path, images: int, rows: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    items = []
    for _ in range(images):
        descriptors = rng.gamma(0.5, 60, (rows, 128)).clip(0, 255).astype(np.uint8)
        keypoints = rng.random((rows, 4), np.float32)
        items.append((UUID(bytes=rng.bytes(16)), Features(keypoints, descriptors, (1.0, 1.0))))
    return folder / f"{write_segment(folder, items).name}.safetensors"


def nearest_by_hand(queries: NDArray[np.uint8], rows: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Squared distances of the eight nearest rows, in integers."""
    difference = queries[:, None].astype(np.int64) - rows[None].astype(np.int64)
    return np.sort((difference**2).sum(axis=2), axis=1)[:, :8]


@pytest.mark.parametrize("trained", [False, True])
def test_parts_answer_with_true_distances_and_ids(
    tmp_path: Path, trained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # When all lists are looked into, nothing may differ from brute force.
    monkeypatch.setattr(search, "LISTS_PROBED", 1000)
    paths = [random_segment(tmp_path, 20, 15, seed) for seed in (1, 2)]
    empty = tmp_path / f"{build.train(paths, tmp_path).name}.faiss" if trained else None
    (part,) = build.build_parts(empty, paths, 100, "base", tmp_path)
    index = search.open_part(str(tmp_path / f"{part.name}.faiss"))
    rows = np.concatenate([Segment(path).descriptors(0, 300) for path in paths])

    queries = rows[::40]
    distances, ids = search.neighbours([index], queries)

    assert np.array_equal(distances, nearest_by_hand(queries, rows))
    # Row 40 of the first segment is descriptor 10 of its image 2; the segment's first image has the number 100.
    assert (ids[1, 0] >> build.ROW_BITS, ids[1, 0] & build.MAX_ROWS) == (102, 10)
    # Row 320 of both is row 20 of the second segment: descriptor 5 of image 1, behind 20 images.
    assert (ids[8, 0] >> build.ROW_BITS, ids[8, 0] & build.MAX_ROWS) == (121, 5)


def test_the_same_segments_give_the_same_bytes(tmp_path: Path) -> None:
    paths = [random_segment(tmp_path, 30, 100, seed) for seed in (1, 2)]
    trained = [build.train(paths, tmp_path / folder) for folder in "ab"]
    assert trained[0] == trained[1]
    empty = tmp_path / "a" / f"{trained[0].name}.faiss"
    assert build.build_parts(empty, paths, 0, "base", tmp_path) == build.build_parts(empty, paths, 0, "base", tmp_path)


def test_large_parts_are_split_and_only_a_small_last_one_stays_a_delta(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "PART_LIMIT", 250)
    paths = [random_segment(tmp_path, 10, 10, seed) for seed in range(5)]
    parts = build.build_parts(None, paths, 7, "delta", tmp_path)
    assert [(part.role, part.first_image, part.descriptors) for part in parts] == [
        ("base", 7, 200),
        ("base", 27, 200),
        ("delta", 47, 100),
    ]
    assert [name for part in parts for name in part.segments] == [path.stem for path in paths]


def test_an_image_with_more_descriptors_than_ids_is_refused(tmp_path: Path) -> None:
    path = random_segment(tmp_path, 1, build.MAX_ROWS + 1, 0)
    with pytest.raises(ValueError, match="4096 descriptors in one image"):
        build.build_parts(None, [path], 0, "base", tmp_path)


def test_the_number_of_lists_grows_with_the_square_root() -> None:
    assert [build.lists_for(n) for n in (1, 16, 40_000, 1_500_000, 2_500_000, 500_000_000)] == [
        1, 4, 128, 1024, 1024, 16384
    ]  # fmt: skip
