import cv2
import pytest

from pipeline.features.segments import write_segment
from pipeline.features.sift import extract
from pipeline.index import growth, recognise
from pipeline.index.build import Span, build_part
from pipeline.index.evaluate import evaluate, passes
from pipeline.index.generations import Generations
from pipeline.index.manifest import Manifest

from .conftest import Add, Picture


@pytest.fixture
def manifest(generations: Generations, add: Add, pictures: list[Picture]) -> Manifest:
    uri = growth.append(generations, generations.current(), [add(pictures)])
    assert uri is not None
    return generations.load(uri)


def originals(pictures: list[Picture]) -> dict[object, bytes]:
    return {one.id: cv2.imencode(".png", one.pixels)[1].tobytes() for one in pictures}


def test_a_good_generation_finds_its_own_images(
    manifest: Manifest, generations: Generations, pictures: list[Picture]
) -> None:
    stored = originals(pictures)
    recall = evaluate(manifest, generations.files, stored.get, 16, seed=0)
    assert recall.queries + recall.unrecognisable == 16
    assert recall.queries >= 10
    assert recall.recall_at_1 >= 0.9
    assert recall == evaluate(manifest, generations.files, stored.get, 16, seed=0)


def test_parts_that_hold_other_images_than_the_manifest_says_do_not_pass(
    manifest: Manifest, generations: Generations, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a collection this small even wrong votes would bring every image to the second stage.
    monkeypatch.setattr(recognise, "VERIFIED", 1)
    stored = originals(pictures)
    folder = generations.files.folder("segments")
    turned = write_segment(folder, [(one.id, one.features) for one in pictures[::-1]])
    span = Span.model_validate(manifest.parts[0].model_dump())
    paths = [folder / f"{turned.name}.safetensors"]
    wrong = build_part(manifest.choice, None, paths, span, "base", generations.files.folder("parts"), threads=1)
    broken = manifest.model_copy(update={"parts": [wrong]})

    good = evaluate(manifest, generations.files, stored.get, 20, seed=0)
    bad = evaluate(broken, generations.files, stored.get, 20, seed=0)

    assert bad.queries == good.queries
    assert not passes(bad, good)


def test_pictures_that_nobody_could_recognise_do_not_count_against_the_index(
    manifest: Manifest, generations: Generations, pictures: list[Picture]
) -> None:
    stored = originals(pictures)
    swapped = dict(zip(stored, [*list(stored.values())[1:], b""], strict=True))
    del swapped[pictures[-1].id]
    recall = evaluate(manifest, generations.files, swapped.get, 12, seed=0)
    assert recall.queries == 0
    assert recall.unrecognisable >= 11
    assert recall.recall_at_1 == 1.0


def smaller(picture: Picture) -> Picture:
    """What somebody else might have of the same picture."""
    small = cv2.resize(picture.pixels, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    pixels = cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], cv2.IMREAD_COLOR)
    gray = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    return Picture(type(picture.id)(int=picture.id.int + 1000), pixels, extract(gray, 500), picture.photo)


def test_of_near_duplicates_finding_either_is_right(
    generations: Generations, pictures: list[Picture], add: Add
) -> None:
    copies = [smaller(one) for one in pictures]
    uri = growth.append(generations, generations.current(), [add(pictures), add(copies)])
    assert uri is not None
    doubled = generations.load(uri)
    recall = evaluate(doubled, generations.files, originals([*pictures, *copies]).get, 20, seed=0)
    assert recall.queries >= 10
    assert recall.recall_at_1 >= 0.9
