import hashlib
from pathlib import Path

import pytest

from pipeline.errors import BrokenGeneration
from pipeline.features.segments import SegmentInfo
from pipeline.index import build
from pipeline.index.generations import Generations
from pipeline.index.manifest import Manifest
from pipeline.index.opened import OpenGeneration
from pipeline.settings import Settings
from pipeline.stores.catalog import Catalog
from pipeline.stores.objects import Objects

from .conftest import Add, Picture, only

Answers = list[list[tuple[object, int, float]]]


def answers(manifest: Manifest, generations: Generations, pictures: list[Picture]) -> Answers:
    """What the snapshots find: ids, inliers and votes."""
    opened = OpenGeneration(manifest, generations.files)
    return [
        [(match.image_id, match.geometry.inliers, match.votes) for match in opened.search(one.photo, 5, 0.0)]
        for one in pictures
    ]


def publish(generations: Generations, uri: str | None) -> Manifest:
    assert uri is not None
    assert generations.publish(uri)
    current = generations.current()
    assert current is not None
    return current


def append(generations: Generations, *names: str) -> Manifest:
    return publish(generations, generations.append(names))


def test_the_same_segments_again_make_no_generation(
    generations: Generations, add: Add, pictures: list[Picture]
) -> None:
    name = add(pictures[:3])
    first = append(generations, name)
    assert (first.kind, first.counts.images, first.reason) == ("rebuild", 3, "first generation")
    assert generations.append([name, name]) is None
    assert generations.append([]) is None


@pytest.mark.parametrize("exact", [True, False])
def test_appending_in_pieces_answers_like_a_rebuild(
    generations: Generations, add: Add, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch, exact: bool
) -> None:
    if not exact:
        only(monkeypatch, "sq8", probes=10_000)
    append(generations, add(pictures[:12]))
    for one in pictures[12:]:
        grown = append(generations, add([one]))
    assert grown.kind == "append"
    assert (grown.trained is None) == exact

    rebuilt = publish(generations, generations.rebuild("test"))

    assert [part.role for part in grown.parts].count("delta") > 1
    assert len(rebuilt.parts) == 1
    assert rebuilt.segments == grown.segments
    assert answers(grown, generations, pictures) == answers(rebuilt, generations, pictures)


def test_the_ninth_append_folds_the_deltas_and_leaves_the_base(
    generations: Generations, add: Add, pictures: list[Picture]
) -> None:
    base = append(generations, add(pictures[:8])).parts
    for one in pictures[8:16]:
        eight = append(generations, add([one]))
    assert len(eight.deltas()) == 8

    folded = append(generations, add([pictures[16]]))

    assert folded.parts[:-1] == base
    assert (folded.parts[-1].first_image, folded.parts[-1].images) == (8, 9)
    found = answers(folded, generations, pictures[:17])
    assert sum(row[0][0] == one.id for row, one in zip(found, pictures, strict=False) if row) >= 15


def test_whoever_publishes_second_loses_and_appends_again(
    generations: Generations, add: Add, pictures: list[Picture]
) -> None:
    append(generations, add(pictures[:2]))
    one, other = add(pictures[2:4]), add(pictures[4:6])
    first, second = generations.append([one]), generations.append([other])
    assert first is not None
    assert second is not None

    assert generations.publish(first)
    assert generations.publish(first)  # a retry of the same
    assert not generations.publish(second)

    assert append(generations, other).counts.images == 6


def test_a_rebuild_drops_deleted_images_for_good(
    generations: Generations, add: Add, pictures: list[Picture], catalog: Catalog, settings: Settings, objects: Objects
) -> None:
    mixed, doomed = add(pictures[:4]), add(pictures[4:6])
    append(generations, mixed, doomed)
    gone = [pictures[1].id, pictures[4].id, pictures[5].id]
    catalog.delete(gone, "test")

    rebuilt = publish(generations, generations.rebuild("test"))

    assert rebuilt.counts.images == 3
    opened = OpenGeneration(rebuilt, generations.files)
    kept = [opened.image_id(number) for number in range(len(opened))]
    assert kept == [pictures[0].id, pictures[2].id, pictures[3].id]
    # An append that comes late must not bring them back, nor add the others twice.
    assert generations.append([mixed, doomed]) is None
    # The new segment is in the store, not only on this disk.
    elsewhere = Generations(settings.model_copy(update={"sleeve_home": settings.sleeve_home / "b"}), objects, catalog)
    assert len(OpenGeneration(rebuilt, elsewhere.files)) == 3


def test_a_collection_may_become_empty(
    generations: Generations, add: Add, pictures: list[Picture], catalog: Catalog
) -> None:
    append(generations, add(pictures[:1]))
    catalog.delete([pictures[0].id], "test")
    empty = publish(generations, generations.rebuild("test"))
    assert empty.counts.images == 0
    assert answers(empty, generations, pictures[:1]) == [[]]
    assert append(generations, add(pictures[1:2])).counts.images == 1


def test_no_rebuild_of_nothing(generations: Generations) -> None:
    assert generations.rebuild("test") is None


def test_damaged_and_missing_objects_are_named(
    generations: Generations, add: Add, pictures: list[Picture], objects: Objects, settings: Settings
) -> None:
    name = add(pictures[:2])
    bucket, key = settings.sleeve_bucket, f"segments/{name}.safetensors"
    data = bytearray(objects.get(bucket, key))
    (generations.files.folder("segments") / f"{name}.safetensors").unlink()

    data[len(data) // 2] ^= 1
    objects.put(bucket, key, bytes(data))
    with pytest.raises(BrokenGeneration, match=f"{name}.*damaged"):
        generations.append([name])
    assert not (generations.files.folder("segments") / f"{name}.safetensors").exists()

    objects.delete(bucket, key)
    with pytest.raises(BrokenGeneration, match=f"{name}.*missing"):
        generations.append([name])


def test_a_copy_that_was_cut_short_is_fetched_again(
    generations: Generations, add: Add, pictures: list[Picture]
) -> None:
    current = append(generations, add(pictures[:2]))
    part = current.parts[0]
    path = generations.files.folder("parts") / f"{part.name}.faiss"
    path.write_bytes(b"")
    assert len(OpenGeneration(current, generations.files)) == 2
    assert hashlib.sha256(path.read_bytes()).hexdigest() == part.name


def test_a_manifest_survives_its_file(generations: Generations, add: Add, pictures: list[Picture]) -> None:
    current = append(generations, add(pictures[:2]))
    assert Manifest.model_validate_json(current.model_dump_json()) == current
    with pytest.raises(BrokenGeneration, match="no usable manifest"):
        generations.load(generations.uri("20000101T000000000000-0"))


def test_training_is_on_all_segments(
    generations: Generations, add: Add, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "sq8")
    monkeypatch.setattr(build, "TRAINING_ROWS_PER_LIST", 8)
    names = [add(pictures[:8]), add(pictures[8:16])]
    segments = [SegmentInfo.model_validate(one) for one in append(generations, *names).segments]
    paths: list[Path] = [generations.files.fetch(f"segments/{one.name}.safetensors") for one in segments]
    rows = sum(one.descriptors for one in segments)
    sample = build._sample(paths, rows // 4)
    assert len(sample) == rows // 4
    first = {row.tobytes() for row in build.Segment(paths[0]).descriptors(0, segments[0].descriptors)}
    share = sum(row.astype("uint8").tobytes() in first for row in sample) / len(sample)
    assert share == pytest.approx(segments[0].descriptors / rows, abs=0.1)
