"""The doorbell: one asset event when work waits."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.sdk.observability import stats
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

log = logging.getLogger(__name__)

# A dependency that is down must not make the triggerer spin; it is asked again this often, in seconds.
RETRY = 5.0


class BacklogTrigger(BaseEventTrigger):
    """Fires while the named backlog is not empty, as `pipeline.doorbell.Bell` decides.

    :param backlog: a name of `pipeline.doorbell.BACKLOGS`.
    :param poll: seconds between two looks.
    :param ring_again: seconds after which an unanswered ring is repeated.

    The arguments are stored in Airflow's database, so they carry no addresses and no secrets: those are read from the
    triggerer's environment.
    """

    def __init__(self, backlog: str, poll: float = 1.0, ring_again: float = 15.0) -> None:
        super().__init__()
        self.backlog = backlog
        self.poll = poll
        self.ring_again = ring_again

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {"backlog": self.backlog, "poll": self.poll, "ring_again": self.ring_again}
        return "triggers.backlog.BacklogTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, ring, sleep. The looks block on the network, so they run in a thread."""
        from pipeline.doorbell import Bell

        bell = Bell(self.ring_again)
        source = None
        try:
            while True:
                try:
                    source = source or await asyncio.to_thread(self._open)
                    waiting = await asyncio.to_thread(source.backlog)
                except Exception as error:
                    # Whatever the clients raise when a server is away: the bell must outlive it, and says so.
                    log.warning("cannot see the backlog %r, next try in %s s: %s", self.backlog, RETRY, error)
                    await asyncio.sleep(RETRY)
                    continue
                stats.gauge(f"sleeve.backlog.{self.backlog}", waiting)
                if bell.rings(waiting, time.monotonic()):
                    yield TriggerEvent({"backlog": waiting})
                await asyncio.sleep(self.poll)
        finally:
            if source:
                await asyncio.to_thread(source.close)

    def _open(self) -> Any:
        from pipeline.context import Context
        from pipeline.doorbell import BACKLOGS
        from pipeline.settings import Settings

        return BACKLOGS[self.backlog](Context(Settings()))
