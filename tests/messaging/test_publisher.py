"""The publisher, against a broker that works; test_publisher_outages.py has those that do not."""

from __future__ import annotations

import gc
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from attune_mq.amqp.settings import BrokerSettings
from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.errors import (
    BrokerUnavailable,
    LoginRefused,
    MalformedMessage,
    NotConfirmed,
    PublishError,
    PublishManyFailed,
    PublishRefused,
    Unroutable,
    VirtualHostRefused,
)
from attune_mq.message.envelope import Envelope, decode, encode
from attune_mq.payloads import EnforcementCreated, NotificationCreated
from attune_mq.publishing.confirms import MAX_IN_FLIGHT
from attune_mq.publishing.publisher import Publisher
from attune_mq.topology.model import Route, Topology, UnknownName
from tests.administration import Administration, url_for, virtual_host_of
from tests.messaging.bench import CLOSED_URL, WORK, Bench, request, topology_of
from tests.waiting import wait_until

NOWHERE = Route("work", "nobody")
MISSING = Route("no.such.exchange", "requested")


@pytest.fixture
def publisher(topology: Topology, bench: Bench) -> Iterator[Publisher]:
    with Publisher(topology, bench.url, source_service="api") as publisher:
        yield publisher


# Where a message goes, and what it is.


def test_a_payload_goes_where_the_topology_sends_its_type(
    publisher: Publisher, bench: Bench
) -> None:
    receipt = publisher.publish(request(1))

    waiting = bench.take_when_there("work.queue")
    assert decode(waiting.body).payload["execution_id"] == 1
    assert receipt == (waiting.properties.message_id, "work", "requested")


def test_a_queue_renamed_in_the_file_needs_no_change_of_code(bench: Bench) -> None:
    renamed = topology_of(WORK.replace("work.queue", "renamed").replace("requested", "asked"))
    bench.set_up(renamed)

    with Publisher(renamed, bench.url) as publisher:
        publisher.publish(request(1))

    assert bench.depth("renamed") == 1
    assert bench.depth("work.queue") == 0


def test_a_message_is_persistent_json_that_says_who_sent_it(
    publisher: Publisher, bench: Bench
) -> None:
    publisher.publish(
        request(1), correlation_id="story", trace_id="0b7c91f0-5a0e-4a0b-9d3a-3a1f0a3f6a11"
    )

    waiting = bench.take_when_there("work.queue")
    envelope = decode(waiting.body)
    assert waiting.properties.delivery_mode == 2
    assert waiting.properties.content_type == "application/json"
    assert waiting.properties.correlation_id == envelope.correlation_id == "story"
    assert envelope.headers.source_service == "api"
    assert envelope.headers.trace_id == "0b7c91f0-5a0e-4a0b-9d3a-3a1f0a3f6a11"


def test_an_envelope_is_sent_as_it_is(publisher: Publisher, bench: Bench) -> None:
    envelope = Envelope.of(request(1), source_service="elsewhere", message_id="mine")

    assert publisher.publish(envelope).message_id == "mine"

    assert bench.take_when_there("work.queue").body == encode(envelope)


def test_a_route_of_the_callers_own_and_amqp_headers_go_along(
    publisher: Publisher, bench: Bench
) -> None:
    publisher.publish(request(1), route=Route("", "work.queue"), headers={"x-shard": 7})

    assert bench.take_when_there("work.queue").headers == {"x-shard": 7}


def test_a_type_without_a_route_is_an_error_before_anything_is_sent(
    publisher: Publisher, bench: Bench
) -> None:
    unknown = EnforcementCreated(enforcement_id=1, rule_ref="r", trigger_ref="t", payload={})

    with pytest.raises(UnknownName, match="EnforcementCreated"):
        publisher.publish_many([request(1), unknown])

    assert bench.depth("work.queue") == 0


