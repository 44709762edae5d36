"""The catalogue: written twice, late, at once, and cut short, it says the same."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TypeVar
from uuid import UUID

import pytest

from pipeline.events import ImageEvent, image_id
from pipeline.stores.catalog import Catalog

Result = TypeVar("Result")
VOLATILE = ("updated_at", "created_at")


def event(key: str, etag: str | None = "e", **fields: Any) -> ImageEvent:
    return ImageEvent("images", key, etag=etag, **fields)


def ids(*events: ImageEvent) -> list[UUID]:
    return [image_id(one.bucket, one.key, one.etag or "") for one in events]


def everything(catalog: Catalog) -> dict[UUID, dict[str, Any]]:
    """All image documents, without the times."""
    found = {}
    for document in catalog.images.find():
        found[document["_id"]] = {name: value for name, value in document.items() if name not in VOLATILE}
    return found


def at_once(count: int, work: Callable[[int], Result]) -> list[Result]:
    """Run `work` in so many threads that all start together."""
    barrier = Barrier(count)

    def run(number: int) -> Result:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


def status(catalog: Catalog, *images: UUID) -> list[str]:
    found = catalog.find(images, ["status"])
    return [found[one]["status"] for one in images]


def to_status(catalog: Catalog, wanted: str, *events: ImageEvent) -> list[UUID]:
    """Registers images and brings them to a state, on the way that the pipeline takes."""
    catalog.register(events)
    images = ids(*events)
    facts = {one: {"sha256": str(one), "duplicate_of": None} for one in images}
    steps: dict[str, Callable[[], object]] = {
        "collected": lambda: catalog.collected(facts, "shard"),
        "featured": lambda: catalog.featured(images, "segment"),
        "indexed": lambda: catalog.indexed(["segment"]),
    }
    if wanted == "quarantined":
        catalog.quarantine(dict.fromkeys(images, "broken"))
    elif wanted == "deleted":
        catalog.delete(images, "by its owner")
    elif wanted != "pending":
        for name, step in steps.items():
            step()
            if name == wanted:
                break
    assert set(status(catalog, *images)) == {wanted}
    return images


def with_duplicate(catalog: Catalog, state: str = "indexed") -> tuple[UUID, UUID]:
    """(original, duplicate): the original in `state`, the duplicate settled."""
    [original] = to_status(catalog, "pending", event("original"))
    catalog.register([event("copy")])
    [copy] = ids(event("copy"))
    catalog.claim_contents({original: "sha"})
    facts = {original: {"sha256": "sha", "duplicate_of": None}, copy: {"sha256": "sha", "duplicate_of": original}}
    catalog.collected(facts, "shard")
    if state != "collected":
        catalog.featured([original], "segment")
        catalog.indexed(["segment"])
    catalog.settle_duplicates()
    return original, copy


# Registering


def test_registered_document(catalog: Catalog) -> None:
    new = event("a/b.jpg", label="cat", owner="eve", source="album", original_filename="IMG_1.JPG")
    assert catalog.register([new, event("c/d.jpg")]) == 2
    first, second = (catalog.find(ids(new, event("c/d.jpg")))[one] for one in ids(new, event("c/d.jpg")))
    wanted = {
        "bucket": "images", "key": "a/b.jpg", "version": "e", "status": "pending", "labels": ["cat"], "owner": "eve",
        "source": "album", "original_filename": "IMG_1.JPG", "reason": None, "sha256": None, "segment": None,
    }  # fmt: skip
    assert {name: first[name] for name in wanted} == wanted
    assert first["created_at"].tzinfo is not None
    assert (second["original_filename"], second["labels"], second["owner"]) == ("d.jpg", [], None)


def test_registering_twice_changes_nothing(catalog: Catalog) -> None:
    events = [event(f"{number}.jpg", label="cat") for number in range(1500)]
    assert catalog.register(events) == 1500
    before = everything(catalog)
    assert catalog.register(events) == 0
    assert catalog.register([*events, *events]) == 0
    assert everything(catalog) == before
    assert len(before) == 1500


def test_content_is_part_of_the_identity(catalog: Catalog) -> None:
    assert catalog.register([event("a.jpg", "1"), event("a.jpg", "2"), event("a.jpg", "1")]) == 2


def test_labels_add_up_and_the_owner_stays(catalog: Catalog) -> None:
    catalog.register([event("a.jpg", label="cat"), event("a.jpg", label="grey"), event("a.jpg")])
    catalog.register([event("a.jpg", label="cat", owner="eve"), event("a.jpg", label="tom")])
    [document] = everything(catalog).values()
    assert sorted(document["labels"]) == ["cat", "grey", "tom"]
    assert document["owner"] == "eve"
    catalog.register([event("a.jpg"), event("a.jpg", owner="mallory")])
    assert everything(catalog) == {document["_id"]: document}


def test_event_with_a_reason_is_quarantined_at_once(catalog: Catalog) -> None:
    catalog.register([event("a.jpg", None, reason="cannot be read"), event("b.jpg")])
    [document] = catalog.quarantined(10)
    assert (document["key"], document["reason"], document["version"]) == ("a.jpg", "cannot be read", "")


def test_registering_at_once(catalog: Catalog) -> None:
    events = [event(f"{number}.jpg") for number in range(300)]
    new = at_once(4, lambda number: catalog.register([*events[number:], *events[:number]]))
    assert sum(new) == 300
    assert {document["key"] for document in everything(catalog).values()} == {one.key for one in events}
    assert len(everything(catalog)) == 300


def test_labels_and_owners_registered_at_once_all_arrive(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """The race as it is when every writer looks before any writes: nobody knows of the image."""
    monkeypatch.setattr(catalog, "find", lambda *_: {})
    at_once(4, lambda n: catalog.register([event("a.jpg", label=f"label{n}", owner="eve" if n == 3 else None)]))
    [document] = everything(catalog).values()
    assert sorted(document["labels"]) == ["label0", "label1", "label2", "label3"]
    assert document["owner"] == "eve"


def labelling(catalog: Catalog, image: UUID) -> dict[str, Any]:
    document = catalog.find([image])[image]
    return {name: document[name] for name in ("labels", "boxes", "revision", "attention", "stage")}


def test_labels_of_producers_count_as_labelled(catalog: Catalog) -> None:
    catalog.register([event("a.jpg", label="cat"), event("b.jpg")])
    a, b = ids(event("a.jpg"), event("b.jpg"))
    labelled = {"labels": ["cat"], "boxes": [], "revision": 0, "attention": 3, "stage": "labelled"}
    assert labelling(catalog, a) == labelled
    assert labelling(catalog, b) == {**labelled, "labels": [], "attention": 0, "stage": "unlabelled"}
    catalog.register([event("b.jpg", label="cat")])
    assert labelling(catalog, b) == labelled


def test_what_people_decided_is_not_changed_by_events(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog.register([event("a.jpg")])
    [image] = ids(event("a.jpg"))
    decided = {"labels": [], "boxes": [], "revision": 1, "attention": 3, "stage": "rejected"}
    catalog.images.update_one({"_id": image}, {"$set": decided})
    catalog.register([event("a.jpg", label="cat", owner="eve")])
    assert labelling(catalog, image) == decided
    assert catalog.find([image])[image]["owner"] == "eve"
    # People may decide after a task looked and before it writes, and even before it inserts.
    for seen in ({}, {image: {"labels": [], "owner": None, "revision": 0}}):
        monkeypatch.setattr(catalog, "find", lambda *_, seen=seen: seen)
        catalog.register([event("a.jpg", label="cat")])
        monkeypatch.undo()
        assert labelling(catalog, image) == decided


def test_labels_reach_documents_of_older_versions(catalog: Catalog) -> None:
    catalog.register([event("a.jpg")])
    [image] = ids(event("a.jpg"))
    catalog.images.update_one({"_id": image}, {"$unset": {"revision": 1, "attention": 1, "stage": 1, "private": 1}})
    catalog.register([event("a.jpg", label="cat")])
    document = catalog.find([image])[image]
    assert (document["labels"], document["attention"], document["stage"]) == (["cat"], 3, "labelled")


@pytest.mark.parametrize("before", ["nobody", "ann", "bob"])
def test_an_upload_is_private_unless_the_image_is_anothers(catalog: Catalog, before: str) -> None:
    """The bucket's event, which knows of no owner, may come before that of the upload."""
    catalog.register([event("a.jpg", owner=None if before == "nobody" else before)])
    upload = event("a.jpg", owner="ann", private=True)
    for late in (upload, upload, event("a.jpg")):
        catalog.register([late])
        [document] = everything(catalog).values()
        expected = ("bob", False) if before == "bob" else ("ann", True)
        assert (document["owner"], document["private"]) == expected


