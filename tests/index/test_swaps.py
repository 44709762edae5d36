"""Swapping generations under load, and generations that must never be served."""

import gc
import resource
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.index import compaction, growth, history
from pipeline.index.generations import Generations
from pipeline.index.reader import Reader
from pipeline.settings import Settings
from pipeline.stores.catalog import Catalog
from pipeline.stores.objects import Objects

from .conftest import Add, Picture, append, elsewhere, only, rebuild

CLIENTS = 16
SWAPS = 20


def resident() -> int:
    """Bytes of this process in memory, without files that are mapped."""
    fields = Path("/proc/self/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * resource.getpagesize()


class Load:
    """Clients that search again and again, and what they got."""

    def __init__(self, reader: Reader, ask: Callable[[], bool]) -> None:
        self.answers, self.wrong, self.errors = 0, 0, []  # type: ignore[var-annotated]
        self._stop = threading.Event()
        self._ask, self._reader = ask, reader
        self._clients = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self) -> "Load":
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for client in self._clients:
            client.join()

    def _run(self) -> None:
        # A breath between two questions, or the clients would leave nothing of the machine for publishing.
        while not self._stop.wait(0.5):
            try:
                right = self._ask()
            except Exception as error:
                self.errors.append(error)
                return
            self.answers += 1
            self.wrong += not right


def test_no_query_fails_over_twenty_publishes_and_two_rollbacks(
    generations: Generations, add: Add, pictures: list[Picture], catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "sq8", probes=10_000)
    append(generations, add(pictures[:8]))
    always = max(pictures[:8], key=lambda one: len(one.photo))
    reader = Reader(generations)
    assert reader.refresh()
    served = []

    def ask() -> bool:
        return [match.image_id for match in reader.search(always.photo, 1, 0.0)] == [always.id]

    with Load(reader, ask) as load:
        for number in range(SWAPS):
            if number % 5 == 4:
                rebuild(generations)
            else:
                append(generations, add([pictures[8 + number % 16]]))
            catalog.indexed(catalog.featured_segments())
            assert reader.refresh()
            served.append(reader.manifest and reader.manifest.id)
            if number in (7, 15):
                history.roll_back(generations)
                assert reader.refresh()
            history.prune(generations)
    assert load.errors == []
    assert load.wrong == 0
    assert load.answers > 50
    assert len(set(served)) == SWAPS
    assert reader.last_error is None
    reader.stop()


def test_swapping_loses_no_memory(
    generations: Generations, add: Add, pictures: list[Picture], catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Packed codes are read into memory, so a generation that is not freed would show.
    only(monkeypatch, "pq")
    monkeypatch.setattr(compaction, "SMALL_IMAGES", 1)
    both = [append(generations, add(pictures)), rebuild(generations)]
    reader = Reader(generations)
    size = sum(part.bytes for part in both[0].parts)

    def swap(times: int) -> int:
        for number in range(times):
            assert catalog.roll_back_generation(both[number % 2].id, catalog.published(), [])
            assert reader.refresh()
        gc.collect()
        return resident()

    before = swap(20)
    assert swap(60) - before < 30 * size
    reader.stop()


@pytest.mark.parametrize("kind", ["segments", "parts", "trained"])
@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_a_generation_with_any_broken_file_is_never_served_and_says_which(
    generations: Generations,
    add: Add,
    pictures: list[Picture],
    settings: Settings,
    objects: Objects,
    catalog: Catalog,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    damage: str,
) -> None:
    only(monkeypatch, "sq8")
    good = append(generations, add(pictures[:4]))
    # The reader is another machine: it has its own disk.
    reader = Reader(elsewhere(generations))
    assert reader.refresh()
    add(pictures[4:6])
    bad = generations.load(growth.rebuild(generations, good, [generations.segment_info(add(pictures[4:6]))], "test"))
    key = next(key for key in bad.files() if key.startswith(kind) and key not in good.files())
    data = bytearray(objects.get(settings.sleeve_bucket, key))
    data[len(data) // 2] ^= 1
    if damage == "flipped":
        objects.put(settings.sleeve_bucket, key, bytes(data))
    else:
        objects.delete(settings.sleeve_bucket, key)
    catalog.publish_generation(bad.id, good.id)

    assert not reader.refresh()
    assert reader.manifest == good
    assert reader.last_error is not None
    assert key in reader.last_error
    found = [bool(reader.search(one.photo, 1, 0.5)) for one in pictures[:4]]
    assert sum(found) >= 3
    # The way out: back to the last good one.
    assert history.roll_back(generations) == good
    assert not reader.refresh()
    assert reader.last_error is None
    reader.stop()
