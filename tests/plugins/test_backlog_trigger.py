"""The doorbell as the triggerer runs it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from airflow.serialization.serialized_objects import BaseSerialization

import pipeline.doorbell
import triggers.backlog
from triggers.backlog import BacklogTrigger


class Scripted:
    """A backlog that says what the test wrote down; an exception in the script is raised."""

    def __init__(self, script: list[int | Exception]) -> None:
        self.script = script
        self.closed = False

    def backlog(self) -> int:
        said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(said, Exception):
            raise said
        return said

    def close(self) -> None:
        self.closed = True


async def rings(trigger: BacklogTrigger, count: int) -> list[dict]:
    events: AsyncIterator = trigger.run()
    found = [(await asyncio.wait_for(anext(events), 10)).payload for _ in range(count)]
    await events.aclose()
    return found


def test_it_rings_for_a_backlog_and_again_while_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Scripted([0, 0, 7])
    monkeypatch.setitem(pipeline.doorbell.BACKLOGS, "ingest", lambda context: source)
    trigger = BacklogTrigger("ingest", poll=0.01, ring_again=0.2)
    assert asyncio.run(rings(trigger, 3)) == [{"backlog": 7}] * 3
    assert source.closed


def test_a_server_that_is_away_silences_it_only_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Scripted([ConnectionError("broker down"), ConnectionError("broker down"), 3])
    monkeypatch.setitem(pipeline.doorbell.BACKLOGS, "ingest", lambda context: source)
    monkeypatch.setattr(triggers.backlog, "RETRY", 0.01)
    assert asyncio.run(rings(BacklogTrigger("ingest", poll=0.01), 1)) == [{"backlog": 3}]


def test_it_survives_airflows_database_and_carries_no_secret() -> None:
    path, arguments = BacklogTrigger("rebuild", poll=60.0, ring_again=3600.0).serialize()
    assert path == "triggers.backlog.BacklogTrigger"
    stored = BaseSerialization.deserialize(BaseSerialization.serialize(arguments))
    assert BacklogTrigger(**stored).serialize() == (path, arguments)
    assert set(arguments) == {"backlog", "poll", "ring_again"}
