"""Sample covers and snapshots: always the same, all different, and findable."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.samples import cover, cover_jpeg, cover_label, cover_title, snapshot, snapshot_jpeg, write_covers
from pipeline.samples.names import GENRES, record

ROOT = Path(__file__).parents[1]

# "The same bytes on every machine" is the contract, so these four are copied from output: there is nothing else to
# compare with. They change when the generator does, or when requirements.txt takes a new OpenCV, Pillow or NumPy;
# published benchmark numbers are then of another set of pictures.
DIGESTS = {
    "covers": "d50eaaa128a6bff1",
    "snapshots": "39822747271cb916",
    "cover files": "aa496031ba1f409b",
    "snapshot files": "0940e63bf6652c74",
}

DIGEST_SCRIPT = """
import hashlib, json, sys
import cv2
from pipeline.samples import cover, cover_jpeg, snapshot, snapshot_jpeg
cv2.setNumThreads(int(sys.argv[1]))
def digest(parts):
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
covers = [cover(number) for number in range(30)]
print(json.dumps({
    "covers": digest(c.tobytes() for c in covers),
    "snapshots": digest(snapshot(c, seed).tobytes() for seed, c in enumerate(covers[:12])),
    "cover files": digest(cover_jpeg(number, 512) for number in range(6)),
    "snapshot files": digest(snapshot_jpeg(c, seed) for seed, c in enumerate(covers[:6])),
}))
"""

# each library told to do without the CPU's vector units (libjpeg-turbo: JSIMD), as an older CPU would
PLAIN_CPU = {
    "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,FMA3,AVX,FP16,SSE4.2,SSE4.1,SSSE3,POPCNT",
    "OPENCV_IPP": "disabled",
    "JSIMD_FORCENONE": "1",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 X86_V3 AVX512_ICL AVX512_SPR",
}


@pytest.mark.parametrize(
    ("environment", "threads"),
    [({}, 1), ({}, 8), (PLAIN_CPU, 1), ({"OPENCV_CPU_DISABLE": "AVX512-SKX"}, 2), ({"OPENCV_IPP": "sse42"}, 1)],
    ids=["one thread", "eight threads", "no vector units", "no AVX-512", "old IPP"],
)
def test_the_same_bytes_on_every_machine(environment: dict[str, str], threads: int) -> None:
    command = [sys.executable, "-W", "ignore", "-c", DIGEST_SCRIPT, str(threads)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == DIGESTS


def test_a_cover_does_not_depend_on_what_was_drawn_before() -> None:
    first = cover(7, 256)
    cover(8, 300)
    snapshot(first, 3)
    np.testing.assert_array_equal(cover(7, 256), first)


def test_covers_differ() -> None:
    thumbnails = np.stack([cv2.resize(cover(k, 128), (16, 16), interpolation=cv2.INTER_AREA) for k in range(400)])
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.int32)
    for number, thumbnail in enumerate(flat[:-1]):
        nearest = np.abs(flat[number + 1 :] - thumbnail).mean(axis=1).min()
        assert nearest > 4, f"cover {number} has a twin {nearest:.1f} grey levels away"


def test_a_cover_looks_the_same_at_any_size() -> None:
    for number in range(12):
        small = cover(number, 256).astype(np.int32)
        large = cv2.resize(cover(number, 1024), (256, 256), interpolation=cv2.INTER_AREA)
        assert np.abs(small - large).mean() < 12


def test_labels_cover_every_genre_and_titles_vary() -> None:
    assert {cover_label(number) for number in range(300)} == set(GENRES)
    assert len({cover_title(number) for number in range(300)}) > 290


@pytest.mark.parametrize("size", [127, 4097])
def test_an_odd_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=str(size)):
        cover(0, size)


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        cover(-1)


def test_a_jpeg_shows_the_cover() -> None:
    decoded = cv2.imdecode(np.frombuffer(cover_jpeg(4, 300), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded.astype(np.int32) - cover(4, 300)).mean() < 6


PINK = (203, 0, 255)


def _pink_box(frame: np.ndarray) -> tuple[float, int, int]:
    """Share of its bounding box that the pink picture fills, and the box's width and height in pixels."""
    blue, green, red = np.moveaxis(frame.astype(np.int32), 2, 0)
    rows, columns = np.nonzero((red - green > 110) & (blue - green > 90))
    height, width = int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1
    return len(rows) / (height * width), width, height


