"""Older catalogues become what this version expects: twice, at once, cut short, while people work. Newer ones stay."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import jsonschema
import pytest
from pymongo.errors import OperationFailure

from pipeline.errors import NewerCatalogue
from pipeline.events import ImageEvent, image_id
from pipeline.settings import Settings
from pipeline.stores import schema
from pipeline.stores.catalog import Catalog, Document
from tests.stores.test_catalog import at_once
from tests.test_cli import sleeve

NUMBER = 2500
KNOWN = ImageEvent("images", "known.jpg", etag="e")
NEW = ("private", "boxes", "revision", "attention", "stage")


def of_version_1(one: UUID, number: int) -> Document:
    """An image as version 1 wrote it."""
    now = datetime(2026, 5, 1, tzinfo=UTC)
    return {
        "_id": one, "bucket": "images", "key": f"{number}.jpg", "version": "e", "sha256": f"{number:064x}",
        "status": "indexed" if number % 5 else "quarantined", "reason": None if number % 5 else "not a picture",
        "width": 800, "height": 600, "bytes": 12345, "format": "jpeg", "original_filename": f"{number}.jpg",
        "owner": "eve" if number % 2 else None, "labels": ["cat", "tom"] if number % 3 == 0 else [], "source": "folder",
        "shard": "runs/1/shard", "segment": "segments/1", "duplicate_of": None, "created_at": now, "updated_at": now,
        "compared": True,
    }  # fmt: skip


@pytest.fixture
def older(settings: Settings) -> Iterator[Catalog]:
    """A filled catalogue of version 1, with the indexes that it had."""
    catalog = Catalog(settings)
    images = catalog.images
    images.create_index(["bucket", "key", "version"], name="bucket_key_version", unique=True)
    images.create_index(["status", "_id"], name="status_id")
    images.create_index(["owner", "created_at"], name="owner_created_at")
    # As the local stand-in has it; without it, it would look through all documents for each that is written.
    images.create_index(["_id", "revision"], unique=True)
    documents = [of_version_1(uuid4(), number) for number in range(NUMBER - 1)]
    images.insert_many([*documents, of_version_1(image_id("images", "known.jpg", "e"), NUMBER)])
    yield catalog
    catalog.client.drop_database(settings.database_name)
    catalog.close()


def documents(catalog: Catalog) -> dict[UUID, Document]:
    return {document["_id"]: document for document in catalog.images.find()}


def expected(before: dict[UUID, Document]) -> dict[UUID, Document]:
    """What these documents of version 1 are in version 2."""
    found = {}
    for one, document in before.items():
        where = {"attention": 3, "stage": "labelled"} if document["labels"] else {"attention": 0, "stage": "unlabelled"}
        found[one] = {**document, "private": False, "boxes": [], "revision": 0, **where}
    return found


def test_a_filled_catalogue_is_migrated_once(older: Catalog) -> None:
    wanted = expected(documents(older))
    told: list[tuple[str, int, int]] = []
    assert older.prepare(lambda *news: told.append(news)) == ["Version 2: labelling and privacy."]
    assert documents(older) == wanted
    assert [(done, total) for _, done, total in told] == [(1000, NUMBER), (2000, NUMBER), (NUMBER, NUMBER)]
    assert schema.version(older.database) == 2
    assert older.prepare() == []
    assert documents(older) == wanted


def test_every_collection_has_its_indexes(older: Catalog) -> None:
    older.prepare()
    named = {index.document["name"] for index in schema.INDEXES["images"]}
    assert older.images.index_information().keys() - named == {"_id_", "_id_1_revision_1"}
    for collection, indexes in schema.INDEXES.items():
        present = older.database[collection].index_information()
        for index in (one.document for one in indexes):
            there = present[index["name"]]
            assert (dict(there["key"]), there.get("unique", False)) == (dict(index["key"]), index.get("unique", False))


def test_migrated_by_several_at_once(older: Catalog, settings: Settings) -> None:
    wanted = expected(documents(older))
    done = at_once(3, lambda _: Catalog(settings).prepare())
    assert documents(older) == wanted
    assert schema.version(older.database) == 2
    assert ["Version 2: labelling and privacy."] in done


def test_killed_half_way_the_next_one_finishes(older: Catalog, shell: Settings) -> None:
    wanted = expected(documents(older))
    script = """
from pipeline.settings import Settings
from pipeline.stores.catalog import Catalog

def tell(step, done, total):
    print(done, flush=True)
    input()

