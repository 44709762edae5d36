"""Filters of a search, against the same rules spelled out over all documents."""

import random
from datetime import UTC, datetime, timedelta
from itertools import product
from uuid import UUID

import pytest

from pipeline.events import ImageEvent, image_id
from pipeline.stores.catalog import Catalog, Document, Filter

START = datetime(2024, 5, 1, tzinfo=UTC)
LABELS, OWNERS = ("jazz", "soul", "folk"), ("ann", "bob", None)


@pytest.fixture
def documents(catalog: Catalog) -> list[Document]:
    """60 images with labels, owners, times and states drawn at random; some are exact copies of others."""
    chance = random.Random(7)
    events = [ImageEvent("images", str(number), etag="e") for number in range(60)]
    catalog.register(events)
    ids = [image_id(event.bucket, event.key, "e") for event in events]
    for number, one in enumerate(ids):
        fields = {
            "labels": chance.sample(LABELS, chance.randint(0, 2)),
            "owner": chance.choice(OWNERS),
            "created_at": START + timedelta(hours=chance.randint(0, 24 * 10)),
            "status": chance.choice(["indexed", "indexed", "indexed", "quarantined", "deleted"]),
            "duplicate_of": ids[chance.randrange(20)] if number >= 40 else None,
        }
        catalog.images.update_one({"_id": one}, {"$set": fields})
    return list(catalog.images.find())


def passes(document: Document, wanted: Filter) -> bool:
    return (
        document["status"] != "deleted"
        and (wanted.label is None or wanted.label in document["labels"])
        and (wanted.owner is None or wanted.owner == document["owner"])
        and (wanted.since is None or document["created_at"] >= wanted.since)
        and (wanted.until is None or document["created_at"] < wanted.until)
    )


def test_exactly_those_that_pass(catalog: Catalog, documents: list[Document]) -> None:
    every = [document["_id"] for document in documents]
    moments = [None, START, START + timedelta(days=3), documents[5]["created_at"], START + timedelta(days=11)]
    seen = 0
    for label, owner, since, until in product((*LABELS, "none", None), (*OWNERS, "eve"), moments, moments):
        wanted = Filter(label, owner, since, until)
        expected = {document["_id"] for document in documents if passes(document, wanted)}
        assert catalog.alive(every, wanted) == expected
        assert set(catalog.matching(wanted).values()) <= expected
        by_content = {document["duplicate_of"] or document["_id"] for document in documents if passes(document, wanted)}
        assert catalog.matching(wanted).keys() == by_content
        seen += len(expected)
    assert seen > 1000


def test_a_copy_answers_for_an_original_that_does_not_pass(catalog: Catalog) -> None:
    catalog.register([ImageEvent("i", key, etag="e", owner=owner) for key, owner in (("a", "ann"), ("b", "bob"))])
    original, copy = (image_id("i", key, "e") for key in ("a", "b"))
    catalog.images.update_one({"_id": copy}, {"$set": {"duplicate_of": original}})
    assert catalog.matching(Filter(owner="bob")) == {original: copy}
    assert catalog.matching(Filter(owner="ann")) == {original: original}
    assert catalog.matching(Filter()) == {original: original}
    assert catalog.alive([UUID(int=1)], Filter()) == set()


def test_what_is_private_does_not_exist_for_others(catalog: Catalog) -> None:
    events = [
        ImageEvent("i", "open", etag="e", owner="ann"),
        ImageEvent("i", "ann's", etag="e", owner="ann", private=True),
        ImageEvent("i", "nobody's", etag="e", private=True),
    ]
    catalog.register(events)
    everyone, of_ann, of_nobody = (image_id("i", event.key, "e") for event in events)
    sees = {
        "ann": {everyone, of_ann},
        "bob": {everyone},
        None: {everyone, of_ann, of_nobody},
    }
    for user, seen in sees.items():
        assert catalog.alive([everyone, of_ann, of_nobody], Filter(visible_to=user)) == seen
        assert set(catalog.matching(Filter(visible_to=user))) == seen
        assert set(catalog.answering({everyone, of_ann, of_nobody}, Filter(visible_to=user))) == seen


def test_a_copy_answers_for_an_original_that_is_private(catalog: Catalog) -> None:
    # The private copy comes first, where nothing is asked of copies.
    hidden, shown = sorted("bcd", key=lambda key: image_id("i", key, "e"))[:2]
    events = [
        ImageEvent("i", "a", etag="e", owner="ann", private=True),
        ImageEvent("i", hidden, etag="e", owner="eve", private=True),
        ImageEvent("i", shown, etag="e", owner="bob"),
    ]
    catalog.register(events)
    original, of_eve, of_bob = (image_id("i", event.key, "e") for event in events)
    catalog.images.update_many({"_id": {"$ne": original}}, {"$set": {"duplicate_of": original}})
    for user, answer in {"ann": original, "bob": of_bob, "eve": of_eve, "joe": of_bob, None: original}.items():
        assert catalog.answering({original}, Filter(visible_to=user)) == {original: answer}
        assert catalog.matching(Filter(visible_to=user)) == {original: answer}
    assert catalog.answering({original}, Filter(visible_to="bob"), of_bob) == {}
    assert catalog.answering({original}, Filter(visible_to="eve"), of_eve) == {original: of_bob}
    assert catalog.answering({original}, Filter(visible_to="ann"), original) == {}
    catalog.delete([original], "by its owner")
    assert catalog.answering({original}, Filter(visible_to="bob")) == {}
