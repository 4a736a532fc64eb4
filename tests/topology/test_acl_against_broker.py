"""A user with just the permissions that are named can do all of it, and with one fewer cannot."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.broker.report import MissingInfrastructure
from attune_mq.consuming.consumer import Consumer
from attune_mq.consuming.handlers import Handlers
from attune_mq.message.delivery import Message
from attune_mq.payloads import ExecutionRequested
from attune_mq.publishing.publisher import Publisher
from attune_mq.topology.acl import Need, acl
from attune_mq.topology.declarations import declarations, private_declarations
from attune_mq.topology.expansion import expand
from attune_mq.topology.families import instantiate
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import ExpandedTopology, Topology
from attune_mq.topology.objects import DeadLetterTo
from attune_mq.topology.selection import needed_by
from tests.administration import Administration, url_for, virtual_host_of

SERVICE = "service"
ACCESS_REFUSED = 403
TOPOLOGY = parse_topology(
    """\
version: 1
dead_letter: {exchange: dlx}
exchanges:
  in:   {name: in.x, type: topic, alternate_exchange: lost}
  lost: {name: lost.x, type: fanout}
  out:  {name: out.x, type: direct}
  dlx:  {name: dlx.x, type: fanout}
queues:
  work: {name: work.q, retry: {attempts: 2, backoff: [100ms]}}
  own:  {name: "", exclusive: true, auto_delete: true}
bindings:
  - {source: in, destination: work, routing_key: a}
  - {source: in, destination: own,  routing_key: a}
messages:
  ExecutionRequested: {exchange: in, routing_key: a, publishers: [service]}
consumers:
  work: {service: service, queue: work}
  own:  {service: service, queue: own}
families:
  worker:
    parameters: [id]
    queues:
      own: {name: "worker.{id}.q", dead_letter: {to: out, routing_key: died}}
    bindings:
      - {source: out, destination: own, routing_key: "to.{id}"}
    consumers:
      "worker-{id}": {service: service, queue: own}
