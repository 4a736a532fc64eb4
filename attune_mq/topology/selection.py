"""The part of a topology that one service needs."""

from __future__ import annotations

from attune_mq.topology.expansion import expand
from attune_mq.topology.families import exchanges_of
from attune_mq.topology.fields import FrozenDict
from attune_mq.topology.model import ExpandedTopology, Topology, UnknownName
from attune_mq.topology.objects import DeadLetterTo
from attune_mq.topology.reachability import reachable
from attune_mq.topology.source import Path


def services(topology: Topology) -> set[str]:
    """Names of all services that the file names, those of its families included."""
    blocks = topology.blocks()
    consuming = {spec.service for _, block in blocks for spec in block.consumers.values()}
    publishing = {
        name
        for _, block in blocks
        for contract in block.messages.values()
        for name in contract.publishers
    }
    return consuming | publishing


def needed_by(topology: Topology, service: str) -> ExpandedTopology:
    """What ``service`` needs: the queues that it consumes with all that belongs to them, and the
    exchanges that it publishes to.

    The queues of *other* services are theirs to set up, so a message published before they ever
    started has nowhere to go, and the publisher says so.

    Raises :class:`UnknownName` for a service that the file does not name.
    """
    if service not in services(topology):
        known = ", ".join(sorted(services(topology))) or "none"
        file = topology.sources.file
        raise UnknownName(f"{file}: expected a service of the file ({known}), got {service!r}")
    whole = expand(topology)
    consumers = {tag: spec for tag, spec in whole.consumers.items() if spec.service == service}
    messages = {
        name: contract
        for name, contract in whole.messages.items()
        if service in contract.publishers
    }
    queues = _with_dead_letters(whole, {spec.queue for spec in consumers.values()})
    bindings = [
        index
        for index, binding in enumerate(whole.bindings)
        if binding.destination_type == "queue" and binding.destination in queues
    ]
    part = whole.changed(
        whole.sources,
        queues=FrozenDict({k: q for k, q in whole.queues.items() if k in queues}),
        bindings=tuple(whole.bindings[index] for index in bindings),
        messages=FrozenDict(messages),
        consumers=FrozenDict(consumers),
        families=FrozenDict(),
    )
    return _with_exchanges(part, whole, bindings)


def _with_dead_letters(whole: ExpandedTopology, queues: set[str]) -> set[str]:
    """``queues`` with their retry queues, and all in which their dead letters may come to lie."""
    by_name = {queue.name: key for key, queue in whole.queues.items()}
    return set(reachable(queues, lambda key: _fed_by_deaths(whole, key, by_name)))


def _fed_by_deaths(whole: ExpandedTopology, key: str, by_name: dict[str, str]) -> set[str]:
    queue = whole.queues[key]
    found = {
        other
        for other, candidate in whole.queues.items()
        if candidate.purpose == "retry"
        and isinstance(candidate.dead_letter, DeadLetterTo)
        and candidate.dead_letter.routing_key == queue.name
    }
    if isinstance(queue.dead_letter, DeadLetterTo):
        found |= _led_to(whole, queue.dead_letter, by_name)
    return found


def _led_to(whole: ExpandedTopology, rule: DeadLetterTo, by_name: dict[str, str]) -> set[str]:
    """Queues behind a dead letter exchange; with a known key, those bound with it or by pattern."""
    if rule.to == "":
        return {by_name[rule.routing_key]} if rule.routing_key in by_name else set()
    found: set[str] = set()
    exchanges = [rule.to]
    for exchange in exchanges:
        exact = whole.exchange_type(exchange) == "direct" and rule.routing_key is not None
        for binding in whole.bindings:
            if binding.source != exchange or (exact and binding.routing_key != rule.routing_key):
                continue
            if binding.destination_type == "queue":
                found.add(binding.destination)
            elif binding.destination not in exchanges:
                exchanges.append(binding.destination)
    return found


def _with_exchanges(
    part: ExpandedTopology, whole: ExpandedTopology, kept: list[int]
) -> ExpandedTopology:
    needed = exchanges_of(part, whole)
    links = [
        index
        for index, binding in enumerate(whole.bindings)
        if binding.destination_type == "exchange"
        and {binding.source, binding.destination} <= needed
    ]
    indexes = [*kept, *links]
    origins: dict[Path, Path] = {
        ("bindings", new): ("bindings", i) for new, i in enumerate(indexes)
    }
    exchanges = {key: exchange for key, exchange in whole.exchanges.items() if key in needed}
    return part.changed(
        whole.sources.derived(origins),
        exchanges=FrozenDict(exchanges),
        bindings=tuple(whole.bindings[index] for index in indexes),
    )
