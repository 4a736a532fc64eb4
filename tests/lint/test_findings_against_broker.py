"""What findings say of a broker is what a broker does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPChannelError, AMQPConnectionError, UnroutableError

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.embedded_node import amqp_version
from attune_mq.lint import lint
from attune_mq.topology.arguments import QUEUE_ARGUMENTS, Kind, Text, Whole
from attune_mq.topology.declarations import (
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
    declarations,
)
from attune_mq.topology.expansion import expand
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import BrokerExpectation, Topology
from attune_mq.topology.objects import Queue
from tests.topology.real_routing import on_a_broker

FIXTURES = Path(__file__).parent / "fixtures"
QUEUE = "attune.executions.queue"
NOT_CHECKED = {"x-delivery-limit", "x-queue-master-locator", "x-queue-mode"}
"""Of these some version takes any value, and makes of it what it can."""
UNKNOWN_ELSEWHERE = {("stream", "x-consumer-timeout")} | {
    (queue_type, "x-stream-filter-size-bytes") for queue_type in ("classic", "quorum")
}
"""Ignored up to 4.2, as is what no RabbitMQ knows; refused from 4.3 on."""


def fixture(rule_id: str, kind: str) -> Topology:
    path = FIXTURES / rule_id / f"{kind}.yaml"
    return parse_topology(path.read_text(), file=path.name)


@contextmanager
def channel(url: str) -> Iterator[BlockingChannel]:
    """On a connection of its own, since some refusals end the connection."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def takes(url: str, topology: Topology) -> bool:
    """Whether the broker takes all declarations of a topology. What it took is deleted."""
    wanted = declarations(expand(topology))
    try:
        with channel(url) as declaring:
            for each in wanted:
                declare(declaring, each)
    except (AMQPChannelError, AMQPConnectionError):
        return False
    finally:
        delete(url, topology)
    return True


def declare(
    channel: BlockingChannel, wanted: ExchangeDeclaration | QueueDeclaration | BindingDeclaration
) -> None:
    match wanted:
        case ExchangeDeclaration(name, kind, arguments=arguments):
            channel.exchange_declare(name, kind, durable=True, arguments=dict(arguments))
        case QueueDeclaration(name, durable, exclusive, auto_delete, arguments):
            channel.queue_declare(name, False, durable, exclusive, auto_delete, dict(arguments))
        case BindingDeclaration(source, destination, _, key, arguments):
            channel.queue_bind(destination, source, key, dict(arguments))


def delete(url: str, topology: Topology) -> None:
    with channel(url) as deleting:
        for each in declarations(expand(topology)):
            if isinstance(each, QueueDeclaration):
                deleting.queue_delete(each.name)


@pytest.mark.parametrize(
    "rule_id",
    [
        "argument-of-wrong-type",
        "argument-value-refused",
        "argument-not-for-queue-type",
        "property-not-for-queue-type",
        "dead-letter-key-without-exchange",
        "name-reserved",
    ],
)
def test_what_is_said_to_be_refused_is_refused(rule_id: str, broker_url: str) -> None:
    assert not takes(broker_url, fixture(rule_id, "fails"))
    assert takes(broker_url, fixture(rule_id, "passes"))


@pytest.mark.parametrize(
    "rule_id",
    [
        "unknown-argument",
        "alternate-exchange-missing",
        "dead-letter-exchange-missing",
        "at-least-once-without-reject-publish",
        "reject-publish-dlx-on-quorum",
        "wildcard-on-direct-exchange",
    ],
)
def test_what_goes_wrong_silently_is_taken_without_a_word(rule_id: str, broker_url: str) -> None:
    assert takes(broker_url, fixture(rule_id, "fails"))


def good_value(kind: Kind) -> Any:
    match kind:
        case Whole(least, _):
            return max(least, 16)
        case Text(choices, _, example):
            return choices[-1] if choices else example or "some.name"
        case _:
            return True