"""
)


class Denied(Exception):
    """The broker refused something for want of a permission."""


def do_everything(url: str, *, verify: bool = False) -> None:
    """What the service does in its life, set-up first, without stopping at a different place on
    each version."""
    instance = instantiate(TOPOLOGY, "worker", id=7)
    for topology in (TOPOLOGY, instance):
        part = needed_by(topology, SERVICE)
        set_up(topology, url, verify=verify)
        connection = pika.BlockingConnection(pika.URLParameters(url))
        try:
            publish_and_consume(part, connection)
        except ChannelClosedByBroker as error:
            if error.reply_code != ACCESS_REFUSED:
                raise
            raise Denied(error.reply_text) from error
        finally:
            connection.close()


def set_up(topology: Topology, url: str, *, verify: bool) -> None:
    mode: Any = "verify" if verify else "create"
    try:
        report = setup_infrastructure(topology, url, service=SERVICE, mode=mode)
    except MissingInfrastructure as error:
        raise Denied(str(error.report)) from error
    if report.refused:
        raise Denied(str(report.refused))


def publish_and_consume(part: ExpandedTopology, connection: pika.BlockingConnection) -> None:
    channel = connection.channel()
    channel.confirm_delivery()
    for contract in part.messages.values():
        channel.basic_publish(part.exchange_name(contract.exchange), contract.routing_key, b"")
    for tag, spec in part.consumers.items():
        wanted = part.queues[spec.queue]
        name = wanted.name
        if wanted.belongs_to_a_connection:
            declaration, bindings = private_declarations(part, spec.queue)
            name = str(channel.queue_declare("", exclusive=declaration.exclusive).method.queue)
            for binding in bindings:
                channel.queue_bind(name, binding.source, binding.routing_key)
        channel.basic_consume(name, lambda *_: None, consumer_tag=tag)
        channel.basic_publish("", "some.retry", b"")
        if isinstance(wanted.dead_letter, DeadLetterTo):
            exchange = part.exchange_name(wanted.dead_letter.to)
            channel.basic_publish(exchange, wanted.dead_letter.routing_key or "", b"")


@pytest.fixture
def administration(broker: EmbeddedBroker) -> Administration:
    return Administration(broker)


@pytest.fixture
def user(administration: Administration) -> Iterator[str]:
    with administration.user() as name:
        yield name


def allowed(needs: tuple[Need, ...]) -> dict[str, str]:
    """Permissions from what is needed, as ``acl`` makes them, with some needs left out."""
    names: dict[str, set[str]] = {"configure": set(), "write": set(), "read": set()}
    for need in needs:
        names[need.permission].add(need.pattern)
    return {kind: f"^({'|'.join(sorted(some))})$" for kind, some in names.items()}


def test_with_what_is_named_everything_works(
    broker_url: str, administration: Administration, user: str
) -> None:
    permissions = acl(TOPOLOGY, SERVICE)
    named = {
        "configure": permissions.configure,
        "write": permissions.write,
        "read": permissions.read,
    }
    administration.allow(virtual_host_of(broker_url), user, named)

    do_everything(url_for(user, broker_url))


def test_with_any_one_fewer_something_is_refused(
    broker_url: str, administration: Administration, user: str
) -> None:
    """From an empty virtual host each time, since some permissions are only asked for by who
    creates something."""
    needs = acl(TOPOLOGY, SERVICE).needs
    pairs = sorted({(need.permission, need.pattern) for need in needs})
    assert len(pairs) > 25

    for permission, pattern in pairs:
        fewer = tuple(need for need in needs if need[:2] != (permission, pattern))
        delete_everything(broker_url)
        administration.allow(virtual_host_of(broker_url), user, allowed(fewer))
        with pytest.raises(Denied) as refused:
            do_everything(url_for(user, broker_url))
        assert resource(pattern) in str(refused.value), (permission, pattern)


def delete_everything(url: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    for topology in (TOPOLOGY, instantiate(TOPOLOGY, "worker", id=7)):
        for declaration in declarations(expand(topology)):
            if declaration.kind == "queue":
                channel.queue_delete(declaration.name)
            elif declaration.kind == "exchange":
                channel.exchange_delete(declaration.name)
    connection.close()


def resource(pattern: str) -> str:
    """A part of the name that the pattern matches."""
    return pattern.replace("[^.]+", "7").replace("\\", "").removesuffix(".*")


def test_who_only_verifies_needs_no_more_than_is_named(
    broker: EmbeddedBroker, broker_url: str, administration: Administration, user: str
) -> None:
    for topology in (TOPOLOGY, instantiate(TOPOLOGY, "worker", id=7)):
        setup_infrastructure(topology, broker_url)
    vhost, url = virtual_host_of(broker_url), url_for(user, broker_url)
    needs = acl(TOPOLOGY, SERVICE, verify=True, version=broker.version).needs
    pairs = sorted({(need.permission, need.pattern) for need in needs})

    administration.allow(vhost, user, allowed(needs))
    do_everything(url, verify=True)

    for permission, pattern in pairs:
        fewer = tuple(need for need in needs if need[:2] != (permission, pattern))
        administration.allow(vhost, user, allowed(fewer))
        with pytest.raises(Denied):
            do_everything(url, verify=True)


def test_publisher_and_consumer_run_under_it_dead_letters_and_retries_included(
    broker_url: str, administration: Administration, user: str
) -> None:
    needs = acl(TOPOLOGY, SERVICE).needs
    administration.allow(virtual_host_of(broker_url), user, allowed(needs))
    url, part = url_for(user, broker_url), needed_by(TOPOLOGY, SERVICE)
    attempts: queue.Queue[int] = queue.Queue()
    handlers = Handlers()

    @handlers.on(ExecutionRequested)
    def fail(message: Message[ExecutionRequested]) -> None:
        attempts.put(message.payload.execution_id)
        raise ValueError("not today")

    setup_infrastructure(TOPOLOGY, url, service=SERVICE)
    consumer = Consumer(part, "work", handlers, url)
    consumer.start()
    with Publisher(part, url) as publisher:
        publisher.publish(ExecutionRequested(execution_id=1, action_ref="core.echo"))
    assert [attempts.get(timeout=30), attempts.get(timeout=30)] == [1, 1]
    dead = first_message("work.q.dlq", broker_url)
    consumer.stop()
    assert consumer.join(timeout_s=30)

    assert dead.headers is not None
    assert dead.headers["x-attune-error-message"] == "not today"


def first_message(queue_name: str, url: str) -> pika.BasicProperties:
    """Waits for it, on the way of an administrator."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    for _, properties, _ in channel.consume(queue_name, inactivity_timeout=30):
        assert properties is not None, "no dead letter came"
        connection.close()
        return properties
    raise AssertionError("the queue was deleted")
