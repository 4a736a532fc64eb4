"""How much of a queue a migration has in its memory at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pika
import pytest

from attune_mq.amqp.connection import Connection
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.message.outgoing import Outgoing
from attune_mq.migration.queue_reader import MOST_BYTES, MOST_MESSAGES, QueueReader, holding
from tests.messaging.bench import QUEUE, Bench

LARGE_BYTES = 2_000_000


@pytest.fixture
def connection(bench: Bench) -> Iterator[Connection]:
    connection = Connection.open(BrokerSettings.of(bench.url), name="tests")
    yield connection
    connection.close()


@pytest.fixture
def reader(bench: Bench, connection: Connection) -> QueueReader:
    bench.channel.queue_declare("journal")
    return QueueReader(connection, QUEUE)


def fill(bench: Bench, count: int, size_bytes: int) -> None:
    channel = bench.connection.channel()
    channel.tx_select()
    for _ in range(count):
        channel.basic_publish("", QUEUE, b"x" * size_bytes)
    channel.tx_commit()
    channel.close()


def batches(reader: QueueReader, bench: Bench, count: int) -> list[int]:
    """The sizes in bytes of what is taken at a time, until so many messages were."""
    sizes, taken = [], 0
    while taken < count:
        if batch := reader.take(wait_s=5):
            taken += len(batch)
            sizes.append(sum(len(one.body) for one in batch))
            reader.acknowledge(batch, Outgoing("", "journal", b"", pika.BasicProperties()))
    return sizes


def test_large_messages_are_taken_a_few_at_a_time(bench: Bench, reader: QueueReader) -> None:
    fill(bench, 40, LARGE_BYTES)

    assert max(batches(reader, bench, 40)) <= MOST_BYTES


def test_small_messages_are_taken_many_at_a_time(bench: Bench, reader: QueueReader) -> None:
    fill(bench, 1000, 100)

    assert max(batches(reader, bench, 1000)) == MOST_MESSAGES * 100


def test_large_messages_behind_small_ones_are_too_many_but_once(
    bench: Bench, reader: QueueReader
) -> None:
    fill(bench, 300, 100)
    fill(bench, 100, LARGE_BYTES)

    sizes = batches(reader, bench, 400)

    assert max(sizes) <= MOST_MESSAGES * LARGE_BYTES
    assert sum(size > MOST_BYTES for size in sizes) <= 2


def test_all_that_waits_for_a_retry_is_held_and_returned_in_its_place(
    bench: Bench, connection: Connection
) -> None:
    for number in range(300):
        bench.put(QUEUE, b"%d" % number)

    with holding(connection, [QUEUE]) as [retries]:
        while not retries.has_all(lambda queue: bench.depth(queue) == 0):
            pass
        held = bench.depth(QUEUE)

    bench.wait_for_depth(QUEUE, 300)
    assert held == 0
    assert [one.body for one in bench.take_all(QUEUE)] == [b"%d" % one for one in range(300)]
