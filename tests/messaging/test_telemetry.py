"""What a telemetry is told, by consumers and publishers at work."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import attune_mq.message.telemetry as telemetry_module
from attune_mq import Envelope, Publisher, Receipt, Route, Service, Telemetry, Topology
from attune_mq.broker import EmbeddedBroker
from attune_mq.errors import PublishError, Reject, RetryLater, Unroutable
from attune_mq.message import Delivery, Dropped, Outgoing, Requeued, Settled, Telemetries
from attune_mq.message.settlement import Done, Failed, Outcome
from attune_mq.testing import Acknowledge, DeadLetter, TryAgain
from tests.messaging.bench import (
    DEAD,
    QUEUE,
    Bench,
    Calls,
    Gate,
    consumer_of,
    failing,
    handlers_of,
    request,
    running,
    topology_of,
    wait_for,
)
from tests.messaging.proxy import Proxy
from tests.waiting import wait_until


class Recording(Telemetry):
    """Remembers each event: its name, and what it says."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self._changed = threading.Condition()

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    def of(self, name: str) -> list[Any]:
        return [what for event, what in list(self.events) if event == name]

    def wait_for(self, name: str) -> Any:
        with self._changed:
            assert self._changed.wait_for(lambda: name in self.names, 30), f"no '{name}' came"
        return self.of(name)[0]

    def _note(self, name: str, *what: Any) -> None:
        with self._changed:
            self.events.append((name, what))
            self._changed.notify_all()

    def connection_opened(self, name: str) -> None:
        self._note("connection_opened", name)

    def connection_lost(self, name: str, reason: str) -> None:
        self._note("connection_lost", name, reason)

    def connection_blocked(self, name: str, blocked: bool) -> None:
        self._note("connection_blocked", name, blocked)

    def delivered(self, delivery: Delivery) -> None:
        self._note("delivered", delivery)

    @contextmanager
    def processing(self, delivery: Delivery) -> Iterator[None]:
        self._note("processing", delivery)
        yield
        self._note("processed", delivery)

    def handling(self, delivery: Delivery, envelope: Envelope) -> None:
        self._note("handling", delivery, envelope)

    def handled(
        self, delivery: Delivery, envelope: Envelope, outcome: Outcome, seconds: float
    ) -> None:
        self._note("handled", delivery, envelope, outcome, seconds)

    def settled(self, delivery: Delivery, envelope: Envelope | None, how: Settled) -> None:
        self._note("settled", delivery, envelope, how)

    def publishing(self, message: Outgoing) -> Outgoing:
        self._note("publishing", message)
        return message

    def published(self, message: Outgoing, outcome: Receipt | PublishError, seconds: float) -> None:
        self._note("published", message, outcome, seconds)


@pytest.fixture
def telemetry() -> Recording:
    return Recording()


@pytest.fixture
def publisher(bench: Bench, topology: Topology) -> Iterator[Publisher]:
    """One that nobody listens to."""
    with Publisher(topology, bench.url) as publisher:
        yield publisher


def test_a_message_that_is_handled_makes_its_events_in_order(
    bench: Bench, topology: Topology, publisher: Publisher, telemetry: Recording
) -> None:
    with running(consumer_of(bench, topology, Calls(), telemetry=telemetry)):
        publisher.publish(request(1))
        telemetry.wait_for("processed")

    assert telemetry.names == [
        "connection_opened",
        "delivered",
        "processing",
        "handling",
        "handled",
        "settled",
        "processed",
    ]
    ((tag,),) = telemetry.of("connection_opened")
    (delivery, envelope, outcome, seconds) = telemetry.wait_for("handled")
    (_, _, how) = telemetry.wait_for("settled")
    assert (tag, delivery.queue, envelope.message_type) == ("worker", QUEUE, "ExecutionRequested")
    assert (outcome, how) == (Done(), Acknowledge())
    assert seconds >= 0


