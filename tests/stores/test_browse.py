"""Pages of images: complete, in order, stable while images come and go, and fast."""

import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from pipeline.errors import BadQuery
from pipeline.events import ImageEvent, image_id
from pipeline.stores.browse import Order, Wanted, change, label_counts, page
from pipeline.stores.catalog import Catalog

START = datetime(2024, 5, 1, tzinfo=UTC)
GROUP = UUID(int=7)


def fill(catalog: Catalog, count: int) -> dict[UUID, dict[str, Any]]:
    """Images of several owners, labels, states and times; many share their time and their name."""
    chance = random.Random(1)
    catalog.register([ImageEvent("images", "like.jpg", etag="e")])
    like = catalog.images.find_one_and_delete({})
    assert like
    documents = []
    for number in range(count):
        one = {
            **like,
            "_id": UUID(int=chance.getrandbits(128)),
            "key": f"{number}.jpg",
            "labels": chance.sample(["jazz", "soul", "folk"], chance.randint(0, 2)),
            "owner": chance.choice(["ann", "bob", None]),
            "private": chance.random() < 0.2,
            "status": chance.choice(["pending", "indexed", "quarantined", "deleted"]),
            "created_at": START + timedelta(hours=chance.randint(0, 30)),
            "original_filename": f"{chance.choice(['IMG', 'IMH', 'photo:', '猫'])}_{chance.randint(0, 20)}.jpg",
            "group": chance.choice([GROUP, None]),
        }
        documents.append(one)
    for start in range(0, count, 5000):
        catalog.images.insert_many(documents[start : start + 5000])
    return {one["_id"]: one for one in documents}


def walk(catalog: Catalog, wanted: Wanted, limit: int, order: Order = "newest") -> list[UUID]:
    found, after = [], None
    while True:
        documents, after = page(catalog, wanted, limit, after, order)
        assert len(documents) <= limit
        found += [one["_id"] for one in documents]
        if after is None:
            return found


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        (Wanted(), lambda one: True),
        (Wanted(label="jazz"), lambda one: "jazz" in one["labels"]),
        (Wanted(owner="ann", status="indexed"), lambda one: one["owner"] == "ann" and one["status"] == "indexed"),
        (Wanted(status="quarantined"), lambda one: one["status"] == "quarantined"),
        (Wanted(visible_to="bob"), lambda one: not one["private"] or one["owner"] == "bob"),
        (Wanted(group=GROUP, label="soul"), lambda one: one["group"] == GROUP and "soul" in one["labels"]),
        (
            Wanted(since=START + timedelta(hours=5), until=START + timedelta(hours=9)),
            lambda one: START + timedelta(hours=5) <= one["created_at"] < START + timedelta(hours=9),
        ),
    ],
)
def test_pages_hold_what_passes_once_and_in_order(catalog: Catalog, wanted: Wanted, passes: Any) -> None:
    documents = fill(catalog, 300)
    passing = [one for one in documents.values() if one["status"] != "deleted" and passes(one)]
    assert 10 < len(passing) < 300
    newest = [one["_id"] for one in sorted(passing, key=lambda one: (one["created_at"], one["_id"]), reverse=True)]
    assert walk(catalog, wanted, 7) == newest
    assert walk(catalog, wanted, 7, "id") == sorted(newest)


def test_file_names_that_begin_alike_come_in_their_order(catalog: Catalog) -> None:
    documents = fill(catalog, 300)
    for prefix in ("IMG", "photo:", "猫_1"):
        passing = [
            (one["original_filename"], one["_id"])
            for one in documents.values()
            if one["status"] != "deleted" and one["original_filename"].startswith(prefix)
        ]
        assert len(passing) > 10
        assert walk(catalog, Wanted(name=prefix), 4) == [one for _, one in sorted(passing)]


def test_pages_stay_as_they_were_while_images_come_and_go(catalog: Catalog) -> None:
    documents = fill(catalog, 60)
    before = walk(catalog, Wanted(), 100)
    first, after = page(catalog, Wanted(), 10)
    catalog.register([ImageEvent("images", "new.jpg", etag="e")])
    catalog.delete([before[3], before[20]], "test")
    rest = []
    while after:
        more, after = page(catalog, Wanted(), 10, after)
        rest += [one["_id"] for one in more]
    assert [one["_id"] for one in first] + rest == [one for one in before if one != before[20]]
    assert len(documents) == 60


def test_the_end_of_another_page_is_refused_in_a_sentence(catalog: Catalog) -> None:
    orders: list[Order] = ["newest", "id"]
    for order, after in [(orders[0], str(GROUP)), (orders[0], f"{GROUP}:{10**40}"), (orders[1], "x"), (orders[0], "")]:
        with pytest.raises(BadQuery, match="`next` of the page before"):
            page(catalog, Wanted(), 5, after, order)


def test_labels_are_counted_without_the_deleted_and_the_hidden(catalog: Catalog) -> None:
    def add(key: str, label: str, owner: str | None = None, private: bool = False) -> UUID:
        event = ImageEvent("images", key, etag="e", label=label, owner=owner, private=private)
        catalog.register([event])
        return image_id("images", key, "e")

    for key in "ab":
        add(key, "jazz")
    gone = add("c", "gone")
    add("d", "<b>soul</b>", "ann", private=True)
    catalog.delete([gone], "test")
    assert list(label_counts(catalog, "ann").items()) == [("jazz", 2), ("<b>soul</b>", 1)]
    assert label_counts(catalog) == label_counts(catalog, "ann")
    assert label_counts(catalog, "bob") == {"jazz": 2}


def test_of_two_who_saw_the_same_one_changes_it(catalog: Catalog) -> None:
    catalog.register([ImageEvent("images", "a.jpg", etag="e")])
    one = image_id("images", "a.jpg", "e")
    earlier = START
    catalog.images.update_one({"_id": one}, {"$set": {"updated_at": earlier}})
    first = change(catalog, one, {"original_filename": "first"}, earlier)
    assert first is not None
    assert first["original_filename"] == "first"
    assert first["updated_at"] > earlier
    assert change(catalog, one, {"original_filename": "second"}, earlier) is None
    catalog.delete([one], "test")
    assert change(catalog, one, {"original_filename": "third"}, None) is None
    assert catalog.find([one])[one]["original_filename"] == "first"


def test_any_page_of_20_000_images_takes_less_than_a_second(catalog: Catalog) -> None:
    fill(catalog, 20_000)
    half = START + timedelta(hours=15)
    places = [None, f"{GROUP}:{int(half.timestamp() * 1000)}"]
    queries = [Wanted(), Wanted(label="jazz"), Wanted(owner="ann"), Wanted(status="indexed", visible_to="bob")]
    took = {}
    # The stand-in compiles its code while it runs for the first time.
    page(catalog, Wanted(), 50)
    for wanted in queries:
        for after in places:
            began = time.perf_counter()
            found, _ = page(catalog, wanted, 50, after)
            took[wanted, after] = time.perf_counter() - began
            assert len(found) == 50
    began = time.perf_counter()
    assert len(page(catalog, Wanted(name="IMG_1"), 50)[0]) == 50
    assert max(*took.values(), time.perf_counter() - began) < 1, took
