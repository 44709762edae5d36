"""Fifty people search by HTTP while generations are published and rolled back: nobody is turned away."""

import threading
from collections import Counter
from collections.abc import Iterator

import httpx
import psutil
import pytest

from bench.acceptance import await_that, found_first
from devstack.stack import Stack
from pipeline import indexing
from pipeline.client import Client, Refused
from pipeline.context import Context
from pipeline.samples import cover, snapshot_jpeg
from pipeline.settings import Settings
from tests.steps import bring

CLIENTS = 50
PUBLISHES = 20
ROLLBACKS = (7, 15)
COVERS = 12


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("serving"), ("kafka", "mongo", "s3", "api")) as stack:
        yield stack


class Clients:
    """They ask for a cover each, again and again, and count the answers."""

    def __init__(self, settings: Settings) -> None:
        self.answers: Counter[str] = Counter()
        self._settings = settings
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        photo = snapshot_jpeg(cover(number % COVERS), seed=number % COVERS)
        with Client.of(self._settings) as client:
            while not self._stop.wait(1.0):
                try:
                    found = found_first(client, photo)
                    self.answers["right" if found == f"{number % COVERS}.jpg" else str(found)] += 1
                except (httpx.HTTPError, Refused) as error:
                    self.answers[repr(error)] += 1


def publish_next(context: Context, number: int) -> None:
    """An append of one cover; every fifth time a rebuild."""
    if number % 5 == 4:
        shards = indexing.plan(context, "test")
        for shard in shards:
            indexing.build_shard(context, shard["plan"], shard["shard"])
        uri = indexing.merge(context, shards[0]["plan"])
    else:
        bring(context, COVERS + number)
        uri = indexing.append(context) or ""
    indexing.evaluate(context, uri)
    assert indexing.publish(context, uri)["published"]


def test_fifty_clients_notice_nothing(serving: Stack) -> None:
    context = Context(Settings.of(serving.env))
    context.catalog.prepare()
    bring(context, *range(COVERS))
    uri = indexing.append(context) or ""
    indexing.evaluate(context, uri)
    indexing.publish(context, uri)
    url = serving.env["SLEEVE_API_URL"]
    served: list[str] = []

    def follows() -> bool:
        answer = httpx.get(url + "/readyz", timeout=60)
        served.append(answer.json().get("generation", ""))
        return served[-1] == context.catalog.current_generation()

    await_that(follows, "the first generation is served", patience=60)
    api = psutil.Process(next(line.pid for line in serving.status() if line.name == "api"))
    with Clients(context.settings) as clients:
        for number in range(PUBLISHES):
            publish_next(context, number)
            if number in ROLLBACKS:
                indexing.roll_back(context)
            indexing.prune(context)
            await_that(follows, f"publish {number} is served", patience=60)
            if number == PUBLISHES // 2:
                middle = api.memory_info().rss
    grown = api.memory_info().rss - middle
    assert set(clients.answers) == {"right"}
    assert clients.answers.total() > CLIENTS
    # What was rolled back at once may have been current between two looks at the pointer.
    assert len({one for one in served if one}) >= PUBLISHES - len(ROLLBACKS)
    assert grown < 100e6
