"""Messages in, offsets only by commit, and dead letters out."""

import json
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from pipeline.settings import Settings
from pipeline.sources import Reject
from pipeline.sources.kafka import MAX_DEAD_LETTER_BYTES, DeadLetters, KafkaSource

Send = Callable[..., None]


@pytest.fixture
def send(topics: Settings) -> Send:
    # One at a time, or a retry could change the order.
    producer = Producer({"bootstrap.servers": topics.kafka_bootstrap_servers, "max.in.flight": 1})

    def send(*values: bytes | None, partition: int = 0) -> None:
        for value in values:
            producer.produce(topics.kafka_topic, value, partition=partition)
        assert producer.flush(20) == 0

    return send


@pytest.fixture
def make(topics: Settings) -> Iterator[Callable[[], KafkaSource]]:
    """A new source each time, as each run has its own."""
    made: list[KafkaSource] = []

    def make() -> KafkaSource:
        made.append(KafkaSource(topics))
        return made[-1]

    yield make
    for source in made:
        source.close()


def event(key: str) -> bytes:
    return json.dumps({"bucket": "images", "key": key}).encode()


def dead_letters(settings: Settings) -> list[tuple[bytes | None, str, str]]:
    """(value, reason, where) of all dead letters."""
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "test"})
    place = TopicPartition(settings.kafka_dead_letter_topic, 0, 0)
    end = consumer.get_watermark_offsets(place, timeout=20)[1]
    consumer.assign([place])
    letters = []
    for message in consumer.consume(end, timeout=20):
        headers = dict(message.headers() or [])
        letters.append((message.value(), headers["reason"].decode(), headers["where"].decode()))
    consumer.close()
    assert len(letters) == end
    return letters


def test_nothing_there(make: Callable[[], KafkaSource]) -> None:
    source = make()
    assert source.backlog() == 0
    batch = source.drain(10)
    assert (batch.events, batch.rejects, batch.taken) == ([], [], 0)
    source.commit(batch)


def test_messages_of_all_partitions_in_their_order(make: Callable[[], KafkaSource], send: Send) -> None:
    send(*(event(f"a{number}") for number in range(30)))
    send(*(event(f"b{number}") for number in range(20)), partition=1)
    source = make()
    assert source.backlog() == 50
    batch = source.drain(1000)
    keys = [one.key for one in batch.events]
    assert [key for key in keys if key[0] == "a"] == [f"a{number}" for number in range(30)]
    assert [key for key in keys if key[0] == "b"] == [f"b{number}" for number in range(20)]
    assert (batch.taken, len(keys)) == (50, 50)


def test_same_batch_again_until_it_is_committed(make: Callable[[], KafkaSource], send: Send) -> None:
    send(event("a"), event("b"))
    first = make().drain(10)
    assert make().backlog() == 2
    source = make()
    assert source.drain(10).events == first.events
    again = source.drain(10)
    assert again.events == first.events
    source.commit(again)
    assert source.backlog() == 0
    assert make().backlog() == 0
    send(event("c"))
    assert [one.key for one in make().drain(10).events] == ["c"]


def test_messages_that_come_after_the_drain_stay(make: Callable[[], KafkaSource], send: Send) -> None:
    send(event("a"))
    source = make()
    batch = source.drain(10)
    send(event("b"))
    source.commit(batch)
    assert make().backlog() == 1
    assert [one.key for one in source.drain(10).events] == ["b"]


def test_limit(make: Callable[[], KafkaSource], send: Send) -> None:
    send(*(event(f"a{number}") for number in range(7)))
    send(*(event(f"b{number}") for number in range(7)), partition=1)
    seen: list[str] = []
    source = make()
    for left in (9, 4, 0):
        batch = source.drain(5)
        assert batch.taken <= 5
        seen += [one.key for one in batch.events]
        source.commit(batch)
        assert source.backlog() == left
    assert sorted(seen) == sorted([f"{name}{number}" for name in "ab" for number in range(7)])


