"""A consumer of a stream: where it begins, how it goes on, and what becomes of what fails."""

from __future__ import annotations

import logging
import re
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from attune_mq import BrokerSettings, Consumer, Envelope, Message, Topology
from attune_mq.amqp import Connection
from attune_mq.consuming import stream_seeking
from attune_mq.errors import ConsumeError, DependencyUnavailable, Reject, RetryLater
from attune_mq.message import encode
from tests.messaging.bench import (
    Bench,
    Calls,
    Gate,
    consumer_of,
    handlers_of,
    request,
    running,
    topology_of,
    wait_for,
    wait_for_state,
)
from tests.messaging.proxy import Proxy
from tests.waiting import wait_until

STREAM = "log"
FILE = """
version: 1
queues:
  log: {name: log, type: stream, arguments: {x-max-age: 7D}}
messages:
  ExecutionRequested: {exchange: "", routing_key: log, publishers: [api]}
consumers:
  worker: {service: tests, queue: log, prefetch: 10OFFSET}
"""


def streaming(offset: str | None, *, concurrency: int = 1) -> Topology:
    said = "" if offset is None else f", offset: {offset}"
    if concurrency > 1:
        said += f", concurrency: {concurrency}"
    return topology_of(FILE.replace("OFFSET", said))


@pytest.fixture
def topology() -> Topology:
    return streaming("first")


def publish(bench: Bench, *numbers: int) -> None:
    for number in numbers:
        bench.put(STREAM, encode(Envelope.of(request(number))))


def behind(proxy: Proxy, topology: Topology, calls: Calls, **options: Any) -> Consumer:
    return Consumer(topology, "worker", handlers_of(calls), proxy.url, **options)


def wait_until_settled(consumer: Consumer, handled: int) -> None:
    wait_until(
        lambda: consumer.status.handled >= handled and consumer.status.in_flight == 0,
        "everything is settled",
    )


def wait_for_connections(consumer: Consumer, count: int) -> None:
    wait_until(lambda: consumer.status.connections >= count, f"it has consumed {count} times")


# Where it begins.


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        ("first", [0, 1, 2, 3, 4]),
        ("3", [3, 4]),
        ("last", [4]),
        ("next", []),
        ('"1999-12-31T23:59:59Z"', [0, 1, 2, 3, 4]),
        ('"2286-11-20T17:46:39+02:00"', []),
    ],
)
def test_a_consumer_of_a_stream_begins_where_the_file_says(
    bench: Bench, offset: str, expected: list[int]
) -> None:
    publish(bench, 0, 1, 2, 3, 4)
    calls = Calls()
    consumer = consumer_of(bench, streaming(offset), calls)

    with running(consumer):
        wait_for_state(consumer, "consuming")
        publish(bench, 9)
        wait_until(lambda: calls.ids[-1:] == [9] or "2286" in offset, "the new one is handled")

    assert calls.ids == [*expected, 9] or ("2286" in offset and calls.ids in ([], [9]))


def test_a_consumer_begins_at_a_moment(bench: Bench) -> None:
    publish(bench, 0)
    wait_until(lambda: datetime.now(UTC).microsecond < 200_000, "a second begins")
    moment = datetime.now(UTC).replace(microsecond=0).isoformat()
    publish(bench, 1, 2)
    calls = Calls()

    with running(consumer_of(bench, streaming(f'"{moment}"'), calls)):
        calls.wait_for(2)

    assert calls.ids in ([1, 2], [0, 1, 2])  # a chunk that holds the moment comes as a whole