@pytest.mark.parametrize(("width", "height"), [(800, 800), (300, 1200), (1600, 500), (64, 64)])
def test_a_calm_snapshot_shows_the_picture_straight_and_large(width: int, height: int) -> None:
    picture = np.full((height, width, 3), PINK, np.uint8)
    for seed in range(8):
        frame = snapshot(picture, seed, strength=0)
        assert frame.shape in {(720, 960, 3), (960, 720, 3)}
        full, wide, tall = _pink_box(frame)
        assert full > 0.98
        assert wide / tall == pytest.approx(width / height, rel=0.05)
        assert 0.49 < max(wide / frame.shape[1], tall / frame.shape[0]) < 0.96


def test_strength_turns_the_picture() -> None:
    picture = np.full((800, 800, 3), PINK, np.uint8)
    boxes = [_pink_box(snapshot(picture, seed, strength=0.2)) for seed in range(6)]
    assert min(full for full, _, _ in boxes) < 0.92


@pytest.mark.parametrize(
    ("picture", "seed", "strength"),
    [
        (np.zeros((50, 50), np.uint8), 0, 1.0),
        (np.zeros((50, 50, 3), np.float32), 0, 1.0),
        (np.zeros((0, 50, 3), np.uint8), 0, 1.0),
        (np.zeros((50, 50, 3), np.uint8), -1, 1.0),
        (np.zeros((50, 50, 3), np.uint8), 0, 2.5),
    ],
)
def test_a_snapshot_refuses_what_it_cannot_take(picture: np.ndarray, seed: int, strength: float) -> None:
    with pytest.raises(ValueError, match=r"snapshot takes|seed must"):
        snapshot(picture, seed, strength)


Features = tuple[np.ndarray, np.ndarray]


def _features(image: np.ndarray) -> Features:
    """RootSIFT of `image` fitted into 512 pixels: points (n, 2) and descriptors (n, 128)."""
    scale = 512 / max(image.shape[:2])
    grey = cv2.cvtColor(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    keypoints, descriptors = cv2.SIFT_create(500).detectAndCompute(grey, None)
    return np.array([k.pt for k in keypoints], np.float32), np.sqrt(
        descriptors / descriptors.sum(axis=1, keepdims=True)
    )


def _inliers(query: Features, cover_: Features) -> int:
    """Different keypoints of the cover that one homography matches."""
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(query[1], cover_[1], 2)
    good = {best.trainIdx: best for best, second in pairs if best.distance < 0.75 * second.distance}
    if len(good) < 6:
        return 0
    here = query[0][[match.queryIdx for match in good.values()]]
    _, mask = cv2.findHomography(here, cover_[0][list(good)], cv2.RANSAC, 4.0, maxIters=500)
    return 0 if mask is None else int(mask.sum())


def _check_found(numbers: list[int], queries: int) -> None:
    """Snapshots find their cover among `numbers`; one may fail, as one in a hundred is blurred or glared beyond use."""
    covers, missed = [_features(cover(number)) for number in numbers], []
    for place in range(queries):
        photo = cv2.imdecode(np.frombuffer(snapshot_jpeg(cover(numbers[place]), place), np.uint8), cv2.IMREAD_COLOR)
        query = _features(photo)
        inliers = [_inliers(query, each) for each in covers]
        own = inliers.pop(place)
        if own < 12 or own < 1.5 * max(inliers):
            missed.append(f"cover {numbers[place]}: {own} inliers, another cover {max(inliers)}")
    assert len(missed) <= 1, missed


def test_a_snapshot_finds_its_cover() -> None:
    _check_found(list(range(24)), queries=12)


def test_a_snapshot_finds_its_cover_among_those_of_the_same_series() -> None:
    _check_found([number for number in range(1500) if record(number).series == 3][:12], queries=8)


def test_even_a_plain_cover_has_keypoints_to_be_found_by() -> None:
    assert min(len(_features(cover(number))[0]) for number in range(40)) >= 80


def test_write_covers_takes_up_where_it_stopped(tmp_path: Path) -> None:
    paths = sorted(write_covers(tmp_path, 6, start=40, processes=2))
    assert paths == sorted(tmp_path.rglob("*.*"))
    assert {(path.parent.name, path.name) for path in paths} == {
        (cover_label(number), f"cover_{number:06d}.jpg") for number in range(40, 46)
    }
    lost, kept = paths[0], paths[1]
    lost.unlink()
    kept.write_bytes(b"somebody's own")
    assert sorted(write_covers(tmp_path, 6, start=40, processes=2)) == paths
    assert kept.read_bytes() == b"somebody's own"
    assert lost.read_bytes() == cover_jpeg(int(lost.stem.removeprefix("cover_")))


def test_write_covers_stops_when_the_caller_does(tmp_path: Path) -> None:
    covers = write_covers(tmp_path, 200, processes=1)
    next(covers)
    covers.close()
    written = list(tmp_path.rglob("*.*"))
    assert 0 < len(written) < 100
    assert all(cv2.imread(str(path)) is not None for path in written)
