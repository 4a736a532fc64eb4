"""Observing a real broker, both ways, and planning from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq import BrokerSettings, parse_topology, setup_infrastructure
from attune_mq.amqp.probe_channel import ProbeChannel
from attune_mq.broker import (
    Absent,
    EmbeddedBroker,
    Indeterminate,
    InvalidManagementUrl,
    ManagementClient,
    Plan,
    observe_by_management,
)
from attune_mq.broker.planning import make_plan, observe, observe_by_amqp
from attune_mq.broker.probing import Prober, QuietProber
from attune_mq.errors import BrokerUnavailable, LoginRefused, VirtualHostRefused
from attune_mq.topology import (
    Difference,
    Equal,
    ExchangeDeclaration,
    Inequivalent,
    QueueDeclaration,
)
from tests.administration import Administration, url_for, virtual_host_of

TOPOLOGY = parse_topology(
    """\
version: 1
dead_letter: {exchange: dlx, ttl: 1h}
exchanges:
  events: {name: events, type: topic, alternate_exchange: lost}
  lost:   {name: lost, type: fanout}
  dlx:    {name: dlx, type: fanout}
queues:
  work:   {name: work, ttl: 5m, max_length: 1000, retry: {backoff: [1s]}}
  quorum: {name: work.quorum, type: quorum, delivery_limit: 5, dead_letter: false}
  stream: {name: work.stream, type: stream, dead_letter: false}
  lost:   {name: lost, arguments: {x-foo: [1, a]}, dead_letter: false}
