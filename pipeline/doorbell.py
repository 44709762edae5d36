"""When to ring for work. A ring starts a run; what the run works on is read from the source itself.

Airflow may strand an asset event that comes while its DAG has a run queued, so a ring is never the only record of
anything: while a backlog remains the bell rings again, and a lost ring costs a delay.
"""

from typing import Protocol

from pipeline.context import Context
from pipeline.sources.kafka import KafkaSource

# Growth rings at most this often, in seconds: a burst becomes a micro-batch and not a run for each message.
MICRO_BATCH = 3.0


class Backlog(Protocol):
    """Something that work can wait in."""

    def backlog(self) -> int:
        """How much waits, 0 for nothing."""

    def close(self) -> None:
        """Give back connections."""


class IngestBacklog:
    """What the ingest DAG has to do: unread messages, and images that an import or an earlier run left waiting."""

    def __init__(self, context: Context) -> None:
        self._kafka = KafkaSource(context.settings) if context.settings.kafka_bootstrap_servers else None
        self._catalog = context.catalog

    def backlog(self) -> int:
        lag = self._kafka.backlog() if self._kafka else 0
        return lag + self._catalog.waiting_count(limit=1)

    def close(self) -> None:
        if self._kafka:
            self._kafka.close()
        self._catalog.close()


class RebuildBacklog:
    """What the rebuild DAG has to do: 1 when the current generation should be trained anew."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def backlog(self) -> int:
        from pipeline.indexing import rebuild_reason

        return int(rebuild_reason(self._context) is not None)

    def close(self) -> None:
        self._context.catalog.close()


BACKLOGS = {"ingest": IngestBacklog, "rebuild": RebuildBacklog}


class Bell:
    """Decides, from one look at the backlog after another, when to ring.

    It rings when a backlog appears, when it grows (at most once per MICRO_BATCH), and again every `ring_again` seconds
    while it lasts.
    """

    def __init__(self, ring_again: float) -> None:
        self._ring_again = ring_again
        self._rung_at: float | None = None
        self._lowest = 0

    def rings(self, backlog: int, now: float) -> bool:
        """Whether to ring, given the backlog at the time `now` in seconds."""
        if not backlog:
            self._rung_at, self._lowest = None, 0
            return False
        self._lowest = min(self._lowest, backlog)
        if self._rung_at is not None:
            quiet = now - self._rung_at
            grown = backlog > self._lowest and quiet >= MICRO_BATCH
            if not grown and quiet < self._ring_again:
                return False
        self._rung_at, self._lowest = now, backlog
        return True
