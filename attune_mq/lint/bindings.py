"""Rules about bindings and exchanges: what they match and where they lead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from attune_mq.lint.facts import Facts
from attune_mq.lint.rule import Fault, rule
from attune_mq.topology.arguments import ALTERNATE_EXCHANGE, DEAD_LETTER_EXCHANGE
from attune_mq.topology.declaration import exchange_arguments
from attune_mq.topology.equivalence import comparable
from attune_mq.topology.exchange_types import Hop, is_wildcard
from attune_mq.topology.flow import Publication


@rule("error")
def wildcard_on_direct_exchange(facts: Facts) -> Iterator[Fault]:
    """A wildcard in the key of a binding to a direct exchange.

    A direct exchange compares keys letter by letter: `#` and `*` mean nothing to it. Attune's dead
    letter exchange was direct, and its queue was bound with `#`, which was meant to catch all. It
    caught nothing: every dead letter vanished, and nobody noticed, since what an exchange cannot
    route it silently drops. (Measured: 0 of 3 dead letters arrived, 3 of 3 with a topic exchange.)

    Fix: Make the exchange a topic exchange, or bind with the very keys that messages are published
    with; to catch all whatever the key, use a fanout exchange.
    """
    literal = {(each.exchange, each.routing_key) for each in facts.flow.publications}
    for bound in facts.network.bindings:
        key = bound.routing_key
        if _is_literal_wildcard(facts, bound) and (bound.source, key) not in literal:
            message = (
                f"{bound.destination} is bound to the direct exchange {bound.source} with {key!r}, "
                "which a direct exchange takes literally"
            )
            yield Fault(facts.where(*bound.path, "routing_key"), message)


def _is_literal_wildcard(facts: Facts, bound: Hop) -> bool:
    direct = facts.exchange_types.get(bound.source) == "direct"
    return direct and is_wildcard(bound.routing_key)


@rule("warning")
def dead_binding(facts: Facts) -> Iterator[Fault]:
    """A binding that no published message can match.

    In Attune a queue was bound with a key that messages did have, but to another exchange than the
    one they were published to. The binding was there, looked right in every listing, and never
    matched a thing. A message that never came is not missed.

    Fix: Bind to the exchange and with the key that the file's `messages` publish with, or take the
    binding out. What is published by others than the file knows can be said in `messages`.
    """
    if not facts.flow.publications:
        return
    hint = _Hint(facts.flow.publications)
    for bound in facts.network.bindings:
        if bound.path in facts.flow.used_bindings or _is_literal_wildcard(facts, bound):
            continue
        where = facts.where(*bound.path)
        if "bindings[" in where.path:  # not one that the library added for something else
            message = f"no message of this file can match the binding {bound.name}"
            yield Fault(where, f"{message}; {hint.of(bound)}")


class _Hint:
    """What is published with the key of a binding, but elsewhere; or there, with another key."""

    def __init__(self, publications: Sequence[Publication]) -> None:
        self._with_key = {each.routing_key: each for each in reversed(publications)}
        self._to_exchange = {each.exchange: each for each in reversed(publications)}

    def of(self, bound: Hop) -> str:
        elsewhere = self._with_key.get(bound.routing_key)
        if bound.routing_key and elsewhere is not None:
            return f"{_publication(elsewhere)}, not to {bound.source}"
        there = self._to_exchange.get(bound.source)
        return _publication(there) if there else f"none is published to {bound.source}"


def _publication(each: Publication) -> str:
    return f"{each.message_type} is published to {each.exchange} with key {each.routing_key!r}"


@rule("warning")
def binding_twice(facts: Facts) -> Iterator[Fault]:
    """The same binding twice.

    RabbitMQ takes the second for the first and says nothing; the queue gets each message once. So
    the second line is either idle, or was to have another key, and the message that it was written
    for does not come.

    Fix: Take one of the two out, or give it the key that was meant.
    """
    first: dict[Any, Hop] = {}
    for bound in facts.network.bindings:
        kind, key = bound.destination_type, bound.routing_key
        arguments = comparable(bound.arguments)
        identity = (bound.source, bound.destination, kind, key, arguments)
        earlier = first.setdefault(identity, bound)
        if earlier is not bound:
            place = facts.where(*earlier.path)
            message = f"the binding {bound.name} is already in line {place.line}"
            yield Fault(facts.where(*bound.path), message)


@rule("warning")
def exchange_leads_nowhere(facts: Facts) -> Iterator[Fault]:
    """An exchange from which no path leads to a queue.

    Nothing is bound to it, and it has no alternate exchange; or all that is bound to it are
    exchanges of which the same is true. Whatever will be published there is lost, and with confirms
    but without the mandatory flag RabbitMQ even confirms it.

    Fix: Bind a queue to it, or take the exchange out.
    """
    used = {each.exchange for each in facts.flow.publications}
    used |= {str(fact.arguments.get(DEAD_LETTER_EXCHANGE)) for fact in facts.queues}
    for key, exchange in facts.whole.exchanges.items():
        # Where messages or dead letters go there, a rule about these says so, and which.
        if exchange.name not in facts.exchanges_leading_on and exchange.name not in used:
            where = facts.where("exchanges", key)
            yield Fault(where, f"from exchange {exchange.name} no path leads to a queue")


@rule("error")
def alternate_exchange_missing(facts: Facts) -> Iterator[Fault]:
    """An alternate exchange that does not exist.

    An alternate exchange takes what an exchange cannot route. RabbitMQ accepts the name of one that
    does not exist, and what was to be caught there is lost, unless it was published as mandatory. A
    definitions file in RabbitMQ's own tests has one that is not declared.

    Fix: Declare the alternate exchange in `exchanges`, and name it by its key.
    """
    for key, exchange in facts.whole.exchanges.items():
        alternate = exchange_arguments(facts.whole, exchange).get(ALTERNATE_EXCHANGE)
        if isinstance(alternate, str) and alternate not in facts.exchange_types:
            where = facts.where("exchanges", key, "arguments", ALTERNATE_EXCHANGE)
            message = f"the alternate exchange {alternate!r} of {exchange.name} is not in the file"
            yield Fault(where, message)