# States


ORDER = ["pending", "collected", "featured", "indexed"]
LATE: dict[str, Callable[[Catalog, Sequence[UUID]], object]] = {
    "collected": lambda catalog, images: catalog.collected({one: {"duplicate_of": None} for one in images}, "late"),
    "featured": lambda catalog, images: catalog.featured(images, "late"),
    "indexed": lambda catalog, images: catalog.indexed(["late", "segment"]),
    "quarantined": lambda catalog, images: catalog.quarantine(dict.fromkeys(images, "late")),
}
FORWARD = {
    ("pending", "collected"), ("pending", "quarantined"), ("collected", "collected"), ("collected", "featured"),
    ("collected", "quarantined"), ("featured", "featured"), ("featured", "indexed"),
}  # fmt: skip


@pytest.mark.parametrize("state", [*ORDER, "quarantined", "deleted"])
@pytest.mark.parametrize("late", LATE)
def test_states_only_move_forward(catalog: Catalog, state: str, late: str) -> None:
    [image] = to_status(catalog, state, event("a.jpg"))
    before = catalog.find([image])[image]
    LATE[late](catalog, [image])
    after = catalog.find([image])[image]
    if (state, late) in FORWARD:
        assert after["status"] == late
    else:
        assert (after["status"], after["reason"], after["segment"], after["shard"]) == (
            before["status"],
            before["reason"],
            before["segment"],
            before["shard"],
        )