def test_a_message_that_utf8_cannot_hold_is_an_error_before_anything_is_sent(
    publisher: Publisher, bench: Bench
) -> None:
    with pytest.raises(MalformedMessage):
        publisher.publish(request(1), correlation_id="\udc80")

    assert bench.depth("work.queue") == 0


@pytest.fixture
def silent_url() -> Iterator[str]:
    """Somebody listens there who never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"amqp://guest:guest@127.0.0.1:{listener.getsockname()[1]}/%2F"


# What the broker does not take is an error of its own kind.


def test_a_message_that_no_queue_takes_is_unroutable(publisher: Publisher) -> None:
    with pytest.raises(Unroutable, match="exchange 'work' with routing key 'nobody'"):
        publisher.publish(request(1), route=NOWHERE)


def test_a_missing_exchange_is_refused_and_the_next_message_goes_through(
    publisher: Publisher, bench: Bench
) -> None:
    with pytest.raises(PublishRefused, match=r"404 .*no exchange 'no.such.exchange'"):
        publisher.publish(request(1), route=MISSING)

    publisher.publish(request(2))
    assert bench.depth("work.queue") == 1


def test_an_internal_exchange_is_refused(publisher: Publisher) -> None:
    with pytest.raises(PublishRefused, match=r"403 .*internal exchange 'dlx.direct'"):
        publisher.publish(request(1), route=Route("dlx.direct", "work.queue"))


@pytest.mark.parametrize("exchange", ["work", ""])
def test_an_exchange_that_the_user_may_not_write_to_is_refused(
    topology: Topology, bench: Bench, broker: EmbeddedBroker, exchange: str
) -> None:
    administration, vhost = Administration(broker), virtual_host_of(bench.url)
    with administration.user() as user:
        administration.allow(vhost, user, {"configure": "", "write": "none", "read": ""})
        with Publisher(topology, url_for(user, bench.url)) as publisher:
            allowed = publisher.outgoing(Envelope.of(request(1)))._replace(exchange="none")
            refused = publisher.outgoing(Envelope.of(request(2)))._replace(exchange=exchange)

            outcomes = publisher.send([refused, allowed, refused])

    assert isinstance(outcomes[0], PublishRefused)
    assert "403" in str(outcomes[0])
    assert not isinstance(outcomes[1], PublishRefused)


def test_a_type_that_may_find_no_queue_is_confirmed_without_one(bench: Bench) -> None:
    broadcast = topology_of(
        WORK.replace(
            "routing_key: requested, publishers",
            "routing_key: nobody, mandatory: false, publishers",
        )
    )
    with Publisher(broadcast, bench.url) as publisher:
        publisher.publish(request(1))

    assert bench.depth("work.queue") == 0


def test_a_full_queue_refuses(bench: Bench) -> None:
    full = topology_of(
        WORK.replace("{name: work.queue}", "{name: full, max_length: 0, overflow: reject-publish}")
    )
    bench.set_up(full)

    with Publisher(full, bench.url) as publisher, pytest.raises(PublishRefused, match="full"):
        publisher.publish(request(1), route=Route("", "full"))


def test_a_body_of_17_mebibytes_is_taken_or_refused_but_never_hangs(
    publisher: Publisher, bench: Bench
) -> None:
    """RabbitMQ 3.10 takes it, 4.0 and later refuse it; test_publisher_outages.py has the latter."""
    large = request(1).model_copy(update={"config": {"blob": "x" * (17 * 1024 * 1024)}})

    (outcome,) = publisher.send([publisher.outgoing(Envelope.of(large))])

    if isinstance(outcome, PublishError):
        assert isinstance(outcome, PublishRefused)
        assert "message size" in str(outcome)
    else:
        assert len(bench.take_when_there("work.queue").body) > 17 * 1024 * 1024


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"x": "y" * 140_000}, "headers exceed"),
        ({"x": 1.5}, "cannot be sent over AMQP"),
        ({"x": 2**63}, "cannot be sent over AMQP"),
        ({"x": "\udc80"}, "cannot be sent over AMQP"),
        ({"k" * 256: 1}, "cannot be sent over AMQP"),
        ({"CC": "not a list"}, "406"),
    ],
    ids=["too large for a frame", "a float", "too large an integer", "half a surrogate pair",
         "too long a name", "not understood by the broker"],
)  # fmt: skip
def test_headers_that_cannot_be_sent_are_refused_and_cost_nobody_else(
    publisher: Publisher, bench: Bench, headers: dict[str, Any], reason: str
) -> None:
    good, bad = Envelope.of(request(1)), Envelope.of(request(2))
    publisher.publish(good)

    with pytest.raises(PublishRefused, match=reason):
        publisher.publish(bad, headers=headers)

    publisher.publish(good)
    assert bench.depth("work.queue") == 2
    assert publisher.connections == 1


def test_a_routing_key_that_is_too_long_is_refused(publisher: Publisher) -> None:
    with pytest.raises(PublishRefused, match="cannot be sent over AMQP"):
        publisher.publish(request(1), route=Route("work", "k" * 256))


# Many at once.


def test_many_messages_arrive_in_their_order(publisher: Publisher, bench: Bench) -> None:
    count = MAX_IN_FLIGHT * 2 + 1

    receipts = publisher.publish_many(request(number) for number in range(count))

    assert len(receipts) == count
    taken = [
        decode(waiting.body).payload["execution_id"] for waiting in bench.take_all("work.queue")
    ]
    assert taken == list(range(count))


def test_many_of_none_is_none(publisher: Publisher) -> None:
    assert publisher.publish_many([]) == []


def test_what_is_not_confirmed_of_many_is_told_by_its_position(
    publisher: Publisher, bench: Bench
) -> None:
    outgoing = [publisher.outgoing(Envelope.of(request(n))) for n in range(4)]
    lost = [one._replace(routing_key="nobody") for one in outgoing]
    broken = outgoing[0]._replace(routing_key="k" * 256)

    outcomes = publisher.send([outgoing[0], lost[1], outgoing[2], lost[3], broken])

    kinds = [type(outcome).__name__ for outcome in outcomes]
    assert kinds == ["Receipt", "Unroutable", "Receipt", "Unroutable", "PublishRefused"]
    assert bench.depth("work.queue") == 2


def test_an_error_of_many_names_each_that_is_not_confirmed(publisher: Publisher) -> None:
    with pytest.raises(PublishManyFailed, match="3 of 3 messages") as raised:
        publisher.publish_many([request(n) for n in range(3)], route=NOWHERE)

    assert raised.value.failures.keys() == {0, 1, 2}
    assert all(isinstance(error, Unroutable) for error in raised.value.failures.values())


def test_a_message_sent_twice_at_once_to_somewhere_and_nowhere_is_told_apart(
    publisher: Publisher,
) -> None:
    outgoing = publisher.outgoing(Envelope.of(request(1)))

    outcomes = publisher.send([outgoing, outgoing._replace(routing_key="nobody"), outgoing] * 10)

    kinds = [type(outcome).__name__ for outcome in outcomes]
    assert kinds == ["Receipt", "Unroutable", "Receipt"] * 10


def test_of_those_in_flight_when_one_closes_the_channel_each_has_its_outcome(
    publisher: Publisher, bench: Bench
) -> None:
    outgoing = [publisher.outgoing(Envelope.of(request(n))) for n in range(50)]
    outgoing[20] = outgoing[20]._replace(exchange="no.such.exchange")

    outcomes = publisher.send(outgoing)

    assert isinstance(outcomes[20], PublishRefused)
    others = outcomes[:20] + outcomes[21:]
    unconfirmed = [one for one in others if isinstance(one, NotConfirmed)]
    confirmed = [one for one in others if not isinstance(one, PublishError)]
    assert len(confirmed) + len(unconfirmed) == 49
    assert all("because of another message" in str(one) for one in unconfirmed)
    assert bench.depth("work.queue") >= len(confirmed)
    assert all(not isinstance(one, NotConfirmed) or one.sent for one in outcomes)


def test_eight_threads_publish_at_once(publisher: Publisher, bench: Bench) -> None:
    def publish(first: int) -> None:
        for number in range(first, first + 100):
            publisher.publish(request(number))

    threads = [threading.Thread(target=publish, args=(n * 100,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    taken = {
        decode(waiting.body).payload["execution_id"] for waiting in bench.take_all("work.queue")
    }
    assert taken == set(range(800))
    assert publisher.connections == 1


# Brokers that are not there, or do not let us in.


def test_a_broker_that_is_not_there_is_waited_for_until_the_deadline(topology: Topology) -> None:
    with Publisher(topology, CLOSED_URL) as publisher:
        with pytest.raises(NotConfirmed, match="connection refused") as raised:
            publisher.publish(request(1), timeout_s=0.5)

        assert raised.value.sent is False
        assert publisher.unconfirmed_count == 0  # whoever gave up is not remembered


def test_a_password_in_the_url_is_in_no_error(topology: Topology) -> None:
    secret = CLOSED_URL.replace("guest@", "s3cret@")

    with Publisher(topology, secret) as publisher, pytest.raises(NotConfirmed) as raised:
        publisher.publish(request(1), timeout_s=0.3)

    assert "s3cret" not in f"{raised.value!r} {raised.value.__cause__!r} {publisher.trouble}"


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda url: url.replace("guest@", "wrong@"), LoginRefused),
        (lambda url: url.rpartition("/")[0] + "/no-such-vhost", VirtualHostRefused),
    ],
    ids=["wrong password", "no such virtual host"],
)
def test_a_broker_that_does_not_let_us_in_is_told_at_once(
    topology: Topology, broker_url: str, change: Any, cause: type[Exception]
) -> None:
    with (
        Publisher(topology, change(broker_url), timeout_s=60) as publisher,
        pytest.raises(NotConfirmed) as raised,
    ):
        publisher.publish(request(1))

    assert isinstance(raised.value.__cause__, cause)
    assert raised.value.sent is False


def test_of_several_hosts_one_may_be_dead_or_refuse_us(topology: Topology, bench: Bench) -> None:
    refusing = bench.url.replace("guest@", "wrong@")
    settings = BrokerSettings(urls=(CLOSED_URL, refusing, bench.url))

    for number in range(4):  # whichever is tried first
        with Publisher(topology, settings) as publisher:
            publisher.publish(request(number))

    assert bench.depth("work.queue") == 4


# An outbox.


class Outbound(NamedTuple):
    message_id: str
    message_type: str = "ExecutionRequested"
    correlation_id: str = "story"
    timestamp: datetime = datetime(2026, 9, 3, tzinfo=UTC)
    body: bytes = b"{}"
    exchange: str | None = None
    routing_key: str | None = None
    headers: Mapping[str, str] | None = None


def test_messages_of_an_outbox_have_an_outcome_each(publisher: Publisher, bench: Bench) -> None:
    outcomes = publisher.publish_envelopes(
        [
            Outbound("routed by its type"),
            Outbound("addressed", exchange="", routing_key="work.queue", headers={"a": "b"}),
            Outbound("lost", exchange="work", routing_key="nobody"),
            Outbound("unknown", message_type="Unknown"),
        ]
    )

    assert outcomes[:2] == [None, None]
    assert isinstance(outcomes[2], Unroutable)
    assert isinstance(outcomes[3], PublishError)
    assert "Unknown" in str(outcomes[3])
    taken = bench.take_all("work.queue")
    assert [one.properties.message_id for one in taken] == ["routed by its type", "addressed"]
    assert taken[0].properties.timestamp == int(Outbound("").timestamp.timestamp())
    assert taken[0].properties.delivery_mode == 2
    assert [one.headers for one in taken] == [{}, {"a": "b"}]


@pytest.mark.parametrize("url", [CLOSED_URL, "wrong password"])
def test_an_outbox_that_can_send_nothing_is_told_so_by_one_error(
    topology: Topology, broker_url: str, url: str
) -> None:
    url = broker_url.replace("guest@", "wrong@") if url == "wrong password" else url

    with Publisher(topology, url, timeout_s=0.5) as publisher, pytest.raises(BrokerUnavailable):
        publisher.publish_envelopes([Outbound("1"), Outbound("2")])


def test_an_outbox_with_nothing_to_say_asks_no_broker(topology: Topology) -> None:
    before = threading.active_count()

    with Publisher(topology, CLOSED_URL) as publisher:
        assert publisher.publish_envelopes([]) == []
        assert threading.active_count() == before


# Its life.


def test_a_publisher_that_publishes_nothing_opens_nothing(topology: Topology) -> None:
    before = threading.active_count()

    with Publisher(topology, CLOSED_URL) as publisher:
        assert threading.active_count() == before
        assert publisher.trouble is None


def test_closing_leaves_no_thread_and_no_file_descriptor(topology: Topology, bench: Bench) -> None:
    threads, descriptors = open_threads_and_descriptors()

    with Publisher(topology, bench.url) as publisher:
        publisher.publish(request(1))
        assert open_threads_and_descriptors() != (threads, descriptors)

    assert open_threads_and_descriptors() == (threads, descriptors)


def test_closing_while_it_cannot_connect_leaves_nothing_either(
    topology: Topology, silent_url: str
) -> None:
    threads, descriptors = open_threads_and_descriptors()
    publisher = Publisher(topology, silent_url)
    with pytest.raises(NotConfirmed):
        publisher.publish(request(1), timeout_s=0.2)

    publisher.close()

    assert open_threads_and_descriptors() == (threads, descriptors)


def test_a_closed_publisher_publishes_nothing(publisher: Publisher) -> None:
    publisher.close()

    with pytest.raises(NotConfirmed, match="closed") as raised:
        publisher.publish(request(1))

    assert raised.value.sent is False


def test_closing_twice_is_as_good_as_once(publisher: Publisher) -> None:
    publisher.publish(request(1))

    publisher.close()
    publisher.close()


def test_whoever_waits_when_it_is_closed_is_told(topology: Topology) -> None:
    publisher = Publisher(topology, CLOSED_URL)
    errors: list[PublishError] = []

    def publish() -> None:
        try:
            publisher.publish(request(1), timeout_s=60)
        except PublishError as error:
            errors.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    wait_until(lambda: publisher.unconfirmed_count == 1, "the message waits to be sent")
    publisher.close()
    thread.join()

    assert len(errors) == 1
    assert isinstance(errors[0], NotConfirmed)


def test_notifications_of_a_fanout_reach_every_queue_once(bench: Bench) -> None:
    fanout = topology_of("""
version: 1
exchanges:
  told: {name: told, type: fanout}
queues:
  one: {name: one}
  two: {name: two}
bindings:
  - {source: told, destination: one}
  - {source: told, destination: two}
messages:
  NotificationCreated: {exchange: told, routing_key: notification.created, publishers: [api]}
""")
    bench.set_up(fanout)
    note = NotificationCreated(
        notification_id=1, channel="c", entity_type="e", entity="1", activity="done"
    )

    with Publisher(fanout, bench.url) as publisher:
        publisher.publish(note)

    assert (bench.depth("one"), bench.depth("two")) == (1, 1)


def test_what_was_published_leaves_nothing_to_the_garbage_collector(publisher: Publisher) -> None:
    publisher.publish(request(0))  # what the first one makes is kept
    gc.collect()
    gc.disable()
    try:
        publisher.publish(request(1))
        publisher.publish_many([request(2), request(3)])
        left = gc.collect()
    finally:
        gc.enable()

    assert left == 0


def open_threads_and_descriptors() -> tuple[int, int]:
    gc.collect()  # a socket that pika dropped is closed when it is collected
    return threading.active_count(), len(os.listdir("/dev/fd"))
