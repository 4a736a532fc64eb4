"""What one service needs of a topology."""

from __future__ import annotations

import pytest

from attune_mq import load_topology, parse_topology
from attune_mq.topology import UnknownName, needed_by
from attune_mq.topology.selection import services

SHIPPED = load_topology("topology.yaml", environment={})


def test_a_consuming_service_needs_its_queues_and_what_belongs_to_them() -> None:
    needed = needed_by(SHIPPED, "executor")

    assert list(needed.queues) == ["executions", "executions.dlq"]
    assert set(needed.exchanges) == {"executions", "notifications", "dlx", "dlx.direct"}
    assert len(needed.bindings) == 3


def test_a_publishing_service_needs_its_exchanges_only() -> None:
    needed = needed_by(SHIPPED, "sensor")

    assert not needed.queues
    assert set(needed.exchanges) == {"events", "executions"}


def test_a_service_needs_its_retry_queues_and_where_its_dead_letters_come_to_rest() -> None:
    topology = parse_topology(
        """
        version: 1
        exchanges: {x: {name: x, type: topic}, graves: {name: graves, type: fanout}}
        queues:
          work: {name: work, retry: {backoff: [1s]}, dead_letter: {to: graves}}
          grave: {name: grave, ttl: 1h}
          other: {name: other}
        bindings:
          - {source: x, destination: work, routing_key: "#"}
          - {source: graves, destination: grave}
        consumers: {worker: {service: worker, queue: work}}
        """
    )

    assert set(needed_by(topology, "worker").queues) == {"work", "work.retry.1s", "grave"}


def test_a_service_needs_the_exchanges_that_feed_its_own() -> None:
    topology = parse_topology(
        """
        version: 1
        exchanges:
          front: {name: front, type: topic, alternate_exchange: lost}
          back: {name: back, type: fanout}
          lost: {name: lost, type: fanout}
          aside: {name: aside, type: fanout}
        queues: {work: {name: work, dead_letter: false}}
        bindings:
          - {source: front, destination: back, destination_type: exchange, routing_key: "a.#"}
          - {source: front, destination: aside, destination_type: exchange}
          - {source: back, destination: work}
        consumers: {worker: {service: worker, queue: work}}
        """
    )

    assert set(needed_by(topology, "worker").exchanges) == {"front", "back", "lost"}


def test_what_is_needed_still_knows_its_lines() -> None:
    needed = needed_by(SHIPPED, "executor")

    lines = [needed.where("bindings", index).line for index in range(len(needed.bindings))]
    assert lines[0] == SHIPPED.where("bindings", 1).line
    assert set(lines[1:]) == {SHIPPED.where("dead_letter").line}


def test_a_service_that_the_file_does_not_have_names_those_it_has() -> None:
    assert services(SHIPPED) == {"api", "sensor", "executor", "worker", "notifier"}
    with pytest.raises(UnknownName, match="executor, notifier, sensor, worker"):
        needed_by(SHIPPED, "exekutor")
