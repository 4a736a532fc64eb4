"""Setting a topology up, all of it new and none of it, beside the ways that others have."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

import pika

from attune_mq import Topology, expand, export_definitions, parse_topology, setup_infrastructure
from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.topology.declarations import (
    ExchangeDeclaration,
    QueueDeclaration,
    declarations,
)
from benchmarks.results import Ratio, Section, interleave
from benchmarks.running import Run

QUEUES, MORE = 1_000, 10
IMPORT, NEW, AGAIN = "rabbitmqctl import_definitions", "attune", "attune, nothing to do"


def topology(queues: int) -> Topology:
    """``queues`` main queues, each with a dead letter queue and so three bindings."""
    lines = [
        "version: 1",
        "dead_letter: {exchange: dlx, ttl: 24h}",
        "exchanges: {x: {name: scale.x, type: topic}, dlx: {name: scale.dlx, type: fanout}}",
        "queues:",
        *(f"  q{i}: {{name: scale.q{i}}}" for i in range(queues)),
        "bindings:",
        *(f"  - {{source: x, destination: q{i}, routing_key: key.{i}}}" for i in range(queues)),
    ]
    return parse_topology("\n".join(lines) + "\n")


def measure(run: Run) -> list[Section]:
    """On a node of its own: what it leaves behind is in nobody's way."""
    queues = run.amount(QUEUES)
    small = expand(topology(queues))
    section = Section(
        "setup",
        f"Setting up {queues:,} queues with their dead letter queues",
        "seconds",
        ratios=[Ratio(NEW, IMPORT, at_most=1.0), Ratio(AGAIN, NEW, at_most=0.25)],
    )
    with EmbeddedBroker() as node:
        measured: dict[str, Callable[[], float]] = {
            NEW: partial(_ours, node, small, section),
            IMPORT: partial(_imported, node, run.folder, small),
            "pika": lambda: _by_pika(small, _new_vhost(node)),
            "kombu": lambda: _by_kombu(small, _new_vhost(node)),
        }
        interleave(section, max(1, run.repeats - 1), measured)
    return [section, _growth(queues)]


def _growth(queues: int) -> Section:
    name = f"attune, {queues * MORE:,}"
    section = Section("setup-growth", "Setting up ten times as many", "seconds")
    section.ratios.append(Ratio(name, f"attune, {queues:,}", at_most=1.3 * MORE))
    for size in (queues, queues * MORE):
        with EmbeddedBroker() as node:
            section.add(f"attune, {size:,}", _set_up(expand(topology(size)), node.url))
    return section


def _new_vhost(node: EmbeddedBroker) -> str:
    """Its URL. It is never deleted, which takes as long as filling it."""
    name = f"bench-{uuid4().hex}"
    node.rabbitmqctl("add_vhost", name)
    node.rabbitmqctl("set_permissions", "--vhost", name, "guest", ".*", ".*", ".*")
    return node.url_of(name)


def _ours(node: EmbeddedBroker, wanted: Topology, section: Section) -> float:
    url = _new_vhost(node)
    seconds = _set_up(wanted, url)
    section.add(AGAIN, _set_up(wanted, url))
    return seconds


def _set_up(wanted: Topology, url: str) -> float:
    began = time.monotonic()
    setup_infrastructure(wanted, url)
    return time.monotonic() - began


def _imported(node: EmbeddedBroker, folder: Path, wanted: Topology) -> float:
    vhost = pika.URLParameters(_new_vhost(node)).virtual_host
    file = folder / "definitions.json"
    file.write_text(json.dumps(export_definitions(wanted, vhost=vhost)))
    began = time.monotonic()
    node.rabbitmqctl("import_definitions", str(file), timeout_s=300)
    return time.monotonic() - began


def _by_pika(wanted: Topology, url: str) -> float:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    began = time.monotonic()
    for one in declarations(expand(wanted)):
        if isinstance(one, ExchangeDeclaration):
            channel.exchange_declare(one.name, one.type, durable=one.durable)
        elif isinstance(one, QueueDeclaration):
            arguments = dict(one.arguments)
            channel.queue_declare(one.name, durable=one.durable, arguments=arguments)
        elif one.destination_type == "queue":
            channel.queue_bind(one.destination, one.source, one.routing_key)
        else:
            channel.exchange_bind(one.destination, one.source, one.routing_key)
    seconds = time.monotonic() - began
    connection.close()
    return seconds


def _by_kombu(wanted: Topology, url: str) -> float:
    import kombu

    with kombu.Connection(url.replace("amqp://", "pyamqp://")) as connection:
        channel = connection.channel()
        began = time.monotonic()
        for one in declarations(expand(wanted)):
            if isinstance(one, ExchangeDeclaration):
                exchange = kombu.Exchange(one.name, one.type, durable=one.durable)
                exchange(channel).declare()
            elif isinstance(one, QueueDeclaration):
                queue = kombu.Queue(one.name, durable=True, queue_arguments=dict(one.arguments))
                queue(channel).queue_declare()
            elif one.destination_type == "queue":
                channel.queue_bind(one.destination, one.source, one.routing_key)
            else:
                channel.exchange_bind(one.destination, one.source, one.routing_key)
        return time.monotonic() - began
