import hashlib
import multiprocessing
import os
import signal
import time
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.errors import BrokenGeneration
from pipeline.features.segments import Segment, write_segment
from pipeline.features.sift import Features


def some_images(count: int, seed: int = 0) -> list[tuple[UUID, Features]]:
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        rows = int(rng.integers(6, 40))
        keypoints = rng.random((rows, 4), np.float32) * np.array([1, 0.75, 0.1, 359], np.float32)
        descriptors = rng.integers(0, 256, (rows, 128), np.uint8)
        images.append((UUID(bytes=rng.bytes(16)), Features(keypoints, descriptors, (1.0, 0.75))))
    return images


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    images = some_images(5)
    info = write_segment(tmp_path, images)
    segment = Segment(tmp_path / f"{info.name}.safetensors")

    assert segment.info == info
    assert segment.ids == [one for one, _ in images]
    for row, (_, features) in enumerate(images):
        stored = segment.image(row)
        assert np.array_equal(stored.descriptors, features.descriptors)
        assert stored.frame == features.frame
        # An eighth of a pixel, a quarter of a degree.
        assert np.abs(stored.keypoints[:, :2] - features.keypoints[:, :2]).max() <= 1 / 8 / 512
        assert np.abs(stored.keypoints[:, 3] - features.keypoints[:, 3]).max() <= 0.25


def test_the_name_follows_from_the_content(tmp_path: Path) -> None:
    images = some_images(3)
    first = write_segment(tmp_path / "a", images)
    second = write_segment(tmp_path / "b", images)
    turned = write_segment(tmp_path / "b", images[::-1])

    assert first == second
    assert turned.name != first.name
    assert [path.name for path in (tmp_path / "a").iterdir()] == [f"{first.name}.safetensors"]
    assert sha256(tmp_path / "a" / f"{first.name}.safetensors") == first.name


def test_a_segment_may_hold_nothing(tmp_path: Path) -> None:
    info = write_segment(tmp_path, [])
    segment = Segment(tmp_path / f"{info.name}.safetensors")
    assert (len(segment), segment.ids, info.images, info.descriptors) == (0, [], 0, 0)


def _write_for_ever(folder: Path) -> None:
    for seed in range(1_000_000):
        write_segment(folder, some_images(50, seed))


def test_a_killed_writer_leaves_only_whole_segments(tmp_path: Path) -> None:
    writer = multiprocessing.get_context("spawn").Process(target=_write_for_ever, args=(tmp_path,))
    writer.start()
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*.safetensors"))) < 20:
        assert time.monotonic() < deadline, "the writer has written nothing"
        time.sleep(0.01)
    os.kill(writer.pid or 0, signal.SIGKILL)
    writer.join()

    for path in tmp_path.glob("*.safetensors"):
        assert sha256(path) == path.stem


def test_a_file_that_is_no_segment_is_refused_by_name(tmp_path: Path) -> None:
    info = write_segment(tmp_path, some_images(3))
    path = tmp_path / f"{info.name}.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BrokenGeneration, match=info.name):
        Segment(path)

    foreign = tmp_path / "foreign.safetensors"
    save_file({"descriptors": np.zeros((1, 128), np.uint8)}, foreign)
    with pytest.raises(BrokenGeneration, match="format"):
        Segment(foreign)