def test_a_consumer_without_an_offset_says_what_it_never_reads(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = consumer_of(bench, streaming(None), Calls())

    with caplog.at_level(logging.WARNING), running(consumer):
        wait_for_state(consumer, "consuming")

    [warning] = [r.getMessage() for r in caplog.records if "offset" in r.getMessage()]
    assert "what was published before, also while disconnected, is never read" in warning


def test_a_stored_position_needs_a_place_where_it_is_stored(bench: Bench) -> None:
    with pytest.raises(ConsumeError, match="positions="):
        consumer_of(bench, streaming("stored"), Calls())


def test_a_stored_position_is_that_of_one_worker(bench: Bench) -> None:
    with pytest.raises(ConsumeError, match="concurrency of 1"):
        consumer_of(bench, streaming("stored"), Calls(), concurrency=2, positions=object())


# After a lost connection.


@pytest.mark.parametrize("offset", ["first", "0", "last", "next", '"1999-12-31T23:59:59Z"', None])
def test_a_new_connection_goes_on_after_what_was_handled(
    bench: Bench, proxy: Proxy, offset: str | None
) -> None:
    if offset == "last":
        publish(bench, 0)
    calls = Calls()
    consumer = behind(proxy, streaming(offset), calls)

    with running(consumer):
        wait_for_state(consumer, "consuming")
        publish(bench, *([] if offset == "last" else [0]), 1, 2)
        calls.wait_for(3)
        wait_until_settled(consumer, 3)
        proxy.refuse()
        publish(bench, 3, 4)
        proxy.forward()
        calls.wait_for(5)
        wait_for_connections(consumer, 2)
        publish(bench, 5)
        calls.wait_for(6)

    assert calls.ids == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("offset", ["next", None, "last"])
@pytest.mark.parametrize("there", [[], [-2, -1]], ids=["empty", "filled"])
def test_what_is_published_between_connections_is_read_though_nothing_was_before(
    bench: Bench, proxy: Proxy, offset: str | None, there: list[int]
) -> None:
    publish(bench, *there)
    calls = Calls()
    consumer = behind(proxy, streaming(offset), calls)

    with running(consumer):
        wait_for_connections(consumer, 1)
        if offset == "last" and there:
            calls.wait_for(1)
        proxy.refuse()
        publish(bench, 1, 2)
        proxy.forward()
        wait_until(lambda: calls.ids[-2:] == [1, 2], "both are handled")

    assert calls.ids == ([-1, 1, 2] if offset == "last" and there else [1, 2])


def test_a_message_whose_handler_runs_while_the_connection_is_lost_is_handled_once(
    bench: Bench, proxy: Proxy, gate: Gate
) -> None:
    calls = Calls(gate)
    consumer = behind(proxy, streaming("first"), calls)
    publish(bench, 0, 1)

    with running(consumer):
        wait_for(gate.entered, "the handler begins")
        proxy.cut()
        wait_for_connections(consumer, 2)
        gate.let_through.set()
        publish(bench, 2)
        calls.wait_for(3)
        wait_until_settled(consumer, 3)

    assert calls.ids == [0, 1, 2]


def test_several_workers_lose_and_repeat_nothing_over_a_lost_connection(
    bench: Bench, proxy: Proxy
) -> None:
    first = Gate()
    calls = Calls(lambda message: first(message) if message.payload.execution_id == 0 else None)
    consumer = behind(proxy, streaming("first", concurrency=3), calls)
    publish(bench, *range(6))

    with running(consumer):
        calls.wait_for(6)
        wait_until(lambda: consumer.status.handled == 5, "all but the first are handled")
        proxy.cut()
        wait_for_connections(consumer, 2)
        first.let_through.set()
        publish(bench, 6)
        wait_until(lambda: 6 in calls.ids, "the last one is handled")
        wait_until(lambda: consumer.status.in_flight == 0, "everything is settled")

    assert sorted(set(calls.ids)) == list(range(7))
    assert [number for number in calls.ids if number > 0] == list(range(1, 7))


# The stream itself changes.


def test_a_stream_that_was_declared_anew_is_read_from_its_first_message(
    bench: Bench, proxy: Proxy, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_seeking, "SILENCE_S", 1.0)
    calls = Calls()
    consumer = behind(proxy, streaming("first"), calls)
    publish(bench, *range(5))

    with running(consumer):
        calls.wait_for(5)
        wait_until_settled(consumer, 5)
        proxy.refuse()
        bench.channel.queue_delete(STREAM)
        bench.set_up(streaming("first"))
        publish(bench, 10, 11)
        proxy.forward()
        calls.wait_for(7)

    assert calls.ids == [0, 1, 2, 3, 4, 10, 11]
    assert "was declared anew" in caplog.text


def test_another_message_at_the_position_is_of_another_stream(bench: Bench, proxy: Proxy) -> None:
    calls = Calls()
    consumer = behind(proxy, streaming("first"), calls)
    publish(bench, 0, 1)

    with running(consumer):
        calls.wait_for(2)
        wait_until_settled(consumer, 2)
        proxy.refuse()
        bench.channel.queue_delete(STREAM)
        bench.set_up(streaming("first"))
        publish(bench, 10, 11, 12)
        proxy.forward()
        calls.wait_for(5)

    assert calls.ids == [0, 1, 10, 11, 12]


def test_messages_that_the_retention_dropped_in_the_meantime_are_counted_as_lost(
    bench: Bench, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    small = topology_of(
        FILE.replace("OFFSET", ", offset: first").replace(
            "{x-max-age: 7D}",
            "{x-stream-max-segment-size-bytes: 10000}, max_length_bytes: 20000",
        )
    )
    bench.channel.queue_delete(STREAM)
    bench.set_up(small)
    calls = Calls()
    consumer = behind(proxy, small, calls)
    publish(bench, 0)

    with running(consumer):
        calls.wait_for(1)
        wait_until_settled(consumer, 1)
        proxy.refuse()
        publish(bench, *range(1, 200))
        proxy.forward()
        wait_until(lambda: calls.ids[-1] == 199, "the last one is handled")

    lost = calls.ids[1] - 1
    [said] = re.findall(r"lost up to (\d+) messages of stream 'log'", caplog.text)
    assert 0 < lost <= int(said)


def test_nothing_is_called_lost_where_a_segment_ends(
    bench: Bench, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """A segment of a stream begins with a note of the broker, which has a number as well."""
    small = topology_of(
        FILE.replace("OFFSET", ", offset: first").replace(
            "{x-max-age: 7D}", "{x-max-age: 7D, x-stream-max-segment-size-bytes: 300}"
        )
    )
    bench.channel.queue_delete(STREAM)
    bench.set_up(small)
    calls = Calls()
    consumer = behind(proxy, small, calls)

    with running(consumer):
        for number in range(3):
            publish(bench, number)
            calls.wait_for(number + 1)
            wait_until_settled(consumer, number + 1)
            proxy.cut()
            wait_for_connections(consumer, number + 2)

    assert calls.ids == [0, 1, 2]
    assert calls.messages[-1].delivery.headers["x-stream-offset"] > 2
    assert "messages of stream" not in caplog.text


# A handler that fails.


def failing_at(number: int, *errors: BaseException) -> Calls:
    left = list(errors)

    def work(message: Message[Any]) -> None:
        if message.payload.execution_id == number and left:
            raise left.pop(0)

    return Calls(work)


def end_of_stream(bench: Bench) -> int:
    connection = Connection.open(BrokerSettings.of(bench.url), name="tests")
    position = stream_seeking.end_of(connection, STREAM)
    connection.close()
    assert position is not None
    return position.offset


def test_a_message_of_a_stream_is_tried_again_in_its_place_and_what_follows_waits(
    bench: Bench,
) -> None:
    publish(bench, 0, 1, 2)
    calls = failing_at(1, RetryLater("later", delay_s=0.1), RetryLater("later", delay_s=0.1))
    consumer = consumer_of(bench, streaming("first"), calls)

    with running(consumer):
        calls.wait_for(5)
        wait_until_settled(consumer, 3)

    assert calls.ids == [0, 1, 1, 1, 2]
    assert [message.attempt for message in calls.messages] == [1, 1, 2, 3, 1]
    assert consumer.status.retried == 2
    assert end_of_stream(bench) == 2  # no copy is there for others to read


def test_a_message_that_is_given_up_is_passed_over_and_stays_in_its_stream(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    publish(bench, 0, 1, 2)
    calls = failing_at(1, Reject("never"))
    consumer = consumer_of(bench, streaming("first"), calls)

    with running(consumer):
        calls.wait_for(3)
        wait_until_settled(consumer, 2)
        assert consumer.status.connections == 1

    assert calls.ids == [0, 1, 2]
    assert "stream 'log', which has no dead letters, keeps it at 1" in caplog.text
    assert end_of_stream(bench) == 2


def test_while_something_is_away_messages_wait_in_their_order(bench: Bench) -> None:
    publish(bench, *range(8))
    calls = failing_at(2, DependencyUnavailable("billing"), DependencyUnavailable("billing"))
    consumer = consumer_of(bench, streaming("first"), calls)

    with running(consumer):
        calls.wait_for(10)
        wait_until_settled(consumer, 8)

    assert calls.ids == [0, 1, 2, 2, 2, 3, 4, 5, 6, 7]


def test_a_consumer_stops_while_a_message_waits_for_its_next_attempt(bench: Bench) -> None:
    publish(bench, 0, 1)
    calls = failing_at(0, RetryLater("later", delay_s=600.0))
    consumer = consumer_of(bench, streaming("first"), calls)

    with running(consumer):
        calls.wait_for(1)

    assert consumer.status.connections == 1
    assert calls.ids == [0]


@pytest.mark.parametrize(("offset", "says"), [("next", True), ("first", False)])
def test_what_a_stopped_consumer_never_reads_is_said(
    bench: Bench, caplog: pytest.LogCaptureFixture, offset: str, says: bool
) -> None:
    calls = failing_at(0, RetryLater("later", delay_s=600.0))
    consumer = consumer_of(bench, streaming(offset), calls)

    with running(consumer):
        wait_for_state(consumer, "consuming")
        publish(bench, 0, 1)
        wait_until(lambda: consumer.status.in_flight == 2, "both are delivered")
        calls.wait_for(1)

    assert ("leaves 2 messages of stream 'log'" in caplog.text) is says


def test_a_consumer_that_stops_gives_nothing_back_to_a_stream(
    bench: Bench, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """RabbitMQ 3.10 would close the connection, with the acknowledgements that are to follow."""
    publish(bench, 0, 1, 2)
    consumer = consumer_of(bench, streaming("first"), Calls(gate))

    with running(consumer):
        wait_for(gate.entered, "the handler begins")
        wait_until(lambda: consumer.status.in_flight == 3, "all are delivered")
        consumer.stop(30)
        wait_until(lambda: consumer.status.in_flight == 1, "what was not begun is left")
        assert end_of_stream(bench) == 2  # and the broker has had the time to say what it has to
        gate.let_through.set()

    assert consumer.status.handled == 1
    assert "is not consuming" not in caplog.text


def test_a_pause_does_not_end_with_a_connection(
    bench: Bench, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    publish(bench, 0)
    is_there = threading.Event()

    def work(_: Message[Any]) -> None:
        if not is_there.is_set():
            raise DependencyUnavailable("billing")

    calls = Calls(work)
    consumer = behind(proxy, streaming("first"), calls)
    with caplog.at_level(logging.INFO), running(consumer):
        wait_for_state(consumer, "paused")
        proxy.cut()
        wait_for_connections(consumer, 2)
        calls.wait_for(len(calls.messages) + 4)
        assert "goes on after a pause" not in caplog.text
        is_there.set()
        wait_until_settled(consumer, 1)

    assert caplog.text.count("goes on after a pause") == 1


def test_retries_of_a_stream_need_no_queues(bench: Bench) -> None:
    text = FILE.replace("OFFSET", ", offset: first").replace(
        "type: stream", "type: stream, retry: {attempts: 3, backoff: [100ms]}"
    )
    publish(bench, 0, 1)
    calls = failing_at(0, ValueError("no"), ValueError("no"), ValueError("no"))
    consumer = consumer_of(bench, topology_of(text), calls)

    with running(consumer):
        calls.wait_for(4)
        wait_until_settled(consumer, 1)

    assert calls.ids == [0, 0, 0, 1]
    assert end_of_stream(bench) == 1


def test_each_message_is_handled_once_over_many_lost_connections(
    bench: Bench, proxy: Proxy
) -> None:
    many = 50
    publish(bench, *range(many))
    cuts = threading.Semaphore(5)

    def work(message: Message[Any]) -> None:
        if message.payload.execution_id % 9 == 8 and cuts.acquire(blocking=False):
            proxy.cut()

    calls = Calls(work)
    consumer = behind(proxy, streaming("first"), calls)
    with running(consumer):
        calls.wait_for(many)
        wait_until_settled(consumer, many)

    assert calls.ids == list(range(many))