def test_a_retry_is_published_while_its_message_is_processed_and_settled_once_confirmed(
    bench: Bench, topology: Topology, publisher: Publisher, telemetry: Recording
) -> None:
    def later(message: Any) -> None:
        if message.attempt == 1:
            raise RetryLater("not yet", delay_s=0)

    with running(consumer_of(bench, topology, Calls(later), telemetry=telemetry)):
        publisher.publish(request(1))
        wait_until(lambda: len(telemetry.of("processed")) == 2, "both attempts are processed")

    first = telemetry.names[: telemetry.names.index("processed")]
    assert [name for name in first if name not in ("connection_opened", "delivered")] == [
        "processing",
        "handling",
        "handled",
        "publishing",
        "published",
        "settled",
    ]
    ((copy, outcome, _),) = telemetry.of("published")
    assert isinstance(outcome, Receipt)
    assert copy.message_type == "ExecutionRequested"
    assert isinstance(telemetry.of("handled")[0][2], Failed)
    assert [type(how) for *_, how in telemetry.of("settled")] == [TryAgain, Acknowledge]


def test_a_dead_letter_says_its_reason(
    bench: Bench, topology: Topology, publisher: Publisher, telemetry: Recording
) -> None:
    with running(consumer_of(bench, topology, failing(Reject("never")), telemetry=telemetry)):
        publisher.publish(request(1))
        bench.wait_for_depth(DEAD, 1)
        (_, envelope, how) = telemetry.wait_for("settled")

    assert isinstance(how, DeadLetter)
    assert (how.reason, envelope.message_type) == ("rejected", "ExecutionRequested")


def test_what_cannot_be_read_is_settled_without_an_envelope_and_never_handled(
    bench: Bench, topology: Topology, telemetry: Recording
) -> None:
    with running(consumer_of(bench, topology, Calls(), telemetry=telemetry)):
        bench.put(QUEUE, b"no JSON")
        (_, envelope, how) = telemetry.wait_for("settled")

    assert envelope is None
    assert how.reason == "unreadable"
    assert telemetry.of("handling") == telemetry.of("handled") == []


def test_what_is_dropped_is_told_apart_from_a_dead_letter(
    broker_url: str, telemetry: Recording
) -> None:
    topology = topology_of(dead_letter="false")
    bench = Bench(broker_url)
    bench.set_up(topology)
    with running(consumer_of(bench, topology, failing(Reject("never")), telemetry=telemetry)):
        with Publisher(topology, broker_url) as publisher:
            publisher.publish(request(1))
        (_, _, how) = telemetry.wait_for("settled")
    bench.close()

    assert isinstance(how, Dropped)
    assert how.settlement.reason == "rejected"


def test_what_was_not_begun_is_given_back_when_a_consumer_stops(
    bench: Bench, topology: Topology, publisher: Publisher, telemetry: Recording, gate: Gate
) -> None:
    consumer = consumer_of(bench, topology, Calls(gate), telemetry=telemetry)
    with running(consumer):
        publisher.publish_many([request(1), request(2)])
        wait_for(gate.entered, "the first is begun")
        wait_until(lambda: len(telemetry.of("delivered")) == 2, "the second is delivered")
        consumer.stop(30)
        bench.wait_for_depth(QUEUE, 1)
        gate.let_through.set()

    assert [how for *_, how in telemetry.of("settled")] == [Requeued("stopping"), Acknowledge()]


def test_a_publisher_tells_the_outcome_and_the_time_that_it_took(
    bench: Bench, topology: Topology, telemetry: Recording
) -> None:
    with Publisher(topology, bench.url, telemetry=telemetry) as publisher:
        publisher.publish(request(1))
        with pytest.raises(Unroutable):
            publisher.publish(request(2), route=Route("work", "nobody"))

    assert telemetry.names == [
        "publishing",
        "connection_opened",
        "published",
        "publishing",
        "published",
    ]
    (one, other) = telemetry.of("published")
    assert isinstance(one[1], Receipt)
    assert isinstance(other[1], Unroutable)
    assert one[2] > 0


def test_a_telemetry_can_add_headers_to_what_is_published(bench: Bench, topology: Topology) -> None:
    class Tracing(Telemetry):
        def publishing(self, message: Outgoing) -> Outgoing:
            message.properties.headers = {"traceparent": "00-1-2-01"}
            return message

    with Publisher(topology, bench.url, telemetry=Tracing()) as publisher:
        publisher.publish(request(1))

    assert bench.take_when_there(QUEUE).headers == {"traceparent": "00-1-2-01"}


