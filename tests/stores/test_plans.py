"""Every query has an index that serves it, by the plans of a real MongoDB; the stand-in for it has none to show.

Those tests need a server: ``MONGODB_URI=mongodb://... pytest -m mongodb``.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from pymongo import MongoClient
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from pipeline.accounts.users import User
from pipeline.annotation import queue
from pipeline.settings import Settings
from pipeline.stores import browse, catalog, figures, labelled, schema
from pipeline.stores.annotations import Annotations
from pipeline.stores.browse import Wanted
from pipeline.stores.catalog import Catalog, Document, Filter
from pipeline.stores.jobs import Jobs
from pipeline.stores.users import Users

IMAGES = 3000
NOW = datetime(2024, 5, 1, tzinfo=UTC)
GROUPS = [UUID(int=number) for number in range(1, 30)]
ANN = User(UUID(int=1), "ann", "annotator", False, "local", None, NOW)
READING = {"find", "aggregate", "findAndModify", "distinct"}
# What the driver adds for its own purposes, and `explain` does not take.
OWN = {"lsid", "txnNumber", "writeConcern", "maxTimeMS", "readConcern"}


class Seen(CommandListener):
    """Notes the reading commands that a client sends."""

    def __init__(self) -> None:
        self.commands: list[Document] = []

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in READING:
            kept = {name: value for name, value in event.command.items() if name not in OWN and name[0] != "$"}
            self.commands.append(kept)

    def succeeded(self, event: CommandSucceededEvent) -> None: ...

    def failed(self, event: CommandFailedEvent) -> None: ...


@dataclass
class Stores:
    """A filled catalogue, whose commands are noted."""

    catalog: Catalog
    seen: Seen
    image: UUID = field(default_factory=uuid4)

    @property
    def annotations(self) -> Annotations:
        return Annotations(self.catalog.database)

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.catalog.database)

    def queue(self, mode: queue.Mode, gold: bool = False, wanted: Filter = Filter()) -> None:
        """What `queue.next_image` claims, without chance, and without the look for a decision that came late."""
        store = SimpleNamespace(claim=self.annotations.claim, catch_up=lambda image: False)
        context: Any = SimpleNamespace(annotations=store)
        queue._claim(context, ANN, wanted, mode, None, gold)

    def page(self, wanted: Wanted, order: browse.Order = "newest") -> None:
        """Two pages: the second begins behind the first."""
        _, after = browse.page(self.catalog, wanted, 5, None, order)
        if after is not None:
            browse.page(self.catalog, wanted, 5, after, order)


class Shape(NamedTuple):
    """A query, and the indexes any of which serves it."""

    ask: Callable[[Stores], Any]
    indexes: set[str]
    sorts: bool = False
    """Whether it may sort in memory: where it reads all that it finds, or a few."""


DAY = {"since": NOW, "until": NOW + timedelta(hours=20)}
SHAPES: dict[str, Shape] = {
    # browse.py
    "newest": Shape(lambda s: s.page(Wanted()), {"created_at_id"}),
    "newest visible to one": Shape(lambda s: s.page(Wanted(visible_to="bob")), {"created_at_id"}),
    "newest of a time": Shape(lambda s: s.page(Wanted(**DAY)), {"created_at_id"}),
    "newest of an owner": Shape(lambda s: s.page(Wanted(owner="ann")), {"owner_created_at_id"}),
    "newest of a label": Shape(lambda s: s.page(Wanted(label="jazz")), {"labels_created_at_id"}),
    "newest of a status": Shape(lambda s: s.page(Wanted(status="quarantined")), {"status_created_at_id"}),
    "newest of a source": Shape(lambda s: s.page(Wanted(source="import")), {"source_created_at_id"}),
    "newest of a group": Shape(lambda s: s.page(Wanted(group=GROUPS[0])), {"group"}, sorts=True),
    "by file name": Shape(lambda s: s.page(Wanted(name="IMG")), {"original_filename_id"}),
    "by id": Shape(lambda s: s.page(Wanted(), "id"), {"_id_"}),
    "by id of an owner": Shape(lambda s: s.page(Wanted(owner="ann"), "id"), {"owner_id"}),
    "by id of a label": Shape(lambda s: s.page(Wanted(label="jazz"), "id"), {"labels_id"}),
    "by id of a status": Shape(lambda s: s.page(Wanted(status="quarantined"), "id"), {"status_id"}),
    "labels": Shape(lambda s: browse.label_counts(s.catalog), {"labels_id", "labels_created_at_id"}),
    # catalog.py
    "waiting": Shape(lambda s: s.catalog.waiting(5), {"status_id"}),
    "number of waiting": Shape(
        lambda s: s.catalog.waiting_count(500), {"status_id", "status_created_at_id", "duplicate_of"}
    ),
    "quarantined": Shape(lambda s: s.catalog.quarantined(5), {"status_id"}),
    "under keys": Shape(lambda s: s.catalog.under_keys("images", ["3.jpg", "4.jpg"]), {"bucket_key_version"}),
    "segments": Shape(lambda s: s.catalog.featured_segments(), {"status_id", "status_created_at_id"}),
    "copies that wait": Shape(
        lambda s: s.catalog.settle_duplicates(), {"duplicate_of", "status_id", "status_created_at_id"}
    ),
    "exact copies": Shape(lambda s: s.catalog.exact_copies(), {"duplicate_of"}),
    "to compare": Shape(lambda s: s.catalog.to_compare(UUID(int=0), UUID(int=1 << 120)), {"compared", "_id_"}, True),
    "members of groups": Shape(lambda s: s.catalog.members(GROUPS[:2]), {"group"}, sorts=True),
    "groups": Shape(lambda s: s.catalog.groups(5), {"group_size"}),
    "groups after one": Shape(lambda s: s.catalog.groups(5, (3, GROUPS[3])), {"group_size"}),
    "all that are grouped": Shape(lambda s: s.catalog.grouped(), {"group"}),
    "pairs": Shape(lambda s: list(s.catalog.pairs([s.image])), {"images"}),
    "of a label": Shape(lambda s: s.catalog.matching(Filter(label="jazz")), {"labels_id", "labels_created_at_id"}),
    "of an owner": Shape(lambda s: s.catalog.matching(Filter(owner="ann")), {"owner_id", "owner_created_at_id"}),
    "of a time": Shape(lambda s: s.catalog.matching(Filter(since=NOW + timedelta(hours=29))), {"created_at_id"}),
    # figures.py
    "lately": Shape(lambda s: figures.indexed_by_minute(s.catalog, NOW + timedelta(hours=29)), {"indexed_at"}),
    "delays": Shape(lambda s: figures.delays(s.catalog, NOW + timedelta(hours=29), 5), {"indexed_at"}),
    "reasons": Shape(
        lambda s: figures.quarantine_reasons(s.catalog, 5), {"status_id", "status_created_at_id"}, sorts=True
    ),
    # labelled.py
    "export": Shape(lambda s: list(labelled.labelled(s.catalog, Filter(), True)), {"stage_id", "_id_"}),
    "names": Shape(lambda s: labelled.by_file_name(s.catalog, ["IMG_1.jpg"], None), {"original_filename_id"}),
    "stems": Shape(lambda s: labelled.by_stem(s.catalog, ["IMG_1"], None), {"original_filename_id"}),
    # annotations.py
    "to label": Shape(lambda s: s.queue("label"), {"attention_id"}),
    "to label of a label": Shape(
        lambda s: s.queue("label", wanted=Filter(label="jazz")),
        {"attention_id", "labels_id", "labels_created_at_id"},
        sorts=True,
    ),
    "to review": Shape(lambda s: s.queue("review"), {"stage_id"}),
    "second opinion": Shape(lambda s: s.queue("second"), {"stage_id"}),
    "second opinion on gold": Shape(lambda s: s.queue("second", gold=True), {"gold"}, sorts=True),
    "gold": Shape(lambda s: s.annotations.gold(), {"gold"}),
    "a decision": Shape(lambda s: s.annotations.decision(s.image, 2), {"image_revision"}),
    "decisions since": Shape(lambda s: s.annotations.since(s.image, 1, 5), {"image_revision"}),
    "history": Shape(lambda s: s.annotations.history(s.image, 5, 9), {"image_revision"}),
    "histories": Shape(lambda s: list(s.annotations.histories([s.image])), {"image_revision"}),
    "with opinions": Shape(lambda s: s.annotations.with_opinions(), {"kind_image"}),
    # jobs.py, users.py
    "next job": Shape(lambda s: s.jobs.take(), {"state_created_at"}, sorts=True),
    "jobs of one": Shape(lambda s: s.jobs.page("ann", 5), {"by_created_at_id"}),
    "more jobs of one": Shape(lambda s: s.jobs.page("ann", 5, (NOW, s.image)), {"by_created_at_id"}),
    "jobs of all": Shape(lambda s: s.jobs.page(None, 5), {"created_at_id"}),
    "a name": Shape(lambda s: Users(s.catalog.database).find("ann"), {"key"}),
    "names in order": Shape(lambda s: Users(s.catalog.database).page(5), {"key"}),
}
# Those that no reading uses: of deletions of sessions, by their user and by the server itself.
DELETING = {"user", "expires_at"}


def images() -> Iterator[Document]:
    """Images of all states; of labels, owners and sources some each; some in groups, some of the gold set."""
    chance = random.Random(1)
    statuses = ["pending", "collected", "featured", "quarantined", "deleted"]
    for number in range(IMAGES):
        at = NOW + timedelta(seconds=chance.randrange(30 * 3600))
        labels = chance.sample(["jazz", "soul", "folk", "rock", "pop"], chance.randint(0, 2))
        stage = chance.choice(["labelled", "accepted", "rejected"]) if labels else "unlabelled"
        one: Document = {
            "_id": UUID(int=chance.getrandbits(128)),
            **{"bucket": "images", "key": f"{number}.jpg", "version": "e", "reason": None, "segment": "s"},
            "status": chance.choice(statuses) if chance.random() < 0.2 else "indexed",
            **{"labels": labels, "boxes": [], "stage": stage, "attention": 3 if labels else chance.randint(0, 2)},
            **{"revision": 0, "labelled_by": "bob", "private": chance.random() < 0.05},
            "owner": chance.choice(["ann", "bob", "cy", None]),
            "source": chance.choice(["import", "upload", "events"]),
            "original_filename": f"{chance.choice(['IMG', 'DSC', 'scan'])}_{number}.jpg",
            "duplicate_of": UUID(int=number) if chance.random() < 0.05 else None,
            "compared": chance.random() < 0.9,
            **{"created_at": at, "updated_at": at, "indexed_at": at},
        }
        if chance.random() < 0.1:
            one["group"] = chance.choice(GROUPS)
            one["group_size"] = chance.choice([None, 2, 3, 4])
        if chance.random() < 0.01:
            one["gold"] = {"labels": ["jazz"], "boxes": [], "by": "ada", "at": NOW}
        yield one


def fill(stores: Stores) -> None:
    database, people = stores.catalog.database, ["ann", "bob", "cy"]
    stores.catalog.images.insert_many(list(images()))
    ids = [uuid4() for _ in range(500)] + [stores.image]
    said: Document = {"at": NOW, "labels": [], "boxes": [], "by": "ann"}
    kinds = ["label", "review", "opinion"]
    decisions = [{**said, "image": one, "revision": n, "kind": kinds[n % 3]} for one in ids for n in range(1, 5)]
    database["decisions"].insert_many(decisions)
    pairs = [{"images": sorted([one, other]), "score": 1.0} for one, other in pairwise(ids)]
    database["near_duplicates"].insert_many(pairs)
    for number in range(300):
        job = stores.jobs.add("export", people[number % 3], {})
        state = {"state": "done", "created_at": NOW + timedelta(minutes=number)} if number % 20 else {}
        database["jobs"].update_one({"_id": job["_id"]}, {"$set": {"heartbeat": NOW, **state}})
        Users(database).add(f"user-{number}", None, "viewer")


@pytest.fixture
def stores(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    """On the stand-in."""
    yield from _stores(settings, monkeypatch)


def _stores(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    seen = Seen()
    monkeypatch.setattr(catalog, "MongoClient", partial(MongoClient, event_listeners=[seen]))
    opened = Catalog(settings)
    opened.prepare()
    stores = Stores(opened, seen)
    fill(stores)
    yield stores
    opened.client.drop_database(settings.database_name)
    opened.close()


@pytest.fixture
def real_stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    """On the server that MONGODB_URI names."""
    yield from _stores(Settings(database_name=f"t-{uuid4().hex[:12]}"), monkeypatch)


def commands(stores: Stores, shape: Shape) -> list[Document]:
    """What a query sends."""
    stores.seen.commands.clear()
    shape.ask(stores)
    return list(stores.seen.commands)


def stages(explained: Any) -> Iterator[Document]:
    """All stages of the winning plan, outermost first, whatever it is wrapped in.

    Servers wrap it in `stages` and `$cursor` for what is left of an aggregation, and in `queryPlan` where their newer
    engine runs it (https://www.mongodb.com/docs/manual/reference/explain-results/).
    """
    if isinstance(explained, list):
        for one in explained:
            yield from stages(one)
    elif isinstance(explained, dict):
        if "stage" in explained:
            yield explained
        for name, one in explained.items():
            if name not in ("rejectedPlans", "slotBasedPlan", "command", "serverInfo", "parsedQuery"):
                yield from stages(one)


def test_every_index_serves_a_query(stores: Stores) -> None:
    asked = {name: commands(stores, shape) for name, shape in SHAPES.items()}
    assert [name for name, sent in asked.items() if not sent] == []
    there = {index.document["name"] for indexes in schema.INDEXES.values() for index in indexes}
    assert set.union(*(shape.indexes for shape in SHAPES.values())) | DELETING == there | {"_id_"}


@pytest.mark.mongodb
def test_every_query_is_served_by_its_index(real_stores: Stores) -> None:
    wrong = {}
    for name, shape in SHAPES.items():
        for command in commands(real_stores, shape):
            explained = real_stores.catalog.database.command("explain", command, verbosity="queryPlanner")
            plan = list(stages(explained))
            kinds, used = {stage["stage"] for stage in plan}, {stage.get("indexName") for stage in plan} - {None}
            # Some look up documents by their ids as well, beside what they are named after.
            by_id = "IDHACK" in kinds or (used == {"_id_"} and "sort" not in command)
            sorted_late = not shape.sorts and "SORT" in kinds
            if "COLLSCAN" in kinds or sorted_late or not (by_id or (used and used <= shape.indexes)):
                wrong[name] = kinds, used
    assert wrong == {}


def test_stages_of_plans_in_all_their_wrappings() -> None:
    scan = {"stage": "FETCH", "inputStage": {"stage": "IXSCAN", "indexName": "stage_id"}}
    for wrapped in (
        {"queryPlanner": {"winningPlan": scan, "rejectedPlans": [{"stage": "COLLSCAN"}]}},
        {"queryPlanner": {"winningPlan": {"queryPlan": scan, "slotBasedPlan": {"stages": "..."}}}},
        {"stages": [{"$cursor": {"queryPlanner": {"winningPlan": scan}}}, {"$group": {"_id": "$labels"}}]},
    ):
        assert [stage["stage"] for stage in stages(wrapped)] == ["FETCH", "IXSCAN"]
