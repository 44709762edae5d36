"""Serving: the current generation opened, and swapped for the next one without dropping a query."""

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

from pipeline.features.photo import Photo
from pipeline.features.sift import Features
from pipeline.index.generations import Generations
from pipeline.index.manifest import Manifest
from pipeline.index.opened import OpenGeneration, one_thread
from pipeline.index.recognise import Alive, Match, Wanted, recognise

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
# How often the lease is renewed, which lasts five minutes, and the disk cleaned of what the store has dropped.
RENEW_SECONDS = 60.0


class Reader:
    """Answers searches from the current generation, follows the pointer, and keeps the last good one.

    Use as a context manager, or call `start` and `stop`. Safe for any number of threads; as many queries as there are
    cores run at a time, the others wait.
    """

    def __init__(
        self, generations: Generations, heard: Callable[[Mapping[str, float]], None] = lambda seconds: None
    ) -> None:
        """`heard` is told of each search how many seconds its steps took."""
        self._generations = generations
        self._heard = heard
        self._open: OpenGeneration | None = None
        self._refreshing = threading.Lock()
        self._stopped = threading.Event()
        self._poll: threading.Thread | None = None
        self._workers = ThreadPoolExecutor(os.cpu_count() or 1, "search", initializer=one_thread)
        self._lease = f"lease:{uuid4()}"
        self._renewed_at = 0.0
        self.last_error: str | None = None
        """Why the newest generation is not the one that is served; None while it is."""

    def __enter__(self) -> "Reader":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def manifest(self) -> Manifest | None:
        """The generation that answers now."""
        opened = self._open
        return opened.manifest if opened else None

    def start(self) -> None:
        """Open the current generation and follow the pointer from now on."""
        self.refresh()
        self._poll = threading.Thread(target=self._follow, name="generation-poll", daemon=True)
        self._poll.start()

    def stop(self) -> None:
        """Stop following; queries that have begun are answered."""
        self._stopped.set()
        if self._poll:
            self._poll.join()
        self._workers.shutdown()
        self._generations.catalog.end_lease(self._lease)

    def _follow(self) -> None:
        # Jitter, so that replicas that were started together do not ask together.
        while not self._stopped.wait(POLL_SECONDS * random.uniform(0.5, 1.5)):
            self.refresh()

    def refresh(self) -> bool:
        """Serve the generation that is current now; True if that is a change. On any trouble keep the last good one."""
        with self._refreshing:
            try:
                changed = self._swap()
                self._renew()
            except Exception as error:  # whatever is wrong with the new generation or the servers, go on answering
                reason = f"{type(error).__name__}: {error}"
                if reason != self.last_error:
                    log.exception("keeping generation %s", self._open.manifest.id if self._open else None)
                self.last_error = reason
                return False
            self.last_error = None
            return changed

    def _swap(self) -> bool:
        current = self._generations.current_id()
        if current is None or (self._open and self._open.manifest.id == current):
            return False
        # Both, so that neither is removed while the one is opened and the other still answers.
        self._hold([current, *([self._open.manifest.id] if self._open else [])])
        manifest = self._generations.load(self._generations.uri(current))
        opened = OpenGeneration.open(manifest, self._generations.files, self._open)
        if len(opened):
            # The first query after a swap should not be the one that waits for the disk; nor this one for all others.
            one_thread()
            recognise(opened, opened.features(0), Wanted())
        # Queries that run hold on to the old one; it is freed with the last of them.
        self._open = opened
        self._hold([current])
        log.info("serving generation %s: %d images", manifest.id, len(opened))
        return True

    def _hold(self, generations: list[str]) -> None:
        self._generations.catalog.renew_lease(self._lease, generations)
        self._renewed_at = time.monotonic()

    def _renew(self) -> None:
        opened = self._open
        if opened and time.monotonic() - self._renewed_at >= RENEW_SECONDS:
            self._hold([opened.manifest.id])
            self._generations.files.clean(opened.manifest.files())

    def features(self, image_id: UUID) -> Features | None:
        """Stored features of an image; None when the generation that answers now does not have it."""
        opened = self._open
        number = opened.number(image_id) if opened else None
        return opened.features(number) if opened and number is not None else None

    def search(
        self,
        query: Photo | Features,
        top_n: int,
        threshold: float,
        alive: Alive | None = None,
        only: Collection[UUID] | None = None,
    ) -> list[Match]:
        """What the query shows, best first: see pipeline.index.recognise. Nothing while there is no generation.

        Raises BadImage or NoFeatures.
        """
        wanted = Wanted(top_n, threshold, only, alive)
        asked = time.perf_counter()

        def answer() -> list[Match]:
            wanted.watch.seconds["wait"] = time.perf_counter() - asked
            # Only now looks which generation answers, since the query may have waited for others.
            return recognise(self._open, query, wanted)

        try:
            return self._workers.submit(answer).result()
        finally:
            self._heard(wanted.watch.seconds)