def test_flood_of_large_messages_is_taken_in_parts(
    make: Callable[[], KafkaSource], send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.sources.kafka.MAX_BATCH_BYTES", 1_000_000)
    monkeypatch.setattr("pipeline.sources.kafka.FETCH", 2)
    send(*[b"x" * 300_000] * 9, event("last"))
    source = make()
    parts = []
    while (batch := source.drain(100)).taken:
        parts.append(batch.taken)
        source.commit(batch)
    assert parts == [4, 4, 2]
    assert source.backlog() == 0


def test_several_records_in_a_message_count_as_one(make: Callable[[], KafkaSource], send: Send) -> None:
    send(b"[" + b",".join(event(f"{number}") for number in range(5)) + b"]")
    batch = make().drain(1)
    assert (batch.taken, len(batch.events)) == (1, 5)


def test_poison_is_rejected_and_what_is_behind_flows(
    make: Callable[[], KafkaSource], send: Send, topics: Settings
) -> None:
    poison = [b'{"key": "\xff"}', None, b'{"no": "event"}', b"x" * 900_000, b"[" * 100_000, b""]
    send(event("before"), *poison, event("behind"))
    source = make()
    batch = source.drain(100)
    assert [one.key for one in batch.events] == ["before", "behind"]
    assert [reject.message for reject in batch.rejects] == poison
    assert [reject.where for reject in batch.rejects] == [f"{topics.kafka_topic}[0]@{offset}" for offset in range(1, 7)]
    reasons = [reject.reason for reject in batch.rejects]
    assert "not UTF-8" in reasons[0]
    assert "tombstone" in reasons[1]
    assert "bucket and key" in reasons[2]
    assert all("not JSON" in reason for reason in reasons[3:])
    DeadLetters(topics).send(batch.rejects)
    source.commit(batch)
    assert source.backlog() == 0
    assert make().drain(10).taken == 0
    letters = dead_letters(topics)
    assert [letter[1:] for letter in letters] == [(reject.reason, reject.where) for reject in batch.rejects]
    kept = [value and value[:MAX_DEAD_LETTER_BYTES] for value in poison]
    assert [letter[0] for letter in letters] == kept


def test_dead_letter_that_is_not_taken_raises(topics: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the drain would go on and commit, and the message would be nowhere."""
    monkeypatch.setattr(topics, "kafka_dead_letter_topic", "not a topic's name")
    with pytest.raises(KafkaException):
        DeadLetters(topics).send([Reject(b"x", "reason", "where")])


def test_committed_offset_beyond_the_end(make: Callable[[], KafkaSource], send: Send, topics: Settings) -> None:
    """What a topic that was made anew, or a broker that lost its last seconds, leaves behind: nothing is skipped."""
    send(event("a"), event("b"))
    send(event("c"), partition=1)
    source = make()
    stale = source.drain(0)
    source.commit(type(stale)([], position={0: 1000}))
    assert make().backlog() == 3
    assert sorted(one.key for one in make().drain(10).events) == ["a", "b", "c"]


def test_messages_that_retention_removed_are_passed(
    make: Callable[[], KafkaSource], send: Send, topics: Settings
) -> None:
    from confluent_kafka.admin import AdminClient

    send(*(event(f"{number}") for number in range(6)))
    source = make()
    source.commit(source.drain(2))
    admin = AdminClient({"bootstrap.servers": topics.kafka_bootstrap_servers})
    for removed in admin.delete_records([TopicPartition(topics.kafka_topic, 0, 4)]).values():
        removed.result(timeout=20)
    assert source.backlog() == 2
    assert [one.key for one in source.drain(10).events] == ["4", "5"]


def test_topic_that_is_not_there(topics: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topics, "kafka_topic", f"{topics.kafka_topic}-none")
    source = KafkaSource(topics)
    with pytest.raises(KafkaException, match=r"(?i)unknown"):
        source.backlog()
    source.close()
