from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from pipeline.errors import BrokenGeneration, CannotRollBack
from pipeline.index import growth, history
from pipeline.index.generations import Generations
from pipeline.index.manifest import Manifest
from pipeline.index.opened import OpenGeneration
from pipeline.index.reader import Reader
from pipeline.settings import Settings
from pipeline.stores.catalog import Catalog

from .conftest import Add, Picture, append, elsewhere, everything, only, publish, rebuild


@pytest.fixture
def grow(generations: Generations, add: Add, catalog: Catalog):
    """Append pictures as the DAG does: the catalogue hears of it."""

    def one(pictures: list[Picture]) -> Manifest:
        grown = append(generations, add(pictures))
        catalog.indexed(catalog.featured_segments())
        return grown

    return one


def states(generations: Generations) -> dict[str, str]:
    return {entry.manifest.id: entry.state for entry in history.entries(generations)}


def statuses(catalog: Catalog, pictures: list[Picture]) -> list[str]:
    found = catalog.find([one.id for one in pictures], ["status"])
    return [found[one.id]["status"] for one in pictures]


def images(generations: Generations, manifest: Manifest) -> set[UUID]:
    opened = OpenGeneration.open(manifest, generations.files)
    return {opened.image_id(number) for number in range(len(opened))}


def test_rolling_back_serves_the_parent_and_brings_later_images_again(
    generations: Generations, grow, pictures: list[Picture], catalog: Catalog
) -> None:
    first, second, third = grow(pictures[:4]), grow(pictures[4:6]), grow(pictures[6:8])

    assert history.roll_back(generations) == second
    assert generations.current_id() == second.id
    assert statuses(catalog, pictures[:8]) == ["indexed"] * 6 + ["featured"] * 2
    assert states(generations) == {third.id: "rolled back", second.id: "current", first.id: "published"}

    again = publish(generations, growth.append(generations, second, catalog.featured_segments()))
    assert images(generations, again) == {one.id for one in pictures[:8]}


def test_what_was_gone_back_over_is_never_published_again(
    generations: Generations, grow, pictures: list[Picture]
) -> None:
    first, second, third = grow(pictures[:4]), grow(pictures[4:6]), grow(pictures[6:8])
    history.roll_back(generations, first.id)
    # Late retries of their publish tasks. The parent of the one is current again.
    assert not generations.publish(generations.uri(second.id))
    assert not generations.publish(generations.uri(third.id))
    assert generations.current_id() == first.id


def test_a_rebuild_that_was_gone_back_over_does_not_come_again_under_another_name(
    generations: Generations, grow, pictures: list[Picture]
) -> None:
    grow(pictures[:4])
    planned = generations.load(growth.rebuild(generations, generations.current(), [], "test"))
    current = grow(pictures[4:6])
    rebased = publish(generations, growth.rebase(generations, planned, current))
    assert history.roll_back(generations) == current
    assert growth.rebase(generations, planned, current) is None
    assert growth.rebase(generations, rebased, current) is None


def test_one_may_go_forward_again(generations: Generations, grow, pictures: list[Picture], catalog: Catalog) -> None:
    first, second = grow(pictures[:4]), grow(pictures[4:6])
    history.roll_back(generations)
    assert history.roll_back(generations, second.id) == second
    assert states(generations) == {second.id: "current", first.id: "rolled back"}
    assert generations.current_id() == second.id