def test_a_lost_connection_is_told_and_so_is_the_next(
    bench: Bench, topology: Topology, proxy: Proxy, telemetry: Recording
) -> None:
    bench.url = proxy.url
    publisher = Publisher(topology, proxy.url, telemetry=telemetry)
    with running(consumer_of(bench, topology, Calls(), telemetry=telemetry)), publisher:
        publisher.publish(request(1))
        telemetry.wait_for("settled")
        proxy.cut()
        both = ("worker", "attune_mq publisher")
        wait_until(lambda: all(opened(telemetry).count(each) == 2 for each in both), "both return")

    assert {name for name, _ in telemetry.of("connection_lost")} == set(both)


def opened(telemetry: Recording) -> list[object]:
    """By name. The consumer's own publisher is among them where an acknowledgement was cut off."""
    return [name for (name,) in telemetry.of("connection_opened")]


def test_an_alarm_of_the_broker_blocks_and_its_end_unblocks(
    fault_broker: EmbeddedBroker, topology: Topology, telemetry: Recording
) -> None:
    with fault_broker.fresh_vhost() as url:
        bench = Bench(url)
        bench.set_up(topology)
        with Publisher(topology, url, telemetry=telemetry) as publisher:
            publisher.publish(request(1))
            fault_broker.rabbitmqctl("set_vm_memory_high_watermark", "0")
            try:
                sending = threading.Thread(target=publisher.publish, args=(request(2),))
                sending.start()
                telemetry.wait_for("connection_blocked")
            finally:
                fault_broker.rabbitmqctl("set_vm_memory_high_watermark", "0.4")
            sending.join()
        bench.close()

    assert [blocked for _, blocked in telemetry.of("connection_blocked")] == [True, False]


def test_a_service_tells_of_its_consumers_and_its_publisher(
    bench: Bench, topology: Topology, telemetry: Recording
) -> None:
    service = Service("tests", topology, bench.url, telemetry=telemetry)
    service.handlers = handlers_of(Calls())
    service.start()
    try:
        service.publisher.publish(request(1))
        telemetry.wait_for("settled")
    finally:
        service.stop(5)

    assert telemetry.of("published")


class Failing(Telemetry):
    """Raises at every event."""

    def delivered(self, delivery: Delivery) -> None:
        raise RuntimeError("delivered")

    def processing(self, delivery: Delivery) -> Any:
        return FailingScope()

    def settled(self, delivery: Delivery, envelope: Envelope | None, how: Settled) -> None:
        raise RuntimeError("settled")

    def publishing(self, message: Outgoing) -> Outgoing:
        raise RuntimeError("publishing")


class FailingScope:
    def __enter__(self) -> None:
        raise RuntimeError("enter")

    def __exit__(self, *_: object) -> None:
        raise RuntimeError("exit")


def test_a_telemetry_that_fails_stops_no_message_and_no_other_telemetry(
    bench: Bench, topology: Topology, telemetry: Recording, caplog: pytest.LogCaptureFixture
) -> None:
    calls = Calls()
    both = Telemetries([Failing(), telemetry])
    with running(consumer_of(bench, topology, calls, telemetry=both)):
        with Publisher(topology, bench.url, telemetry=both) as publisher:
            publisher.publish_many([request(1), request(2)])
        wait_until(lambda: len(telemetry.of("processed")) == 2, "both are processed")

    assert calls.ids == [1, 2]
    assert len(telemetry.of("published")) == len(telemetry.of("settled")) == 2
    said = [r.args for r in caplog.records if "telemetry listener" in r.message]
    assert said.count(("Failing.delivered",)) == 1, "once, not for each message"
    assert len(said) == 4


def test_what_nobody_listens_to_is_not_called() -> None:
    class Counting(Telemetry):
        def delivered(self, delivery: Delivery) -> None: ...

    nobody = Telemetries([Telemetry(), Counting()])
    delivery: Any = object()
    assert nobody.processing(delivery) is None


def test_the_table_of_events_has_every_one() -> None:
    table = (telemetry_module.__doc__ or "").split("===\n")[2]
    listed = set(re.findall(r"``(\w+)``", table))

    assert listed == {name for name in vars(Telemetry) if not name.startswith("_")}
