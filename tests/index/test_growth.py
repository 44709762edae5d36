import hashlib
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from pipeline.errors import BrokenGeneration, IndexTooLarge, ObjectMissing
from pipeline.index import build, compaction, growth, rules
from pipeline.index.generations import Generations
from pipeline.index.manifest import Manifest, Recall
from pipeline.index.opened import OpenGeneration
from pipeline.index.recognise import Wanted, recognise
from pipeline.settings import Settings
from pipeline.stores.catalog import Catalog
from pipeline.stores.objects import Objects, parse_s3_uri

from .conftest import FEATURES, Add, Picture, append, elsewhere, everything, only, publish, rebuild

Answers = list[list[tuple[UUID, int]]]


def answers(manifest: Manifest, generations: Generations, pictures: list[Picture]) -> Answers:
    """What the snapshots find, and with how many inliers."""
    opened = OpenGeneration.open(manifest, generations.files)
    return [
        [(match.image_id, match.geometry.inliers) for match in recognise(opened, one.photo, Wanted(5, 0.0))]
        for one in pictures
    ]


def test_the_same_segments_again_make_no_generation(
    generations: Generations, add: Add, pictures: list[Picture]
) -> None:
    name = add(pictures[:3])
    first = append(generations, name)
    assert (first.kind, first.counts.images, first.reason) == ("rebuild", 3, "first generation")
    assert growth.append(generations, generations.current(), [name, name]) is None
    assert growth.append(generations, generations.current(), []) is None


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

    rebuilt = rebuild(generations)

    assert [part.role for part in grown.parts].count("delta") > 1
    assert len(rebuilt.parts) == 1
    # Small segments were joined.
    assert len(rebuilt.segments) == 1
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
    current = generations.current()
    first, second = growth.append(generations, current, [one]), growth.append(generations, current, [other])
    assert first is not None
    assert second is not None

    assert generations.publish(first)
    assert generations.publish(first)  # a retry of the same
    assert not generations.publish(second)

    assert append(generations, other).counts.images == 6


def test_a_rebuild_drops_deleted_images_for_good(
    generations: Generations, add: Add, pictures: list[Picture], catalog: Catalog
) -> None:
    mixed, doomed = add(pictures[:4]), add(pictures[4:6])
    append(generations, mixed, doomed)
    gone = [pictures[1].id, pictures[4].id, pictures[5].id]
    catalog.delete(gone, "test")

    rebuilt = rebuild(generations)

    assert rebuilt.counts.images == 3
    opened = OpenGeneration.open(rebuilt, generations.files)
    kept = [opened.image_id(number) for number in range(len(opened))]
    assert kept == [pictures[0].id, pictures[2].id, pictures[3].id]
    # An append that comes late must not bring them back, nor add the others twice.
    assert growth.append(generations, generations.current(), catalog.featured_segments()) is None
    # The new segment is in the store, not only on this disk.
    assert len(OpenGeneration.open(rebuilt, elsewhere(generations).files)) == 3


def test_a_collection_may_become_empty(
    generations: Generations, add: Add, pictures: list[Picture], catalog: Catalog
) -> None:
    append(generations, add(pictures[:1]))
    catalog.delete([pictures[0].id], "test")
    empty = rebuild(generations)
    assert empty.counts.images == 0
    assert answers(empty, generations, pictures[:1]) == [[]]
    assert append(generations, add(pictures[1:2])).counts.images == 1


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
        growth.append(generations, generations.current(), [name])
    assert not (generations.files.folder("segments") / f"{name}.safetensors").exists()

    objects.delete(bucket, key)
    with pytest.raises(BrokenGeneration, match=f"{name}.*missing"):
        growth.append(generations, generations.current(), [name])


def test_a_copy_that_was_cut_short_is_fetched_again(
    generations: Generations, add: Add, pictures: list[Picture]
) -> None:
    current = append(generations, add(pictures[:2]))
    part = current.parts[0]
    path = generations.files.folder("parts") / f"{part.name}.faiss"
    path.write_bytes(b"")
    assert len(OpenGeneration.open(current, generations.files)) == 2
    assert hashlib.sha256(path.read_bytes()).hexdigest() == part.name