def test_waiting(catalog: Catalog) -> None:
    made = {
        state: to_status(catalog, state, event(f"{state}.jpg"))[0] for state in [*ORDER[::-1], "deleted", "quarantined"]
    }
    assert {document["_id"] for document in catalog.waiting(10)} == {made["pending"], made["collected"]}
    assert catalog.waiting_count(10) == 2  # the featured one only waits for an index
    assert catalog.waiting_count(1) == 1
    assert len(catalog.waiting(1)) == 1
    assert catalog.counts() == dict.fromkeys([*ORDER, "quarantined", "deleted"], 1)
    assert catalog.featured_segments() == ["segment"]
    assert catalog.alive(list(made.values())) == set(made.values()) - {made["deleted"]}


def test_indexed_counts_only_what_is_new(catalog: Catalog) -> None:
    to_status(catalog, "featured", event("a.jpg"), event("b.jpg"))
    assert catalog.indexed(["other"]) == 0
    assert catalog.indexed(["segment"]) == 2
    assert catalog.indexed(["segment"]) == 0


# Deletion and duplicates


def test_deleting(catalog: Catalog) -> None:
    images = to_status(catalog, "indexed", event("a.jpg"), event("b.jpg"))
    assert catalog.delete(images, "by its owner") == 2
    assert catalog.delete(images, "again") == 0
    assert {document["reason"] for document in everything(catalog).values()} == {"by its owner"}
    assert catalog.under_keys("images", ["a.jpg", "b.jpg"]) == []


def test_revived_images_start_over(catalog: Catalog) -> None:
    [image] = to_status(catalog, "deleted", event("a.jpg", label="cat"))
    [other] = to_status(catalog, "indexed", event("b.jpg"))
    assert catalog.revive([image, other]) == 1
    document = catalog.find([image])[image]
    assert (document["status"], document["reason"], document["segment"]) == ("pending", None, None)
    assert document["labels"] == ["cat"]
    assert status(catalog, other) == ["indexed"]


def test_first_claim_of_a_content_wins(catalog: Catalog) -> None:
    one, two, three = to_status(catalog, "pending", event("1"), event("2"), event("3"))
    assert catalog.claim_contents({two: "sha"}) == {two: two}
    assert catalog.claim_contents({one: "sha", two: "sha", three: "other"}) == {one: two, two: two, three: three}


def test_claims_at_once_agree(catalog: Catalog) -> None:
    images = to_status(catalog, "pending", *(event(f"{number}") for number in range(40)))

    def claim(number: int) -> dict[UUID, UUID]:
        return catalog.claim_contents(
            {one: f"sha{place % 10}" for place, one in enumerate(images) if place % 4 == number}
        )

    claimed = {one: original for part in at_once(4, claim) for one, original in part.items()}
    for content in range(10):
        assert len({claimed[one] for place, one in enumerate(images) if place % 10 == content}) == 1


def test_content_of_a_deleted_image_is_free(catalog: Catalog) -> None:
    """Whenever the deletion came: an image whose original is gone must not wait for it for ever."""
    dead, one, two = to_status(catalog, "pending", event("dead"), event("1"), event("2"))
    catalog.delete([dead], "by its owner")
    # A task that was at it while the image was deleted.
    catalog.claim_contents({dead: "sha"})
    [first] = set(catalog.claim_contents({one: "sha", two: "sha"}).values())
    assert first in (one, two)
    assert catalog.claim_contents({two: "sha", one: "sha"}) == {one: first, two: first}


def test_content_of_a_deleted_image_is_taken_over_once(catalog: Catalog) -> None:
    dead, *images = to_status(catalog, "pending", *(event(f"{number}") for number in range(9)))
    catalog.claim_contents({dead: "sha"})
    catalog.delete([dead], "by its owner")
    winners = at_once(8, lambda number: catalog.claim_contents({images[number]: "sha"})[images[number]])
    assert len(set(winners)) == 1
    assert winners[0] in images


