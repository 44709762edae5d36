"""The Kafka topic that bucket events and producers' events arrive on.

Partitions are assigned by hand: only one drain runs at a time, so the group needs no members, and a task that is over
in a second does not wait for a rebalance. Offsets are still committed to the group, where every Kafka tool can see the
consumer lag. A drain that runs twice reads the same messages twice, which changes nothing.
"""

import time
from collections.abc import Iterable
from typing import Any

import tenacity
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from pipeline.errors import BadEvent
from pipeline.events import ImageEvent, parse
from pipeline.settings import Settings
from pipeline.sources import Batch, Reject

TIMEOUT = 10.0
FETCH = 200
# One drain takes no more than this and a fetch, however large the messages are: they are held in memory together.
MAX_BATCH_BYTES = 128 << 20
FETCH_SECONDS = 0.1
# A broker takes messages of up to a megabyte unless told otherwise; of larger ones the beginning is kept.
MAX_DEAD_LETTER_BYTES = 500_000


def _has_no_coordinator(error: BaseException) -> bool:
    """For a moment, while a broker starts or the group is new, nobody looks after its offsets."""
    codes = (
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    )
    return isinstance(error, KafkaException) and error.args[0].code() in codes


class KafkaSource:
    """The unread messages of the topic KAFKA_TOPIC for the group KAFKA_GROUP."""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.kafka_topic
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.require("kafka_bootstrap_servers"),
                "group.id": settings.kafka_group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "socket.timeout.ms": int(TIMEOUT * 1000),
                "fetch.wait.max.ms": 50,
            }
        )

    def backlog(self) -> int:
        """The consumer lag: messages not yet committed."""
        return sum(end - start for start, end in self._spans().values())

    def drain(self, limit: int) -> Batch:
        """Messages that are there now, oldest first within their partition, at most `limit` and MAX_BATCH_BYTES."""
        position = {p: start for p, (start, end) in self._spans().items() if start < end}
        self._consumer.assign([TopicPartition(self._topic, p, start) for p, start in position.items()])
        events: list[ImageEvent] = []
        rejects: list[Reject] = []
        taken, taken_bytes, open_partitions = 0, 0, set(position)
        while taken < limit and taken_bytes < MAX_BATCH_BYTES and open_partitions:
            for message in self._consume(min(FETCH, limit - taken)):
                partition, offset = _place(message)
                if message.error():
                    # The end, which is past the last message where a transaction's marker follows it.
                    position[partition] = offset
                    open_partitions.discard(partition)
                    continue
                position[partition] = offset + 1
                taken += 1
                taken_bytes += len(message)
                try:
                    events += parse(message.value())
                except BadEvent as error:
                    rejects.append(Reject(message.value(), str(error), f"{self._topic}[{partition}]@{offset}"))
        return Batch(events, rejects, position=position, taken=taken)

    def commit(self, batch: Batch) -> None:
        if batch.position:
            offsets = [TopicPartition(self._topic, partition, offset) for partition, offset in batch.position.items()]
            self._consumer.commit(offsets=offsets, asynchronous=False)

    def close(self) -> None:
        self._consumer.close()

    def _consume(self, count: int) -> list[Message]:
        """Some messages, at least one. librdkafka waits to fill `count`, so it is asked again and again, briefly."""
        deadline = time.monotonic() + TIMEOUT
        while not (messages := self._consumer.consume(count, timeout=FETCH_SECONDS)):
            if time.monotonic() > deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"nothing from {self._topic} in {TIMEOUT} s"))
        for message in messages:
            error = message.error()
            if error and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
        return messages

    def _spans(self) -> dict[int, tuple[int, int]]:
        """By partition: the first offset that is not committed, and the end."""
        metadata = self._consumer.list_topics(self._topic, timeout=TIMEOUT).topics[self._topic]
        if metadata.error:
            raise KafkaException(metadata.error)
        partitions = [TopicPartition(self._topic, number) for number in metadata.partitions]
        spans = {}
        for committed in self._committed(partitions):
            first, end = self._consumer.get_watermark_offsets(committed, timeout=TIMEOUT)
            # Without a commit yet, or where retention or a new topic went past it, start at what is there.
            known = first <= committed.offset <= end
            spans[committed.partition] = (committed.offset if known else first, end)
        return spans

    @tenacity.retry(
        retry=tenacity.retry_if_exception(_has_no_coordinator),
        stop=tenacity.stop_after_delay(TIMEOUT),
        wait=tenacity.wait_fixed(0.1),
        reraise=True,
    )
    def _committed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        committed: list[TopicPartition] = self._consumer.committed(partitions, timeout=TIMEOUT)
        return committed


def _place(message: Message) -> tuple[int, int]:
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None  # both are set on everything that consume() hands out
    return partition, offset


def consumer_lag(settings: Settings) -> int:
    """How many messages nobody has taken yet."""
    source = KafkaSource(settings)
    try:
        return source.backlog()
    finally:
        source.close()


class DeadLetters:
    """Where messages and images go that can never be used: the topic KAFKA_DEAD_LETTER_TOPIC, reason in the headers."""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.kafka_dead_letter_topic
        # Not idempotent: a letter may come twice after a crash anyway, and asking for an id costs half a second.
        self._producer = Producer({"bootstrap.servers": settings.require("kafka_bootstrap_servers")})

    def send(self, rejects: Iterable[Reject]) -> None:
        """Send and wait until the broker has them all. Raises KafkaException otherwise."""
        failures: list[Any] = []
        for reject in rejects:
            self._producer.produce(
                self._topic,
                value=reject.message and reject.message[:MAX_DEAD_LETTER_BYTES],
                headers={"reason": reject.reason.encode(), "where": reject.where.encode()},
                on_delivery=lambda error, _: failures.append(error) if error else None,
            )
            self._producer.poll(0)
        if self._producer.flush(TIMEOUT) or failures:
            raise KafkaException(failures[0] if failures else KafkaError(KafkaError._TIMED_OUT))