def test_a_manifest_survives_its_file(generations: Generations, add: Add, pictures: list[Picture]) -> None:
    current = append(generations, add(pictures[:2]))
    assert Manifest.model_validate_json(current.model_dump_json()) == current
    with pytest.raises(BrokenGeneration, match="no usable manifest"):
        generations.load(generations.uri("20000101T000000000000-0"))


def test_training_is_on_all_segments(generations: Generations, add: Add, pictures: list[Picture]) -> None:
    segments = [generations.segment_info(add(some)) for some in (pictures[:8], pictures[8:16])]
    paths = generations.fetch_segments(segments)
    rows = sum(one.descriptors for one in segments)
    sample = build._sample(paths, rows // 4)
    assert len(sample) == rows // 4
    first = {row.tobytes() for row in build.Segment(paths[0]).descriptors(0, segments[0].descriptors)}
    share = sum(row.tobytes() in first for row in sample) / len(sample)
    assert share == pytest.approx(segments[0].descriptors / rows, abs=0.1)


def shards(generations: Generations, monkeypatch: pytest.MonkeyPatch, descriptors: int) -> str:
    """Begin a rebuild with shards of at most so many descriptors. Returns the URI of its plan."""
    monkeypatch.setattr(growth, "PART_LIMIT", descriptors)
    uri, spans = growth.plan(generations, generations.current(), [], "test")
    assert len(spans) > 1
    return uri


@pytest.mark.parametrize("codes", ["exact", "sq8", "rabitq", "pq"])
def test_shards_that_are_built_apart_and_merged_answer_like_one(
    generations: Generations,
    add: Add,
    pictures: list[Picture],
    monkeypatch: pytest.MonkeyPatch,
    codes: rules.Codes,
) -> None:
    only(monkeypatch, codes, **({} if codes == "exact" else {"probes": 10_000}))
    monkeypatch.setattr(compaction, "SMALL_IMAGES", 1)
    whole = append(generations, *(add(pictures[start : start + 6]) for start in range(0, 24, 6)))
    assert (len(whole.parts), whole.choice.codes) == (1, codes)

    uri = shards(generations, monkeypatch, 6 * FEATURES)
    made = [growth.build_shard(generations, uri, number, 1) for number in (2, 0, 3, 1)]
    merged = publish(generations, growth.merge(generations, uri))

    assert len(set(made)) == 4
    assert merged.segments == whole.segments
    assert [(part.images, part.descriptors) for part in merged.parts] == [(24, whole.parts[0].descriptors)]
    found = [{one[0] for one in row} for row in answers(merged, generations, pictures)]
    assert found == [{one[0] for one in row} for row in answers(whole, generations, pictures)]


def test_merged_parts_stay_within_the_memory_of_the_index(
    generations: Generations, add: Add, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "SMALL_IMAGES", 1)
    append(generations, *(add(pictures[start : start + 6]) for start in range(0, 24, 6)))
    uri = shards(generations, monkeypatch, 6 * FEATURES)
    shard_bytes = [
        growth.Part.model_validate_json(read(generations, growth.build_shard(generations, uri, n, 1))).bytes
        for n in range(4)
    ]
    monkeypatch.setattr(growth, "MERGED_SHARE", (generations.settings.index_memory_mb << 20) / (2.5 * shard_bytes[0]))
    merged = publish(generations, growth.merge(generations, uri))
    assert [part.images for part in merged.parts] == [12, 12]
    assert len(OpenGeneration.open(merged, generations.files)) == 24


def read(generations: Generations, uri: str) -> bytes:
    return generations.objects.get(*parse_s3_uri(uri))


def test_a_rebuild_may_be_killed_and_repeated_and_run_twice_at_once(
    generations: Generations, add: Add, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "SMALL_IMAGES", 1)
    only(monkeypatch, "sq8")
    append(generations, *(add(pictures[start : start + 6]) for start in range(0, 24, 6)))
    uri = shards(generations, monkeypatch, 6 * FEATURES)
    growth.build_shard(generations, uri, 0, 1)
    with pytest.raises(ObjectMissing):
        # One shard was killed: the merge says what is missing instead of publishing less.
        growth.merge(generations, uri)

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda number: growth.build_shard(generations, uri, number, 1), [0, 0, 1, 1, 2, 2, 3, 3]))
        merged = list(pool.map(lambda _: growth.merge(generations, uri), range(2)))

    assert len(set(made)) == 4
    assert len(set(merged)) == 1
    # Measured after the first merge; a late twin of the merge must not forget it.
    recall = Recall(recall_at_1=0.5, queries=2, unrecognisable=0)
    generations.save(generations.load(merged[0]).model_copy(update={"recall": recall}))
    assert growth.merge(generations, uri) == merged[0]
    assert publish(generations, merged[0]).recall == recall


