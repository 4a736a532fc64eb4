"""Where a dead letter is to be sent again, by the topology of today. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import pika

from attune_mq.dead_letters.dead_letter import DeadLetter
from attune_mq.message.delivery import Delivery
from attune_mq.message.outgoing import Outgoing
from attune_mq.topology.dead_letter_queues import NamedDeadLetterQueue
from attune_mq.topology.expansion import DEFAULT_EXCHANGE
from attune_mq.topology.families import (
    Instance,
    including,
    instance_with_key,
    instance_with_queue,
)
from attune_mq.topology.model import Route, Topology, UnknownName
from attune_mq.topology.routing import Router, Routing


class NoRoute(NamedTuple):
    """Why a dead letter cannot be sent anywhere."""

    why: str


def place(exchange: str, routing_key: str) -> str:
    return f"exchange '{exchange}' with routing key '{routing_key}'"


class Destinations:
    """``topology``: the file; ``resting``: the dead letter queue, and what its messages that do
    not say where they came from are routed by."""

    def __init__(self, topology: Topology, resting: NamedDeadLetterQueue) -> None:
        self._resting = resting
        self._router = Router(topology)
        self._file = topology.sources.file
        self._with_instances: dict[str, Router] = {}

    def of(self, letter: DeadLetter, headers: Mapping[Any, Any]) -> Route | NoRoute:
        """To where it first came from, else to where its type is published. ``headers``: those
        that it will be sent with."""
        route = self._route(letter)
        if isinstance(route, NoRoute):
            return route
        routing = self._routing(route, {k: v for k, v in headers.items() if isinstance(k, str)})
        why = self._why_not(routing)
        if why is not None:
            return NoRoute(f"{place(route.exchange, route.routing_key)}: {why}")
        return route

    def _why_not(self, routing: Routing) -> str | None:
        if routing.refused is not None:
            return f"by {self._file} the broker would refuse it ({routing.refused})"
        if routing.unroutable:
            return f"no queue of {self._file} gets what is published there"
        if routing.queues == (self._resting.name,) and not routing.unsimulated:
            return "it would only come back to this dead letter queue"
        return None

    def _route(self, letter: DeadLetter) -> Route | NoRoute:
        if letter.origin is not None:
            return Route(*letter.origin)
        if letter.message_type is None:
            return NoRoute("it says neither where it came from nor its type")
        try:
            exchange, routing_key, _ = self._resting.topology.route(letter.message_type)
        except UnknownName:
            return NoRoute(
                f"it does not say where it came from, and {self._file} does not say where "
                f"{letter.message_type!r} is published"
            )
        return Route(exchange, routing_key)

    def _routing(self, route: Route, headers: Mapping[str, Any]) -> Routing:
        routing = self._router.route(route.exchange, route.routing_key, headers)
        if not routing.unroutable:
            return routing
        instance = self._instance(route)
        if instance is None:
            return routing
        router = self._router_with(instance)
        return router.route(route.exchange, route.routing_key, headers)

    def _instance(self, route: Route) -> Instance | None:
        """The instance of a family to which a message with that address would go."""
        topology = self._router.topology
        if route.exchange == DEFAULT_EXCHANGE:
            return instance_with_queue(topology, route.routing_key)
        return instance_with_key(topology, route.exchange, route.routing_key)

    def _router_with(self, instance: Instance) -> Router:
        if str(instance) not in self._with_instances:
            with_it = Router(including(self._router.topology, instance))
            self._with_instances[str(instance)] = with_it
        return self._with_instances[str(instance)]


def fresh(delivery: Delivery, route: Route, headers: dict[Any, Any]) -> Outgoing:
    """The message as if it had never been dead: body and properties as they are, priority and ids
    included. Left out are ``expiration``, which has been served, and ``user_id``, which the broker
    would check against ours."""
    properties = copy.copy(delivery.properties)
    properties.headers = headers or None
    properties.delivery_mode = pika.DeliveryMode.Persistent.value
    properties.expiration = None
    properties.user_id = None
    return Outgoing(route.exchange, route.routing_key, delivery.body, properties)