def bad_values(kind: Kind) -> Iterator[Any]:
    match kind:
        case Whole(least, most):
            yield from ("16", True, least - 1)
            if most is not None:
                yield most + 1
        case Text(choices):
            yield 16
            if choices:
                yield "none of these"
        case _:
            yield "true"


def with_arguments(queue_type: str, arguments: Mapping[str, Any], version: str) -> Topology:
    if "x-dead-letter-routing-key" in arguments:
        arguments = {"x-dead-letter-exchange": "", **arguments}
    arguments = {"x-queue-type": queue_type, **arguments}
    queue = Queue(name="q.asked", arguments=arguments, dead_letter=False)
    return Topology(version=1, broker=BrokerExpectation(version=version), queues={"asked": queue})


def refused_by_lint(topology: Topology) -> bool:
    about_declaring = ("argument-of-", "argument-value-", "argument-not-", "argument-refused-")
    return any(each.rule.startswith(about_declaring) for each in lint(topology))


@pytest.fixture
def version(broker: EmbeddedBroker) -> str:
    answer = amqp_version(broker.port, broker.node_name)
    assert answer is not None
    return ".".join(answer.split(".")[:2])


@pytest.mark.parametrize("queue_type", ["classic", "quorum", "stream"])
def test_every_known_argument_is_taken_by_the_queue_types_that_are_said_to(
    queue_type: str, broker_url: str, version: str
) -> None:
    for argument in QUEUE_ARGUMENTS.keys() - {"x-queue-type"}:
        if (queue_type, argument) in UNKNOWN_ELSEWHERE:
            continue
        value = good_value(QUEUE_ARGUMENTS[argument].kind)
        topology = with_arguments(queue_type, {argument: value}, version)
        expected = not refused_by_lint(topology)
        assert takes(broker_url, topology) is expected, (argument, value)


def test_every_value_that_is_said_to_be_refused_is_refused(broker_url: str, version: str) -> None:
    for argument in QUEUE_ARGUMENTS.keys() - {"x-queue-type"} - NOT_CHECKED:
        known = QUEUE_ARGUMENTS[argument]
        if known.since is not None:
            continue
        for value in bad_values(known.kind):
            queue_type = sorted(known.queue_types)[0]
            topology = with_arguments(queue_type, {argument: value}, version)
            assert refused_by_lint(topology)
            assert not takes(broker_url, topology), (argument, value)


def test_a_message_that_is_said_to_reach_no_queue_comes_back(broker_url: str) -> None:
    topology = fixture("message-unroutable", "fails")
    lost = {each.where.path for each in lint(topology)}
    with on_a_broker(broker_url, topology) as real:
        for message_type in topology.messages:
            route = topology.route(message_type)
            taken = real.publish(route.exchange, route.routing_key)
            assert taken is (f"messages.{message_type}" not in lost)


def test_an_exchange_that_is_said_to_lead_nowhere_returns_every_message(broker_url: str) -> None:
    with on_a_broker(broker_url, fixture("exchange-leads-nowhere", "fails")) as real:
        assert not real.publish("attune.metadata", "event.created")
    with on_a_broker(broker_url, fixture("exchange-leads-nowhere", "passes")) as real:
        assert real.publish("attune.metadata", "event.created")


def test_a_wildcard_on_a_direct_exchange_takes_no_other_key(broker_url: str) -> None:
    with on_a_broker(broker_url, fixture("wildcard-on-direct-exchange", "fails")) as real:
        assert not real.publish("attune.dlx", "another.key")
        assert real.publish("attune.dlx", "#")
    with on_a_broker(broker_url, fixture("wildcard-on-direct-exchange", "passes")) as real:
        assert real.publish("attune.dlx", "another.key")


def give_back(consuming: BlockingChannel, *, requeue: bool) -> None:
    method, _, _ = consuming.basic_get(QUEUE)
    assert method is not None
    assert method.delivery_tag is not None
    consuming.basic_reject(method.delivery_tag, requeue=requeue)