def test_a_rebuild_is_brought_up_to_date_with_what_was_appended_meanwhile(
    generations: Generations, add: Add, pictures: list[Picture], catalog: Catalog
) -> None:
    append(generations, add(pictures[:8]), add(pictures[8:10]))
    uri = growth.rebuild(generations, generations.current(), [], "test")
    current = append(generations, add(pictures[10:12]))
    assert not generations.publish(uri)

    rebased = publish(generations, growth.rebase(generations, generations.load(uri), current))

    assert (rebased.kind, rebased.parent, rebased.counts.images) == ("rebuild", current.id, 12)
    assert [part.role for part in rebased.parts] == ["base", "delta"]
    opened = OpenGeneration.open(rebased, generations.files)
    assert {opened.image_id(number) for number in range(12)} == {one.id for one in pictures[:12]}
    # Another rebuild that was begun before is of no use any more.
    assert growth.rebase(generations, generations.load(uri), rebased) is None


def test_a_collection_that_does_not_fit_is_refused_before_anything_is_built(
    generations: Generations, add: Add, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    current = append(generations, add(pictures[:4]))
    stored = everything(generations)
    late = add(pictures[4:8])
    monkeypatch.setattr(settings, "index_memory_mb", 0)
    with pytest.raises(IndexTooLarge, match="Raise INDEX_MEMORY_MB"):
        growth.append(generations, current, [late])
    with pytest.raises(IndexTooLarge):
        growth.plan(generations, current, [], "test")
    assert everything(generations) == stored | {f"segments/{late}.safetensors"}


def test_outgrowing_its_kind_is_a_rebuild(
    generations: Generations, add: Add, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    append(generations, add(pictures[:4]))
    only(monkeypatch, "pq")
    grown = append(generations, add(pictures[4:8]))
    assert (grown.kind, grown.choice.codes) == ("rebuild", "pq")
    assert "exact" in grown.reason


def test_what_takes_long_to_rebuild_is_appended_first(
    generations: Generations, add: Add, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    append(generations, add(pictures[:4]))
    only(monkeypatch, "pq")
    monkeypatch.setattr(growth, "REBUILD_AT_ONCE", 10)
    grown = append(generations, add(pictures[4:8]))
    assert (grown.kind, grown.choice.codes) == ("append", "exact")


def test_an_image_in_two_segments_is_kept_once(generations: Generations, add: Add, pictures: list[Picture]) -> None:
    append(generations, add(pictures[:6]), add(pictures[:3]))
    rebuilt = rebuild(generations)
    assert rebuilt.counts.images == 6
    assert rebuilt.purged == []


def test_a_retired_segment_is_remembered_while_anybody_may_bring_it(
    generations: Generations, add: Add, pictures: list[Picture], catalog: Catalog
) -> None:
    names = [add(pictures[:3]), add(pictures[3:6])]
    append(generations, *names)
    rebuilt = rebuild(generations)
    assert sorted(rebuilt.retired) == sorted(names)
    assert growth.append(generations, rebuilt, names) is None
    catalog.indexed(names)
    append(generations, add(pictures[6:7]))
    assert set(names).isdisjoint(rebuild(generations).retired)