def test_rolling_back_may_be_repeated_after_a_crash(
    generations: Generations, grow, pictures: list[Picture], catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = grow(pictures[:4]), grow(pictures[4:6])

    def killed(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "roll_back_generation", killed)
        with pytest.raises(KeyboardInterrupt):
            history.roll_back(generations, first.id)
    # Nothing has changed for searches, and the next append finds that all is as it was.
    assert generations.current_id() == second.id
    assert statuses(catalog, pictures[4:6]) == ["featured"] * 2
    assert growth.append(generations, second, catalog.featured_segments()) is None

    assert history.roll_back(generations, first.id) == first
    assert history.roll_back(generations, first.id) == first
    assert statuses(catalog, pictures[:6]) == ["indexed"] * 4 + ["featured"] * 2


def test_images_whose_segment_is_gone_start_over(
    generations: Generations, grow, pictures: list[Picture], catalog: Catalog, settings: Settings
) -> None:
    first, second = grow(pictures[:4]), grow(pictures[4:6])
    generations.objects.delete(settings.sleeve_bucket, f"segments/{second.segments[-1].name}.safetensors")
    history.roll_back(generations, first.id)
    assert statuses(catalog, pictures[4:6]) == ["pending"] * 2
    assert catalog.find([pictures[4].id])[pictures[4].id]["segment"] is None


@pytest.mark.parametrize("kind", ["segments", "parts", "trained"])
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_nobody_goes_back_to_a_generation_with_broken_files(
    generations: Generations,
    grow,
    pictures: list[Picture],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    damage: str,
) -> None:
    only(monkeypatch, "sq8")
    first, second = grow(pictures[:4]), grow(pictures[4:6])
    key = next(key for key in first.files() if key.startswith(kind))
    data = bytearray(generations.objects.get(settings.sleeve_bucket, key))
    if damage == "missing":
        generations.objects.delete(settings.sleeve_bucket, key)
    else:
        data[len(data) // 2] ^= 1
        generations.objects.put(settings.sleeve_bucket, key, bytes(data))
    with pytest.raises(BrokenGeneration, match=key.split("/")[1].split(".")[0]):
        history.roll_back(generations)
    assert generations.current_id() == second.id


def test_there_must_be_something_to_go_back_to(
    generations: Generations, add: Add, grow, pictures: list[Picture]
) -> None:
    with pytest.raises(CannotRollBack, match="nothing is published"):
        history.roll_back(generations)
    first = grow(pictures[:4])
    with pytest.raises(CannotRollBack, match="is not kept"):
        history.roll_back(generations)
    unpublished = generations.load(growth.append(generations, first, [add(pictures[4:6])]) or "")
    with pytest.raises(CannotRollBack, match="never published"):
        history.roll_back(generations, unpublished.id)
    with pytest.raises(BrokenGeneration, match="no usable manifest"):
        history.roll_back(generations, "20000101T000000000000-0")


def test_pruning_keeps_the_newest_and_removes_the_files_of_others(
    generations: Generations, grow, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(settings, "keep_generations", 3)
    made = [grow(pictures[:4]), *(grow([one]) for one in pictures[4:9])]
    rebuilt = rebuild(generations)
    made.append(rebuilt)

    assert history.prune(generations)["generations"] == 4

    kept = made[-3:]
    assert generations.stored_ids() == [one.id for one in kept]
    wanted = {key for one in kept for key in one.files()}
    stored = {key for key in everything(generations) if not key.startswith(("generations/", "rebuilds/"))}
    assert stored == wanted
    for one in kept:
        history.check_files(generations, one)
    assert history.prune(generations) == {"generations": 0, "files": 0}


def test_pruning_keeps_what_a_reader_serves_and_what_is_being_made(
    generations: Generations,
    add: Add,
    grow,
    pictures: list[Picture],
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
) -> None:
    monkeypatch.setattr(settings, "keep_generations", 1)
    first = grow(pictures[:4])
    reader = Reader(generations)
    assert reader.refresh()
    second = grow(pictures[4:6])
    third = grow(pictures[6:8])
    late = add(pictures[8:10])
    being_made = generations.load(growth.append(generations, third, [late]) or "")
    old = being_made.model_copy(
        update={"id": "20000101T000000000000-0", "created_at": datetime(2000, 1, 1, tzinfo=UTC)}
    )
    generations.save(old)

    history.prune(generations)

    assert set(generations.stored_ids()) == {first.id, third.id, being_made.id}
    assert [entry.readers for entry in history.entries(generations)] == [0, 0, 1]
    assert second.id not in states(generations)
    assert f"segments/{late}.safetensors" in everything(generations)
    reader.stop()
    history.prune(generations)
    assert set(generations.stored_ids()) == {third.id, being_made.id}


def test_a_lease_that_is_not_renewed_expires(
    generations: Generations, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.renew_lease("lease:a", ["g"])
    assert catalog.leases() == {"g": 1}
    monkeypatch.setattr("pipeline.stores.catalog.LEASE", timedelta(seconds=-1))
    catalog.renew_lease("lease:a", ["g"])
    assert catalog.leases() == {}


def test_files_that_nothing_names_are_removed_once_they_are_old(
    generations: Generations, add: Add, grow, pictures: list[Picture], catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(pictures[:4])
    waiting = add(pictures[4:5])
    orphan = add(pictures[5:6])
    catalog.images.delete_one({"_id": pictures[5].id})
    assert history.prune(generations)["files"] == 0
    # Had it been made a day ago.
    monkeypatch.setattr(history, "IN_THE_MAKING", timedelta(seconds=-5))
    history.prune(generations)
    keys = everything(generations)
    assert f"segments/{orphan}.safetensors" not in keys
    assert f"segments/{waiting}.safetensors" in keys
    assert not any(key.startswith("rebuilds/") for key in keys)


def test_deleted_pictures_are_gone_from_bucket_and_disk_and_the_others_are_still_found(
    generations: Generations, grow, pictures: list[Picture], catalog: Catalog
) -> None:
    reader = Reader(generations)
    before = grow(pictures[:8])
    grow(pictures[8:12])
    assert reader.refresh()
    found = {one.id for one in pictures[:12] if [m.image_id for m in reader.search(one.photo, 1, 0.5)] == [one.id]}
    catalog.delete([pictures[1].id, pictures[9].id], "test")
    doomed = [segment.name for segment in generations.load(generations.uri(generations.current_id() or "")).segments]

    rebuilt = rebuild(generations)
    assert sorted(rebuilt.purged) == sorted(doomed)
    # Whoever still serves the old one is not cut off.
    history.prune(generations)
    assert reader.manifest is not None
    assert reader.manifest.id in generations.stored_ids()
    assert reader.refresh()
    history.prune(generations)

    assert generations.stored_ids() == [rebuilt.id]
    assert before.id not in generations.stored_ids()
    for name in doomed:
        assert f"segments/{name}.safetensors" not in everything(generations)
        assert not (generations.files.folder("segments") / f"{name}.safetensors").exists()
    living = found - {pictures[1].id, pictures[9].id}
    assert living == {
        one.id for one in pictures[:12] if [m.image_id for m in reader.search(one.photo, 1, 0.5)] == [one.id]
    }
    reader.stop()


def test_other_machines_drop_from_their_disk_what_the_store_dropped(
    generations: Generations, grow, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = elsewhere(generations)
    first = grow(pictures[:4])
    own.fetch_segments(first.segments)
    kept = own.files.download(next(iter(grow(pictures[4:6]).files())))
    stale = own.files.download(next(key for key in first.files() if key.startswith("parts")))
    generations.files.remove(f"parts/{stale.name}")
    own.files.clean(set())
    assert stale.exists()  # too young: it might be on its way up
    monkeypatch.setattr("pipeline.index.files.BEING_WRITTEN", -5)
    own.files.clean(set())
    assert not stale.exists()
    assert kept.exists()


def test_an_append_that_counts_images_as_indexed_meanwhile_loses_none(
    generations: Generations, grow, pictures: list[Picture], catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(pictures[:4])
    grow(pictures[4:6])
    roll_back = Catalog.roll_back_generation

    def meanwhile(self: Catalog, *arguments) -> bool:
        self.indexed(self.featured_segments())
        return roll_back(self, *arguments)

    monkeypatch.setattr(Catalog, "roll_back_generation", meanwhile)
    history.roll_back(generations)
    assert statuses(catalog, pictures[4:6]) == ["featured"] * 2
