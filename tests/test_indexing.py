"""The steps from segments to a published generation, as the DAGs call them."""

import pytest

from pipeline import indexing
from pipeline.context import Context
from pipeline.errors import RecallTooLow
from pipeline.index import growth
from pipeline.index.manifest import Manifest, Recall

from .steps import bring, index_all


def index(context: Context, *covers: int) -> Manifest:
    """Bring covers in and publish."""
    bring(context, *covers)
    uri = indexing.append(context)
    assert uri is not None
    indexing.evaluate(context, uri)
    assert indexing.publish(context, uri)["published"]
    return current(context)


def current(context: Context) -> Manifest:
    manifest = indexing.generations(context).current()
    assert manifest is not None
    return manifest


def rebuilt(context: Context) -> str:
    """All tasks of a rebuild up to its publishing."""
    shards = indexing.plan(context, "test")
    for shard in shards:
        indexing.build_shard(context, shard["plan"], shard["shard"])
    uri = indexing.merge(context, shards[0]["plan"])
    indexing.evaluate(context, uri)
    return uri


def test_a_rebuild_that_appends_overtake_is_not_lost(context: Context) -> None:
    index(context, 0, 1, 2)
    uri = rebuilt(context)
    late = index(context, 3)

    done = indexing.publish(context, uri)

    now = current(context)
    assert done == {"generation": now.id, "published": True, "images": 4}
    assert (now.kind, now.parent, now.reason) == ("rebuild", late.id, "test")
    assert now.recall is not None
    assert context.catalog.counts()["indexed"] == 4
    # A retry of the task, also after the next append, finds it done.
    assert indexing.publish(context, uri)["generation"] == now.id
    appended = index(context, 4)
    assert indexing.publish(context, uri) == {"generation": appended.id, "published": True, "images": 5}
    assert current(context) == appended


def test_appends_that_never_end_do_not_hold_up_a_rebuild_for_ever(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    index(context, 0, 1)
    uri = rebuilt(context)
    names = iter("abcdefgh")
    evaluate = indexing.evaluate

    def overtaken(context: Context, uri: str) -> Recall:
        own = indexing.generations(context)
        now = current(context)
        again = own.save(now.model_copy(update={"id": f"{now.id}{next(names)}", "parent": now.id, "kind": "append"}))
        assert own.publish(again)
        return evaluate(context, uri)

    overtaken(context, uri)
    monkeypatch.setattr(indexing, "evaluate", overtaken)
    assert not indexing.publish(context, uri)["published"]
    assert current(context).kind == "append"


def test_of_two_rebuilds_at_once_one_is_published(context: Context) -> None:
    index(context, 0, 1)
    first, second = rebuilt(context), rebuilt(context)
    assert indexing.publish(context, second)["published"]
    assert not indexing.publish(context, first)["published"]
    assert indexing.generations(context).uri(current(context).id) == second


def test_an_append_that_was_overtaken_is_made_again(context: Context) -> None:
    index(context, 0)
    bring(context, 1)
    stale = indexing.append(context)
    assert stale is not None
    index(context, 2)
    assert not indexing.publish(context, stale)["published"]
    assert current(context).counts.images == 3


def test_what_finds_less_is_not_published_and_says_so(context: Context) -> None:
    first = index(context, *range(6))
    own = indexing.generations(context)
    own.save(first.model_copy(update={"recall": Recall(recall_at_1=1.0, queries=100, unrecognisable=0)}))
    bring(context, 7)
    uri = indexing.append(context) or ""
    worse = Recall(recall_at_1=0.5, queries=100, unrecognisable=0)
    own.save(own.load(uri).model_copy(update={"recall": worse}))
    with pytest.raises(RecallTooLow, match=r"recall_at_1=0\.5"):
        indexing.publish(context, uri)
    assert current(context).id == first.id
    assert context.catalog.counts()["featured"] == 1


def test_what_a_killed_publish_left_unsaid_is_said_by_the_next_append(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(context, 0, 1)
    uri = indexing.append(context) or ""
    indexing.evaluate(context, uri)
    assert indexing.generations(context).publish(uri)
    assert context.catalog.counts()["featured"] == 2
    assert indexing.append(context) is None
    assert context.catalog.counts()["indexed"] == 2


def test_a_rebuild_is_due_for_a_reason_with_its_numbers(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    assert indexing.rebuild_reason(context) is None
    assert indexing.plan(context, "test") == []
    index(context, *range(6))
    assert indexing.rebuild_reason(context) is None
    monkeypatch.setattr(context.settings, "retraining_interval", 2)
    monkeypatch.setattr(growth, "REBUILD_AT_ONCE", 0)
    index(context, 6, 7)
    assert indexing.rebuild_reason(context) == "2 images since the last rebuild, RETRAINING_INTERVAL is 2"
    monkeypatch.setattr(context.settings, "retraining_interval", 100)
    doomed = next(iter(context.catalog.images.find({}, {"_id": 1})))["_id"]
    context.catalog.delete([doomed], "test")
    assert indexing.rebuild_reason(context) == "1 of 8 images are deleted"
    # Where a rebuild would be refused, ringing for it would help nobody.
    monkeypatch.setattr(context.settings, "index_memory_mb", 0)
    context.catalog.images.update_one({"_id": doomed}, {"$set": {"status": "indexed"}})
    assert indexing.rebuild_reason(context) is None


def test_rolled_back_images_come_again_with_the_next_run(context: Context) -> None:
    first, second = index(context, 0, 1), index(context, 2)
    assert indexing.roll_back(context) == first
    index_all(context, "again")
    now = current(context)
    assert (now.parent, now.counts.images) == (first.id, 3)
    assert context.catalog.counts()["indexed"] == 3
    assert not indexing.publish(context, indexing.generations(context).uri(second.id))["published"]
    assert set(indexing.prune(context).values()) == {0}
