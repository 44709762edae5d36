"""What a search finds, on an index of covers that needs no server."""

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from bench.indexed import choose_for, index, open_index, open_segments
from bench.sets import contact_sheet
from pipeline.features.photo import Photo
from pipeline.features.segments import write_segment
from pipeline.features.sift import Features
from pipeline.index.opened import OpenGeneration
from pipeline.index.recognise import Match, Wanted, recognise
from pipeline.samples import cover, snapshot
from pipeline.settings import Settings

COVERS = 40
SETTINGS = Settings.of({})


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def opened_from(items: Sequence[Sequence[tuple[UUID, Features]]], home: Path) -> OpenGeneration:
    """A collection of these segments."""
    segments = [write_segment(home / "segments", some) for some in items]
    manifest = index(segments, choose_for(segments, SETTINGS), home, threads=2)
    return open_index(manifest, open_segments(manifest, home), home)


@pytest.fixture(scope="module")
def described() -> list[tuple[UUID, Features]]:
    return [(UUID(int=number), Photo(jpeg(cover(number)), SETTINGS).features) for number in range(COVERS)]


@pytest.fixture(scope="module")
def collection(described: list[tuple[UUID, Features]], tmp_path_factory: pytest.TempPathFactory) -> OpenGeneration:
    return opened_from([described[:30], described[30:]], tmp_path_factory.mktemp("collection"))


def numbers(matches: Sequence[Match]) -> list[int]:
    return [match.image_id.int for match in matches]


def ask(collection: OpenGeneration, pixels: NDArray[np.uint8], wanted: Wanted | None = None) -> list[Match]:
    return recognise(collection, Photo(jpeg(pixels), SETTINGS), wanted or Wanted())


def centre(match: Match) -> list[float]:
    return list(match.geometry.polygon.mean(axis=0))


def test_a_snapshot_finds_its_cover_and_one_of_a_stranger_nothing(collection: OpenGeneration) -> None:
    for number in range(0, COVERS, 6):
        found = ask(collection, snapshot(cover(number), number))
        assert numbers(found) == [number]
        assert 0.5 <= found[0].score <= 1
    for number in range(900, 904):
        assert ask(collection, snapshot(cover(number), number)) == []


def test_a_mirrored_photo_is_found_and_lies_where_it_is_seen(collection: OpenGeneration) -> None:
    photo = snapshot(cover(5), 3, 0.5)
    (straight,), (mirrored,) = ask(collection, photo), ask(collection, np.ascontiguousarray(photo[:, ::-1]))
    assert (straight.image_id, straight.mirrored) == (mirrored.image_id, False)
    assert mirrored.mirrored
    assert mirrored.stage == "mirror"
    width = photo.shape[1] / max(photo.shape[:2])
    expected = straight.geometry.polygon * [-1, 1] + [width, 0]
    assert mirrored.geometry.polygon == pytest.approx(expected, abs=0.02)
    assert np.linalg.det(mirrored.geometry.homography) < 0 < np.linalg.det(straight.geometry.homography)


def test_twelve_covers_in_one_snapshot_are_found_each_in_its_place(collection: OpenGeneration) -> None:
    shown = list(range(6, 18))
    sheet = contact_sheet([cover(number) for number in shown])
    plain = ask(collection, sheet, Wanted(top_n=30))
    assert sorted(numbers(plain)) == shown
    for match in plain:
        place = shown.index(match.image_id.int)
        x, y = centre(match)
        assert (round(y * 1600 // 400), round(x * 1600 // 400)) == divmod(place, 4)

    photographed = numbers(ask(collection, snapshot(sheet, 1, 0.5, 1920), Wanted(top_n=30)))
    assert len(photographed) == len(set(photographed)) >= 11
    assert set(photographed) <= set(shown)
    assert len(ask(collection, sheet, Wanted(top_n=4))) == 4


def test_a_photo_from_the_side_is_found(collection: OpenGeneration) -> None:
    flat = cv2.resize(cover(9), (240, 640), interpolation=cv2.INTER_AREA)
    side = np.full((800, 800, 3), 90, np.uint8)
    side[80:720, 280:520] = flat
    (match,) = ask(collection, side)
    assert match.image_id.int == 9
    assert match.stage == "slant"
    assert centre(match) == pytest.approx([0.5, 0.5], abs=0.02)


def test_half_a_cover_is_enough(collection: OpenGeneration) -> None:
    photo = snapshot(cover(12), 8, 0.5)
    whole = ask(collection, photo)[0].geometry.polygon * max(photo.shape[:2])
    left, right = whole[[0, 3]].astype(int), ((whole[[0, 3]] + whole[[1, 2]]) / 2).astype(int)
    cv2.fillPoly(photo, [np.array([left[0], right[0], right[1], left[1]])], (40, 40, 40))
    assert numbers(ask(collection, photo)) == [12]


def test_only_the_wanted_are_answers(collection: OpenGeneration) -> None:
    sheet = contact_sheet([cover(number) for number in range(12)])
    only = {UUID(int=number) for number in (3, 7, 20, 21)} | {UUID(int=10**6)}
    found = ask(collection, sheet, Wanted(top_n=30, only=only))
    assert sorted(numbers(found)) == [3, 7]
    assert ask(collection, snapshot(cover(3), 1), Wanted(only=set())) == []


def test_the_deleted_are_no_answers(collection: OpenGeneration) -> None:
    photo = snapshot(cover(4), 2, 0.5)
    assert numbers(ask(collection, photo)) == [4]
    assert ask(collection, photo, Wanted(alive=lambda ids: set(ids) - {UUID(int=4)})) == []


def test_copies_are_all_found_and_an_image_in_two_segments_once(
    described: list[tuple[UUID, Features]], tmp_path: Path
) -> None:
    copies = [(UUID(int=1000 + copy), described[2][1]) for copy in range(3)]
    collection = opened_from([described[:20], copies, described[:5]], tmp_path)
    found = ask(collection, snapshot(cover(2), 6, 0.5), Wanted(top_n=10))
    assert sorted(numbers(found)) == [2, 1000, 1001, 1002]


def test_an_image_is_known_by_its_id(collection: OpenGeneration, described: list[tuple[UUID, Features]]) -> None:
    number = collection.number(UUID(int=33))
    assert number is not None
    assert collection.image_id(number) == UUID(int=33)
    assert np.array_equal(collection.features(number).descriptors, described[33][1].descriptors)
    assert collection.number(UUID(int=10**9)) is None


def test_an_empty_collection_knows_nothing(tmp_path: Path) -> None:
    assert ask(opened_from([], tmp_path), snapshot(cover(1), 1)) == []