def rejected(url: str, topology: Topology, *, expected: Sequence[str]) -> list[str]:
    """The queues in which a message lies that a consumer of ``QUEUE`` rejected."""
    with on_a_broker(url, topology) as real, channel(url) as consuming:
        real.publish("", QUEUE)
        give_back(consuming, requeue=False)
        for queue in expected:
            real.wait_for(queue, 1)
        real.wait_until_settled([])
        return real.drained()


@pytest.mark.parametrize(
    ("rule_id", "queues"),
    [
        ("dead-letter-exchange-missing", []),
        ("dead-letter-unroutable", []),
        ("dead-letter-copied", ["attune.events.queue.dlq", "attune.executions.queue.dlq"]),
        ("dead-letter-cycle", [QUEUE]),
        ("dead-letter-never-expires", ["attune.dlx.queue"]),
    ],
)
def test_dead_letters_go_where_a_finding_says(
    rule_id: str, queues: list[str], broker_url: str
) -> None:
    assert rejected(broker_url, fixture(rule_id, "fails"), expected=queues) == queues


@pytest.mark.parametrize(
    ("rule_id", "queue"),
    [
        ("dead-letter-exchange-missing", "attune.dlx.queue"),
        ("dead-letter-unroutable", "attune.dlx.queue"),
        ("dead-letter-copied", "attune.executions.queue.dlq"),
        ("dead-letter-cycle", "attune.executions.retry"),
        ("dead-letter-never-expires", "attune.dlx.queue"),
    ],
)
def test_without_a_finding_a_dead_letter_has_one_place(
    rule_id: str, queue: str, broker_url: str
) -> None:
    assert rejected(broker_url, fixture(rule_id, "passes"), expected=[queue]) == [queue]


ROUND = """version: 1
exchanges:
  waiting: {{name: x.waiting, type: fanout}}
  back: {{name: x.back, type: fanout}}
queues:
  executions: {{name: attune.executions.queue, {queue}, dead_letter: {{to: waiting}}}}
  retry: {{name: attune.executions.retry, ttl: 1ms, dead_letter: {{to: back}}}}
  witness: {{name: attune.witness}}
bindings:
  - {{source: waiting, destination: retry}}
  - {{source: back, destination: executions}}
  - {{source: back, destination: witness}}
"""
"""What comes back by ``x.back`` comes to the witness at the same time."""


def test_a_message_that_reaches_the_delivery_limit_on_a_way_round_is_gone(broker_url: str) -> None:
    topology = parse_topology(ROUND.format(queue="type: quorum, delivery_limit: 0"))
    assert "delivery-limit-lost-in-retry" in {each.rule for each in lint(topology)}
    with on_a_broker(broker_url, topology) as real, channel(broker_url) as consuming:
        real.publish("", QUEUE)
        give_back(consuming, requeue=True)
        real.wait_for("attune.witness", 1)
        real.wait_until_settled([])
        assert real.drained() == ["attune.witness"]


def test_a_message_that_expires_on_a_way_round_is_gone(broker_url: str) -> None:
    topology = parse_topology(ROUND.format(queue="ttl: 1ms"))
    assert "dead-letter-cycle" in {each.rule for each in lint(topology)}
    with on_a_broker(broker_url, topology) as real:
        real.publish("", QUEUE)
        real.wait_for("attune.witness", 1)
        real.wait_until_settled([])
        assert real.drained() == ["attune.witness"]


def test_a_message_that_was_rejected_comes_round_to_be_tried_again(broker_url: str) -> None:
    topology = parse_topology(ROUND.format(queue="type: classic"))
    assert not {each.rule for each in lint(topology)} & {"dead-letter-cycle", "retry-without-limit"}
    reached = [QUEUE, "attune.witness"]
    assert rejected(broker_url, topology, expected=reached) == reached


def test_no_client_can_publish_to_an_internal_exchange(broker_url: str) -> None:
    with channel(broker_url) as publishing:
        publishing.confirm_delivery()
        publishing.exchange_declare("x.internal", "fanout", internal=True)
        with pytest.raises(AMQPChannelError) as refused:
            publishing.basic_publish("x.internal", "", b"", mandatory=True)
    assert not isinstance(refused.value, UnroutableError)
