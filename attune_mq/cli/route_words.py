"""Answers of ``attune-mq route`` for people: queues, the paths to them, and why there is none."""

from __future__ import annotations

from collections.abc import Iterator

from attune_mq.cli.route_questions import Answer, Dead, Oracle, Published, Question
from attune_mq.topology.dead_lettering import Death, Loss
from attune_mq.topology.durations import format_duration
from attune_mq.topology.exchange_types import Hop
from attune_mq.topology.expansion import DEFAULT_EXCHANGE
from attune_mq.topology.families import including, instance_with_key
from attune_mq.topology.model import Topology
from attune_mq.topology.network import HopPath
from attune_mq.topology.routing import Router, Routing
from attune_mq.topology.validation import nearest

KEYS_SHOWN = 8


def in_words(oracle: Oracle, question: Question, answer: Answer) -> Iterator[str]:
    """The lines to print."""
    for queue in answer.queues:
        yield queue + _kept(oracle, question, queue)
        for path in answer.paths:
            if path[-1].destination == queue:
                yield f"    {_path(path, question)}"
    match question, answer:
        case Published(), Routing():
            yield from _of_publishing(oracle, question, answer)
        case _, Death():
            yield from _of_dying(answer)
    for exchange in answer.unsimulated:
        kind = oracle.router.topology.exchange_type(_key_of(oracle.router.topology, exchange))
        yield f"It comes to {exchange!r}, of the type {kind}: what a plugin does is not simulated."


def _path(path: HopPath, question: Question) -> str:
    """``first --[key]--> second --> third``; of a queue in which it dies, why."""
    text = _shown(path[0].source)
    for hop in path:
        label = _label(hop)
        if hop is path[0] and isinstance(question, Dead):
            label = f"({question.reason})"
        arrow = f"--{label}-->" if label else "-->"
        text += f" {arrow} {_shown(hop.destination)}"
    return text


def _shown(name: str) -> str:
    return name or "(default exchange)"


def _label(hop: Hop) -> str:
    match hop.via:
        case "binding":
            asked = "".join(
                f" {name}" if value is None else f" {name}={value}"
                for name, value in hop.arguments.items()
            )
            return f"[{hop.routing_key}{asked}]" if hop.routing_key or asked else ""
        case "alternate exchange":
            return "(alternate exchange)"
        case "dead letter":
            return "(expired)"
        case "default exchange":
            return ""


def _kept(oracle: Oracle, question: Question, queue: str) -> str:
    """How long a dead letter stays where it has come to rest."""
    if not isinstance(question, Dead):
        return ""
    topology = oracle.router_for(question.queue).topology
    ttl_ms = next((q.ttl_ms for q in topology.queues.values() if q.name == queue), None)
    return "" if ttl_ms is None else f" (for {format_duration(ttl_ms)} at most)"


def _of_publishing(oracle: Oracle, question: Published, routing: Routing) -> Iterator[str]:
    if routing.refused is not None:
        yield f"The broker refuses it and closes the channel: {routing.refused}"
        return
    if not routing.unroutable:
        return
    yield "No queue gets it. Published as mandatory it is returned; else it is lost, yet confirmed."
    topology = oracle.router.topology
    for exchange in routing.dead_ends:
        yield f"    {_dead_end(oracle.router, exchange, question)}"
    instance = instance_with_key(topology, question.exchange, question.routing_key)
    if instance is not None:
        router = Router(including(topology, instance))
        queues = router.route(question.exchange, question.routing_key, question.headers).queues
        yield f"    Once there is an instance of the family {instance}, {_listed(queues)} gets it."


def _dead_end(router: Router, exchange: str, question: Published) -> str:
    """Why a message goes no further than to that exchange."""
    topology, key = router.topology, question.routing_key
    if exchange == DEFAULT_EXCHANGE == question.exchange:
        hint = nearest(key, router.queues)
        return f"No queue has the name {key!r}" + (f"; {hint}" if hint else ".")
    if exchange == DEFAULT_EXCHANGE:
        return "The default exchange has no bindings: as an alternate exchange it routes nothing."
    if exchange not in router.exchanges:
        return f"The alternate exchange {exchange!r} is not there."
    kind = topology.exchange_type(_key_of(topology, exchange))
    bindings = [b for b in topology.bindings if topology.exchange_name(b.source) == exchange]
    if not bindings:
        return f"The {kind} exchange {exchange!r} has no bindings."
    if kind == "headers":
        return f"The headers exchange {exchange!r} has no binding that takes these headers."
    keys = list(dict.fromkeys(b.routing_key for b in bindings))
    hint = nearest(key, keys)
    said = f"The {kind} exchange {exchange!r} has no binding that takes the key {key!r}"
    return f"{said}, only {_listed(keys)}" + (f"; {hint}" if hint else ".")


def _of_dying(death: Death) -> Iterator[str]:
    if death.cycle:
        yield f"It stays in a dead-letter cycle for ever, through {_listed(death.cycle)}."
    for loss in death.losses:
        copy = "A copy of it" if death.queues else "It"
        what = "stays there, unseen, and is tried again for ever" if loss.held else "is lost"
        yield f"{copy} {what}: {_why(loss)}"


def _why(loss: Loss) -> str:
    queue, exchange = loss.queue, loss.exchange
    match loss.why:
        case "no dead letter exchange" if exchange is None:
            return f"{queue!r} has no dead letter exchange."
        case "no dead letter exchange":
            return f"the dead letter exchange of {queue!r}, {exchange!r}, is not there."
        case "unroutable":
            return f"the dead letter exchange of {queue!r}, {exchange!r}, brings it to no queue."
        case "cycle":
            return (
                f"from {queue!r} it would come back to a queue in which it died before, and no "
                "client has rejected it since. RabbitMQ drops it without a word."
            )


def _key_of(topology: Topology, exchange: str) -> str:
    return next((k for k, e in topology.exchanges.items() if e.name == exchange), exchange)


def _listed(names: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:KEYS_SHOWN])
    return shown if len(names) <= KEYS_SHOWN else f"{shown} and {len(names) - KEYS_SHOWN} more"
