import threading
import time
from uuid import UUID

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import NoFeatures
from pipeline.features.photo import Photo
from pipeline.features.sift import Features
from pipeline.index import growth
from pipeline.index import reader as module
from pipeline.index.generations import Generations
from pipeline.index.reader import Reader
from pipeline.settings import Settings
from pipeline.stores.catalog import Catalog
from pipeline.stores.objects import Objects

from .conftest import Add, Picture, append, elsewhere


def png(gray: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", gray)[1].tobytes()


def recognised(reader: Reader, pictures: list[Picture]) -> int:
    found = [(reader.search(one.photo, 5, 0.5), one.id) for one in pictures]
    return sum(bool(matches) and matches[0].image_id == wanted for matches, wanted in found)


def test_finds_what_was_published_and_follows_the_pointer(
    generations: Generations, add: Add, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.05)
    with Reader(generations) as reader:
        assert reader.manifest is None
        assert reader.search(pictures[0].photo, 5, 0.0) == []
        append(generations, add(pictures))
        deadline = time.monotonic() + 20
        while reader.manifest is None:
            assert time.monotonic() < deadline, reader.last_error
            time.sleep(0.01)
        assert recognised(reader, pictures) >= 0.9 * len(pictures)


def test_no_query_fails_while_generations_are_swapped(
    generations: Generations, add: Add, pictures: list[Picture]
) -> None:
    append(generations, add(pictures[:4]))
    always = max(pictures[:4], key=lambda one: len(one.photo))
    reader = Reader(generations)
    reader.refresh()
    stop, answers, errors = threading.Event(), [], []

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.append(reader.search(always.photo, 1, 0.0)[0].image_id)
            except Exception as error:
                errors.append(error)
                return

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
    served = set()
    for one in pictures[4:16]:
        append(generations, add([one]))
        assert reader.refresh()
        served.add(reader.manifest and reader.manifest.id)
    stop.set()
    for client in clients:
        client.join()
    reader.stop()

    assert errors == []
    assert len(served) == 12
    assert len(answers) > 12
    assert set(answers) == {always.id}


@pytest.mark.parametrize("damage", ["flipped", "missing", "foreign", "no manifest"])
def test_a_broken_generation_is_never_served(
    generations: Generations,
    add: Add,
    pictures: list[Picture],
    settings: Settings,
    objects: Objects,
    catalog: Catalog,
    damage: str,
) -> None:
    append(generations, add(pictures[:4]))
    # The reader is another machine: it has its own disk.
    reader = Reader(elsewhere(generations))
    assert reader.refresh()
    good = reader.manifest

    uri = growth.append(generations, generations.current(), [add(pictures[4:6])])
    assert uri is not None
    new = generations.load(uri)
    bucket, part = settings.sleeve_bucket, f"parts/{new.parts[-1].name}.faiss"
    whole, manifest = objects.get(bucket, part), new.model_dump_json().encode()
    manifest_key = uri.removeprefix(f"s3://{bucket}/")
    if damage == "flipped":
        objects.put(bucket, part, whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    elif damage == "missing":
        objects.delete(bucket, part)
    elif damage == "foreign":
        swapped = new.model_copy(
            update={"parts": [*new.parts[:-1], new.parts[-1].model_copy(update={"descriptors": 7})]}
        )
        objects.put(bucket, manifest_key, swapped.model_dump_json().encode())
    else:
        objects.put(bucket, manifest_key, manifest[: len(manifest) // 2])
    catalog.publish_generation(new.id, new.parent)

    assert not reader.refresh()
    assert reader.manifest == good
    assert reader.last_error is not None
    assert reader.last_error.startswith("BrokenGeneration")
    assert recognised(reader, pictures[:4]) >= 3

    objects.put(bucket, part, whole)
    objects.put(bucket, manifest_key, manifest)
    assert reader.refresh()
    assert reader.last_error is None
    assert recognised(reader, pictures[:6]) >= 5
    reader.stop()


def test_deleted_images_are_not_found(
    generations: Generations, add: Add, pictures: list[Picture], catalog: Catalog
) -> None:
    append(generations, add(pictures[:6]))
    reader = Reader(generations)
    reader.refresh()
    found = next(one for one in pictures[:6] if reader.search(one.photo, 1, 0.5))
    assert [match.image_id for match in reader.search(found.photo, 1, 0.5, catalog.alive)] == [found.id]

    catalog.delete([found.id], "test")

    assert found.id not in {match.image_id for match in reader.search(found.photo, 5, 0.0, catalog.alive)}
    reader.stop()


def test_an_image_in_two_segments_is_found_once(generations: Generations, add: Add, pictures: list[Picture]) -> None:
    append(generations, add(pictures[:6]))
    append(generations, add(pictures[:3]))
    reader = Reader(generations)
    reader.refresh()
    for one in pictures[:3]:
        ids: list[UUID] = [match.image_id for match in reader.search(one.photo, 5, 0.0)]
        assert len(ids) == len(set(ids))
    assert recognised(reader, pictures[:3]) >= 2
    reader.stop()


def test_noise_finds_nothing_and_blank_paper_says_so(
    generations: Generations, add: Add, pictures: list[Picture], settings: Settings
) -> None:
    append(generations, add(pictures))
    reader = Reader(generations)
    reader.refresh()
    rng = np.random.default_rng(0)
    noise: np.ndarray = rng.integers(0, 256, (512, 400), np.uint8)
    assert reader.search(Photo(png(noise), settings), 5, 0.5) == []
    nonsense = Features(rng.random((200, 4), np.float32), rng.integers(0, 256, (200, 128), np.uint8), (1.0, 1.0))
    assert reader.search(nonsense, 5, 0.5) == []
    with pytest.raises(NoFeatures):
        reader.search(Photo(png(np.full((512, 400), 255, np.uint8)), settings), 5, 0.5)
    reader.stop()