@pytest.mark.parametrize("state", ["collected", "indexed"])
def test_duplicates_of_a_deleted_image_start_over(catalog: Catalog, state: str) -> None:
    original, copy = with_duplicate(catalog, state)
    assert status(catalog, copy) == [state]
    catalog.delete([original], "by its owner")
    document = catalog.find([copy])[copy]
    assert (document["status"], document["duplicate_of"]) == ("pending", None)
    assert catalog.claim_contents({copy: "sha"}) == {copy: copy}


class Crash(Exception):
    """The process dies here."""


def test_deletion_cut_short_loses_no_duplicate(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash nobody may come back to this image: what is deleted is not looked at again."""
    original, copy = with_duplicate(catalog)
    move = catalog._move

    def die_after_deletion(ids: Sequence[UUID], start: Sequence[str], fields: dict[str, Any]) -> int:
        moved = move(ids, start, fields)
        if fields["status"] == "deleted":
            raise Crash
        return moved

    monkeypatch.setattr(catalog, "_move", die_after_deletion)
    with pytest.raises(Crash):
        catalog.delete([original], "by its owner")
    assert status(catalog, original, copy) == ["deleted", "pending"]


def test_duplicates_share_the_fate_of_their_original(catalog: Catalog) -> None:
    original, copy = with_duplicate(catalog, "collected")
    assert catalog.waiting(10) == [{"_id": original, "bucket": "images", "key": "original", "version": "e"}]
    catalog.quarantine({original: "only 0 distinctive points"})
    catalog.settle_duplicates()
    document = catalog.find([copy])[copy]
    assert (document["status"], document["reason"]) == ("quarantined", "only 0 distinctive points")


def test_duplicate_of_an_indexed_image_is_indexed(catalog: Catalog) -> None:
    original, copy = with_duplicate(catalog)
    document = catalog.find([copy])[copy]
    assert (document["status"], document["duplicate_of"]) == ("indexed", original)


# Contents that follow each other under a key


def test_replaced_content_is_deleted(catalog: Catalog) -> None:
    old, new, other = to_status(catalog, "indexed", event("a.jpg", "1"), event("a.jpg", "2"), event("b.jpg"))
    catalog.replace_contents({old: ("images", "a.jpg"), other: ("images", "b.jpg")})
    assert status(catalog, old, new, other) == ["indexed"] * 3
    catalog.replace_contents({new: ("images", "a.jpg")})
    catalog.replace_contents({new: ("images", "a.jpg")})
    assert status(catalog, old, new, other) == ["deleted", "indexed", "indexed"]
    assert catalog.find([old])[old]["reason"] == "replaced by newer content under the same key"


def test_content_that_comes_late_does_not_replace_its_successor(catalog: Catalog) -> None:
    """A task that hung with the old content in hand goes on after the new one was taken in."""
    old, new = to_status(catalog, "indexed", event("a.jpg", "1"), event("a.jpg", "2"))
    catalog.replace_contents({old: ("images", "a.jpg")})
    catalog.replace_contents({new: ("images", "a.jpg")})
    catalog.replace_contents({old: ("images", "a.jpg")})
    assert status(catalog, old, new) == ["deleted", "indexed"]


def test_content_that_comes_back(catalog: Catalog) -> None:
    old, new = to_status(catalog, "indexed", event("a.jpg", "1"), event("a.jpg", "2"))
    catalog.replace_contents({old: ("images", "a.jpg")})
    catalog.replace_contents({new: ("images", "a.jpg")})
    catalog.revive([old])
    catalog.replace_contents({old: ("images", "a.jpg")})
    assert status(catalog, old, new) == ["pending", "deleted"]


# Pointers


def test_one_winner_publishes(catalog: Catalog) -> None:
    assert catalog.current_generation() is None
    for expected in (None, "second"):
        won = at_once(8, lambda number, expected=expected: catalog.publish_generation(f"{expected}-{number}", expected))
        assert sum(won) == 1
        assert catalog.current_generation() == f"{expected}-{won.index(True)}"
        if expected is None:
            assert catalog.publish_generation("second", catalog.current_generation())
    assert not catalog.publish_generation("late", "second")
    assert not catalog.publish_generation("late", None)


def test_watermarks(catalog: Catalog) -> None:
    assert catalog.watermark("a") == ""
    catalog.set_watermark("a", "x/1.jpg")
    catalog.set_watermark("b", "y")
    catalog.set_watermark("a", "x/2.jpg")
    assert (catalog.watermark("a"), catalog.watermark("b")) == ("x/2.jpg", "y")
    catalog.set_watermark("a", "")
    assert catalog.watermark("a") == ""


def test_prepare_and_ping_at_any_time(catalog: Catalog) -> None:
    catalog.register([event("a.jpg")])
    at_once(3, lambda _: catalog.prepare())
    catalog.ping()
    assert len(everything(catalog)) == 1