bindings:
  - {source: events, destination: work, routing_keys: [a.#, b.*]}
  - {source: lost, destination: lost, arguments: {number: 5, text: a}}
"""
)


@dataclass
class Source:
    """One of the two ways to observe."""

    name: Literal["amqp", "management"]
    settings: BrokerSettings
    management_url: str | None

    def plan(self) -> Plan:
        return make_plan(TOPOLOGY, observe(TOPOLOGY, self.settings, self.management_url))


@pytest.fixture(params=["amqp", "management"])
def source(request: pytest.FixtureRequest, broker: EmbeddedBroker, broker_url: str) -> Source:
    url = broker.management_url if request.param == "management" else None
    return Source(request.param, BrokerSettings.of(broker_url), url)


@pytest.fixture
def channel(broker_url: str) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))
    yield connection.channel()
    connection.close()


def names(steps: tuple[Any, ...]) -> list[str]:
    return [step.declaration.name for step in steps]


def test_an_empty_virtual_host_has_everything_to_be_made(source: Source) -> None:
    plan = source.plan()

    assert len(plan.create) == 15
    assert plan == Plan(source.name, plan.create)


def test_observing_and_planning_creates_nothing(
    source: Source, broker: EmbeddedBroker, broker_url: str
) -> None:
    source.plan()

    assert broker.management_url is not None
    client, vhost = ManagementClient(broker.management_url), virtual_host_of(broker_url)
    assert client.queues(vhost) == []
    assert all(one["name"].startswith("amq.") for one in client.exchanges(vhost) if one["name"])


def test_after_set_up_nothing_is_to_be_done(source: Source, broker_url: str) -> None:
    setup_infrastructure(TOPOLOGY, broker_url)

    plan = source.plan()

    assert not plan.has_differences
    assert len(plan.unchanged) + len(plan.unknown) == 15
    assert [one.declaration.kind for one in plan.unknown] == (
        ["queue", *["binding"] * 5] if source.name == "amqp" else []
    )


def test_what_the_broker_does_not_compare_is_unknown_over_amqp(
    broker_url: str, channel: BlockingChannel
) -> None:
    """It agrees to the declaration, whatever it has."""
    setup_infrastructure(TOPOLOGY, broker_url)
    channel.queue_delete("lost")
    channel.queue_declare("lost", durable=True, arguments={"x-foo": "another"})

    plan = make_plan(TOPOLOGY, observe(TOPOLOGY, BrokerSettings.of(broker_url)))

    [queue] = [one for one in plan.unknown if one.declaration.kind == "queue"]
    assert (queue.declaration.name, queue.why) == ("lost", "amqp")
    assert queue.detail == "it exists; RabbitMQ does not compare its x-foo"


@pytest.mark.parametrize(
    ("declared", "field", "expected", "found"),
    [
        ({"queue": "work", "durable": False}, "durable", "true", "false"),
        ({"queue": "work", "arguments": {"x-message-ttl": 1}}, "x-message-ttl", "300000", "1"),
        ({"queue": "work", "arguments": {}}, "x-message-ttl", "300000", "none"),
        (
            {"queue": "work.quorum", "arguments": {"x-queue-type": "quorum"}},
            "x-delivery-limit",
            "5",
            "none",
        ),
        ({"queue": "work.quorum"}, "x-queue-type", "quorum", None),
        ({"queue": "work.stream"}, "x-queue-type", "stream", None),
        (
            {"queue": "lost", "arguments": {"x-queue-type": "stream"}},
            "x-queue-type",
            None,
            "stream",
        ),
    ],
)
def test_a_queue_that_is_different_is_a_conflict(
    source: Source,
    channel: BlockingChannel,
    declared: dict[str, Any],
    field: str,
    expected: str | None,
    found: str | None,
) -> None:
    """What no type is called differs between versions, and is not asked for here."""
    channel.queue_declare(**{"durable": True, **declared})

    conflict = source.plan().conflicts[0]

    assert conflict.declaration.name == declared["queue"]
    assert conflict.field == field
    assert expected is None or conflict.expected == expected
    assert found is None or conflict.found == found


@pytest.mark.parametrize(
    ("declared", "field", "expected", "found"),
    [
        ({"exchange_type": "direct"}, "type", "topic", "direct"),
        ({"durable": False}, "durable", "true", "false"),
        ({"auto_delete": True}, "auto_delete", "false", "true"),
        ({"internal": True}, "internal", "false", "true"),
        ({}, "alternate-exchange", "lost", "none"),
        (
            {"arguments": {"alternate-exchange": "it's"}},
            "alternate-exchange",
            "lost",
            "it's",
        ),
        (
            {"arguments": {"alternate-exchange": "none"}},
            "alternate-exchange",
            "lost",
            "none",
        ),
    ],
)
def test_an_exchange_that_is_different_is_a_conflict(
    source: Source,
    channel: BlockingChannel,
    declared: dict[str, Any],
    field: str,
    expected: str,
    found: str,
) -> None:
    channel.exchange_declare("events", **{"exchange_type": "topic", "durable": True, **declared})

    conflict = source.plan().conflicts[0]

    assert (conflict.declaration.kind, conflict.declaration.name) == ("exchange", "events")
    assert (conflict.field, conflict.expected, conflict.found) == (field, expected, found)


def test_a_conflict_is_told_although_long_names_cut_the_answer_short(
    source: Source, channel: BlockingChannel
) -> None:
    """An answer has 255 bytes, and names can fill them."""
    name = "q" * 200
    topology = parse_topology(f"version: 1\nqueues:\n  q: {{name: {name}, ttl: 1s}}\n")
    channel.queue_declare(name, durable=True)

    plan = make_plan(topology, observe(topology, source.settings, source.management_url))

    assert [conflict.field for conflict in plan.conflicts] == ["x-message-ttl"]


def test_a_queue_that_another_connection_has_to_itself_is_a_conflict(
    source: Source, channel: BlockingChannel
) -> None:
    channel.queue_declare("work", exclusive=True)

    conflict = source.plan().conflicts[0]

    assert (conflict.declaration.name, conflict.field) == ("work", "exclusive")


def test_over_the_http_api_what_else_there_is_is_extra(
    broker: EmbeddedBroker, broker_url: str, channel: BlockingChannel
) -> None:
    setup_infrastructure(TOPOLOGY, broker_url)
    channel.queue_declare("other")
    channel.exchange_declare("other", "fanout")
    channel.queue_bind("other", "other", "key")
    channel.queue_bind("work", "events", "c")
    channel.queue_declare("", exclusive=True)

    settings = BrokerSettings.of(broker_url)
    plan = make_plan(TOPOLOGY, observe(TOPOLOGY, settings, broker.management_url))

    assert [(extra.declaration.kind, extra.declaration.name) for extra in plan.extra] == [
        ("exchange", "other"),
        ("queue", "other"),
        ("binding", "events -> work [c]"),
        ("binding", "other -> other [key]"),
    ]


def test_a_silently_ignored_argument_shows_over_the_http_api(
    broker: EmbeddedBroker, broker_url: str, channel: BlockingChannel
) -> None:
    channel.queue_declare("lost", durable=True, arguments={"x-foo": [1, "b"]})

    settings = BrokerSettings.of(broker_url)
    plan = make_plan(TOPOLOGY, observe(TOPOLOGY, settings, broker.management_url))

    [ignored] = plan.ignored
    assert (ignored.field, ignored.expected, ignored.found) == ("x-foo", "[1, 'a']", "[1, 'b']")


def test_no_type_means_the_default_type_of_the_virtual_host(broker: EmbeddedBroker) -> None:
    topology = parse_topology("version: 1\nqueues:\n  q: {name: q}\n")
    with Administration(broker).vhost_with_default_queue_type("quorum") as url:
        settings = BrokerSettings.of(url)
        setup_infrastructure(topology, url)
        for management_url in (None, broker.management_url):
            plan = make_plan(topology, observe(topology, settings, management_url))
            assert names(plan.unchanged) == ["q"]
            assert not plan.has_differences


def test_a_stream_by_default_is_compared_over_amqp(broker: EmbeddedBroker) -> None:
    topology = parse_topology("version: 1\nqueues:\n  q: {name: q}\n")
    with Administration(broker).vhost_with_default_queue_type("stream") as url:
        setup_infrastructure(topology, url)
        plan = make_plan(topology, observe(topology, BrokerSettings.of(url)))
        assert names(plan.unchanged) == ["q"]


@pytest.fixture
def reading_url(broker: EmbeddedBroker, broker_url: str) -> Iterator[str]:
    """For a user who may not configure anything."""
    administration = Administration(broker)
    with administration.user() as user:
        allowed = {"configure": "", "write": "", "read": ".*"}
        administration.allow(virtual_host_of(broker_url), user, allowed)
        yield url_for(user, broker_url)


def test_without_permission_to_compare_what_is_there_is_unknown(
    broker_url: str, reading_url: str
) -> None:
    setup_infrastructure(TOPOLOGY, broker_url)

    plan = make_plan(TOPOLOGY, observe(TOPOLOGY, BrokerSettings.of(reading_url)))

    assert len(plan.unknown) == 15
    assert "needs the permission configure on 'events'" in plan.unknown[0].detail


def test_without_permission_what_is_missing_is_still_known(reading_url: str) -> None:
    plan = make_plan(TOPOLOGY, observe(TOPOLOGY, BrokerSettings.of(reading_url)))
    assert len(plan.create) == 15


def asking(url: str) -> ProbeChannel:
    return ProbeChannel(BrokerSettings.of(url), name="asking")


class DeletingProber(Prober):
    """Lets the object be deleted after it was seen, and before it is compared."""

    def __init__(self, asker: ProbeChannel, channel: BlockingChannel) -> None:
        super().__init__(asker)
        self._other = channel

    def _look_for(self, wanted: ExchangeDeclaration | QueueDeclaration) -> Any:
        seen = super()._look_for(wanted)
        if isinstance(wanted, QueueDeclaration):
            self._other.queue_delete(wanted.name)
        else:
            self._other.exchange_delete(wanted.name)
        return seen


@pytest.mark.parametrize(
    "wanted",
    [
        QueueDeclaration("q"),
        QueueDeclaration("q", arguments={"x-queue-type": "quorum"}),
        QueueDeclaration("q", arguments={"x-queue-type": "stream"}),
        ExchangeDeclaration("x", "topic"),
    ],
    ids=str,
)
def test_what_is_deleted_while_it_is_compared_is_not_made_anew(
    channel: BlockingChannel, broker_url: str, wanted: ExchangeDeclaration | QueueDeclaration
) -> None:
    arguments: Mapping[str, Any] = wanted.arguments
    if isinstance(wanted, QueueDeclaration):
        channel.queue_declare(wanted.name, durable=True, arguments=arguments)
    else:
        channel.exchange_declare(wanted.name, wanted.type, durable=True)

    with asking(broker_url) as asker:
        verdict = DeletingProber(asker, channel).verdict(wanted)
    with asking(broker_url) as asker:
        assert Prober(asker).verdict(wanted) == Absent()

    assert isinstance(verdict, Indeterminate)


def test_a_type_of_exchange_that_the_broker_does_not_know_ends_nothing(
    channel: BlockingChannel, broker_url: str
) -> None:
    """RabbitMQ 3.10 closes the connection."""
    channel.exchange_declare("x", "direct", durable=True)
    channel.queue_declare("q", durable=True)

    with asking(broker_url) as asker:
        prober = Prober(asker)
        verdict = prober.verdict(ExchangeDeclaration("x", "x-made-up"))
        assert isinstance(verdict, Indeterminate)
        assert "unknown exchange type 'x-made-up'" in verdict.detail
        assert prober.verdict(QueueDeclaration("q")) == Equal()


@pytest.mark.parametrize("alternate", [None, "lost", "other"])
def test_the_quiet_prober_says_the_same_of_an_exchange(
    channel: BlockingChannel, broker_url: str, alternate: str | None
) -> None:
    arguments = {"alternate-exchange": alternate} if alternate else {}
    channel.exchange_declare("x", "topic", durable=True, arguments=arguments)
    wanted = ExchangeDeclaration("x", "topic", arguments={"alternate-exchange": "lost"})

    with asking(broker_url) as asker:
        prober = QuietProber(asker)
        verdict = prober.verdict(wanted)

    if alternate == "lost":
        assert verdict == Equal()
    else:
        difference = Difference("alternate-exchange", "lost", alternate or "none")
        assert verdict == Inequivalent((difference,))


def test_consumers_are_counted_on_the_way(channel: BlockingChannel, broker_url: str) -> None:
    channel.queue_declare("q", durable=True)
    channel.basic_consume("q", print)
    channel.basic_consume("q", print)

    with asking(broker_url) as asker:
        prober = Prober(asker)
        prober.verdict(QueueDeclaration("q"))
        prober.verdict(QueueDeclaration("none"))

    assert prober.consumer_counts == {"q": 2}


def test_nobody_there_and_nobody_let_in(broker_url: str) -> None:
    for url, error in (
        ("amqp://localhost:1", BrokerUnavailable),
        (broker_url.replace("guest:guest", "guest:wrong"), LoginRefused),
        (f"{broker_url}-not", VirtualHostRefused),
    ):
        with pytest.raises(error):
            observe(TOPOLOGY, BrokerSettings.of(url))


def test_over_the_http_api_another_virtual_host_and_another_service_are_told(
    broker: EmbeddedBroker, broker_url: str
) -> None:
    assert broker.management_url is not None
    with pytest.raises(VirtualHostRefused):
        observe(TOPOLOGY, BrokerSettings.of(f"{broker_url}-not"), broker.management_url)
    with pytest.raises(InvalidManagementUrl):
        observe_by_management(ManagementClient(f"{broker.management_url}/no"), "/")


def test_a_connection_that_is_lost_is_an_error_of_ours(broker_url: str) -> None:
    with asking(broker_url) as asker:
        prober = Prober(asker)
        observe_by_amqp(TOPOLOGY, prober)
        assert asker._connection is not None
        asker._connection.close()
        assert isinstance(prober.verdict(QueueDeclaration("q")), Absent)