Catalog(Settings()).prepare(tell)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout
        assert child.stdout.readline() == "1000\n"
        child.send_signal(signal.SIGKILL)
    assert older.images.count_documents({"revision": 0}) == 1000
    assert schema.version(older.database) == 1
    assert older.prepare() == ["Version 2: labelling and privacy."]
    assert documents(older) == wanted


DECIDED = {"labels": ["dog"], "boxes": [], "revision": 1, "attention": 3, "stage": "accepted"}


@pytest.mark.parametrize("what", ["decided on", "labelled"])
def test_what_happens_to_an_image_between_reading_and_writing_it_is_kept(
    older: Catalog, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    image = image_id("images", "known.jpg", "e")
    older.images.delete_many({"_id": {"$ne": image}})
    older.images.update_one({"_id": image}, {"$set": {"labels": []}})
    derive = schema.labelling

    def meanwhile(labels: list[str]) -> Document:
        monkeypatch.undo()
        if what == "decided on":
            older.images.update_one({"_id": image}, {"$set": DECIDED})
        else:
            older.register([ImageEvent("images", "known.jpg", etag="e", label="dog")])
        return derive(labels)

    monkeypatch.setattr(schema, "labelling", meanwhile)
    older.prepare()
    kept = older.find([image])[image]
    revision, stage = (1, "accepted") if what == "decided on" else (0, "labelled")
    assert {name: kept[name] for name in DECIDED} == {**DECIDED, "revision": revision, "stage": stage}
    assert older.images.count_documents({"revision": None}) == 0


def test_a_newer_catalogue_is_refused_and_left_alone(older: Catalog, shell: Settings) -> None:
    older.database["pointers"].insert_one({"_id": "schema", "version": 99})
    before, indexes = documents(older), older.images.index_information().keys()
    with pytest.raises(NewerCatalogue, match=r"version 99, and this Sleeve knows versions up to \d+\. Install"):
        older.prepare()
    refused = sleeve("migrate", "--json")
    assert refused.returncode == 1
    assert "version 99" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert documents(older) == before
    assert older.images.index_information().keys() == indexes


def test_migrate_by_hand(older: Catalog, shell: Settings) -> None:
    steps = ["Version 2: labelling and privacy."]
    for wanted in ({"before": 1, "version": 2, "steps": steps}, {"before": 2, "version": 2, "steps": []}):
        done = sleeve("migrate", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == wanted
    assert "version 2 already" in sleeve("migrate").stdout


def test_a_server_that_refuses_validators_for_another_reason_is_heard(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OperationFailure("not authorized on sleeve to execute command collMod", 13)

    with monkeypatch.context() as patch:
        patch.setattr(type(catalog.database), "command", refuse)
        with pytest.raises(OperationFailure, match="not authorized"):
            catalog.prepare()


# Validators, as the server would apply them


BSON = {
    "binData": UUID, "string": str, "null": type(None), "number": (int, float), "date": datetime, "bool": bool,
    "array": list, "object": dict,
}  # fmt: skip


def _bson_type(_: Any, kinds: str | list[str], value: object, __: Any) -> Iterator[jsonschema.ValidationError]:
    wanted = tuple(BSON[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds))
    if not isinstance(value, wanted) or (isinstance(value, bool) and "bool" not in kinds):
        yield jsonschema.ValidationError(f"{value!r} is no {kinds}")


# MongoDB knows a draft-4 subset, and its own types.
Checker = jsonschema.validators.extend(jsonschema.Draft4Validator, {"bsonType": _bson_type})


def accepts(collection: str, document: Document) -> bool:
    return bool(Checker(schema.VALIDATORS[collection]["$jsonSchema"]).is_valid(document))


def test_validators_take_what_is_written_and_nothing_else(catalog: Catalog) -> None:
    Checker.check_schema({})
    catalog.register([KNOWN, ImageEvent("images", "b.jpg", etag="e", label="cat", owner="eve", private=True)])
    images = list(documents(catalog).values())
    assert all(accepts("images", one) for one in [*images, of_version_1(uuid4(), 3)])
    box = {"id": "1", "label": "cat", "x": 0, "y": 0.25, "width": 1.0, "height": 0.5}
    assert accepts("images", {**images[0], **DECIDED, "boxes": [box]})
    wrong: list[Document] = [
        {"status": "lost"}, {"_id": "text"}, {"labels": "cat"}, {"labels": [1]}, {"revision": -1}, {"attention": 4},
        {"stage": "done"}, {"private": "yes"}, {"boxes": [{**box, "x": 1.5}]}, {"boxes": [{"id": "1"}]},
        {"created_at": "2026-05-01"},
    ]  # fmt: skip
    assert [fields for fields in wrong if accepts("images", images[0] | fields)] == []
    assert not accepts("images", {"_id": uuid4()})
