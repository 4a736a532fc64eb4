"""Simulate where a message goes, without a broker. Exit code 1: it reaches no queue. Names are
those on the broker."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

from attune_mq.cli.context import Context
from attune_mq.cli.route_simulator import (
    DeadLetterQuery,
    PublishQuery,
    Query,
    Result,
    RouteSimulator,
    parse_query,
)
from attune_mq.errors import InvalidInput
from attune_mq.exit_codes import EXIT_FINDINGS, EXIT_INVALID_INPUT, EXIT_OK
from attune_mq.topology.dead_lettering import REASONS, Death, Loss, Reason
from attune_mq.topology.durations import format_duration
from attune_mq.topology.exchange_types import Hop
from attune_mq.topology.expansion import DEFAULT_EXCHANGE
from attune_mq.topology.families import including, instance_with_key
from attune_mq.topology.routing import SENDER_SELECTED, Router, Routing
from attune_mq.topology.validation import nearest

KEYS_SHOWN = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("exchange", metavar="EXCHANGE", nargs="?", help='"" is the default exchange')
    add("routing_key", metavar="KEY", nargs="?", help="routing key (default: none)")
    add(
        "--header",
        metavar="K=V",
        action="append",
        default=[],
        help="message header, repeatable; V is parsed as JSON if it is JSON (7, true, null), else "
        "it is a string; each CC or BCC adds a routing key",
    )
    add("--dead", metavar="QUEUE", help="simulate a message that dies in QUEUE")
    add("--key", help="with --dead: routing key with which it was published")
    add("--reason", choices=REASONS, help="with --dead: why it dies (default: rejected)")
    add("--follow", action="store_true", help="with --dead: follow it through expiries to the end")
    add("--batch", metavar="FILE", help="queries, one JSON object per line; - reads standard input")


def run(arguments: argparse.Namespace, context: Context) -> int:
    _check_form(arguments)
    simulator = RouteSimulator(context.topology())
    if arguments.batch is not None:
        return _batch(simulator, arguments.batch, context, follow=arguments.follow)
    query = _query(arguments)
    if isinstance(query, PublishQuery):
        _check_exchange(simulator.router, query.exchange)
    result = simulator.simulate(query)
    if isinstance(query, DeadLetterQuery) and (instance := simulator.instance(query.queue)):
        context.note(f"with an instance of the family {instance}")
    if context.is_json:
        context.emit(as_json(result))
    else:
        for line in as_text(simulator, query, result):
            context.line(line)
    return EXIT_OK if result.queues else EXIT_FINDINGS


def _check_form(arguments: argparse.Namespace) -> None:
    """One of the three forms, without options of another form."""
    forms = {"EXCHANGE": "exchange", "--dead": "dead", "--batch": "batch"}
    given = [form for form, name in forms.items() if getattr(arguments, name) is not None]
    if len(given) != 1:
        got = " and ".join(given) or "none"
        raise InvalidInput(f"route: expected one of EXCHANGE, --dead and --batch, got {got}")
    form = given[0]
    stray = {
        "KEY": form != "EXCHANGE" and arguments.routing_key is not None,
        "--key": form != "--dead" and arguments.key is not None,
        "--reason": form != "--dead" and arguments.reason is not None,
        "--follow": form == "EXCHANGE" and arguments.follow,
        "--header": form == "--batch" and bool(arguments.header),
    }
    for name, is_stray in stray.items():
        if is_stray:
            raise InvalidInput(f"route: {name} does not go with {form}; see --help")


def _query(arguments: argparse.Namespace) -> Query:
    headers = _headers(arguments.header)
    if arguments.dead is None:
        return PublishQuery(arguments.exchange, arguments.routing_key or "", headers)
    reason: Reason = arguments.reason or "rejected"
    return DeadLetterQuery(arguments.dead, arguments.key or "", headers, reason, arguments.follow)


def _headers(given: list[str]) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not name:
            raise InvalidInput(f"--header: expected K=V, such as format=pdf, got {each!r}")
        if name in SENDER_SELECTED:
            headers.setdefault(name, []).append(text)
        else:
            headers[name] = _header_value(text)
    return headers


def _header_value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _check_exchange(router: Router, name: str) -> None:
    topology = router.topology
    if name == DEFAULT_EXCHANGE or name in router.exchanges:
        return
    meant = topology.exchanges.get(name)
    hint = f"did you mean {meant.name!r}?" if meant else nearest(name, router.exchanges)
    expected = ", ".join(exchange.name for exchange in topology.exchanges.values())
    found = f"got {name!r}" + (f" ({hint})" if hint else "")
    raise InvalidInput(
        f"EXCHANGE: expected an exchange of {topology.sources.file} ({expected}), {found}"
    )


def _batch(simulator: RouteSimulator, file: str, context: Context, *, follow: bool) -> int:
    """One result per query, in order; ``{"error": …}`` for an invalid query."""
    code = EXIT_OK
    with _opened(file) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                result = simulator.simulate(parse_query(line, follow=follow))
            except InvalidInput as error:
                context.note(f"{file}:{number}: {error}")
                context.emit_line({"error": str(error)})
                code = EXIT_INVALID_INPUT
                continue
            context.emit_line(as_json(result))
            if not result.queues:
                code = code or EXIT_FINDINGS
            if file == "-":
                sys.stdout.flush()  # an interactive caller waits for the result of each line
    return code


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = open(file, "rb")  # noqa: SIM115 - closed below; an error of reading is another
    except OSError as error:
        raise InvalidInput(f"--batch {file}: cannot be read: {error.strerror}") from None
    with stream:
        yield stream


def as_json(result: Result) -> dict[str, Any]:
    """Exceptional outcomes have keys only where they occur."""
    paths = [_path_as_json(path) for path in result.paths]
    value: dict[str, Any] = {"queues": result.queues, "unroutable": False, "paths": paths}
    if isinstance(result, Death):
        value |= {"unroutable": result.dropped is not None, "dropped": result.dropped}
        if result.losses:
            value["losses"] = [loss._asdict() for loss in result.losses]
        if result.cycle:
            value["circling"] = result.cycle
    else:
        value["unroutable"] = result.unroutable
        if result.refused is not None:
            value["refused"] = result.refused
    if result.unsimulated:
        value["unsimulated"] = result.unsimulated
    return value


def _path_as_json(path: Sequence[Hop]) -> list[dict[str, str]]:
    """The objects that the message passes, bindings included."""
    kind = "queue" if path[0].via == "dead letter" else "exchange"
    steps = [{"kind": kind, "name": path[0].source}]
    for hop in path:
        if hop.via == "binding":
            name = f"{hop.source} -> {hop.destination} [{hop.routing_key}]"
            steps.append({"kind": "binding", "name": name})
        steps.append({"kind": hop.destination_type, "name": hop.destination})
    return steps


def as_text(simulator: RouteSimulator, query: Query, result: Result) -> Iterator[str]:
    """The lines to print."""
    for queue in result.queues:
        yield queue + _retention(simulator, query, queue)
        for path in result.paths:
            if path[-1].destination == queue:
                yield f"    {_path_text(path, query)}"
    if isinstance(query, PublishQuery) and isinstance(result, Routing):
        yield from _unrouted(simulator.router, query, result)
    elif isinstance(result, Death):
        yield from _lost(result)
    for exchange in result.unsimulated:
        kind = _type_of(simulator.router, exchange)
        yield f"Reaches {exchange!r}, whose type {kind} belongs to a plugin and is not simulated."


def _path_text(path: Sequence[Hop], query: Query) -> str:
    """``first --[key]--> second --> third``; from the queue in which it dies, the reason."""
    text = path[0].source or "(default exchange)"
    for hop in path:
        label = _label(hop)
        if hop is path[0] and isinstance(query, DeadLetterQuery):
            label = f"({query.reason})"
        arrow = f"--{label}-->" if label else "-->"
        text += f" {arrow} {hop.destination or '(default exchange)'}"
    return text


def _label(hop: Hop) -> str:
    match hop.via:
        case "binding":
            arguments = "".join(
                f" {name}" if value is None else f" {name}={value}"
                for name, value in hop.arguments.items()
            )
            return f"[{hop.routing_key}{arguments}]" if hop.routing_key or arguments else ""
        case "alternate exchange":
            return "(alternate exchange)"
        case "dead letter":
            return "(expired)"
        case "default exchange":
            return ""


def _retention(simulator: RouteSimulator, query: Query, queue: str) -> str:
    """How long a dead letter stays in the queue where it comes to rest."""
    if not isinstance(query, DeadLetterQuery):
        return ""
    topology = simulator.router_for(query.queue).topology
    ttl_ms = next((q.ttl_ms for q in topology.queues.values() if q.name == queue), None)
    return "" if ttl_ms is None else f" (for at most {format_duration(ttl_ms)})"


def _unrouted(router: Router, query: PublishQuery, routing: Routing) -> Iterator[str]:
    if routing.refused is not None:
        yield f"Refused: the broker closes the channel: {routing.refused}"
        return
    if not routing.unroutable:
        return
    yield "Unroutable: returned if published as mandatory, otherwise dropped although confirmed."
    for exchange in routing.dead_ends:
        yield f"    {_dead_end(router, exchange, query)}"
    instance = instance_with_key(router.topology, query.exchange, query.routing_key)
    if instance is not None:
        with_instance = Router(including(router.topology, instance))
        queues = with_instance.route(query.exchange, query.routing_key, query.headers).queues
        yield f"    With an instance of the family {instance}, it is routed to {_listed(queues)}."


def _dead_end(router: Router, exchange: str, query: PublishQuery) -> str:
    """Why a message is not routed beyond that exchange."""
    topology, key = router.topology, query.routing_key
    if exchange == DEFAULT_EXCHANGE == query.exchange:
        hint = nearest(key, router.queues)
        return f"No queue has the name {key!r}" + (f"; {hint}" if hint else ".")
    if exchange == DEFAULT_EXCHANGE:
        return "The default exchange has no bindings: as an alternate exchange it routes nothing."
    if exchange not in router.exchanges:
        return f"The alternate exchange {exchange!r} does not exist."
    kind = _type_of(router, exchange)
    bindings = [b for b in topology.bindings if topology.exchange_name(b.source) == exchange]
    if not bindings:
        return f"The {kind} exchange {exchange!r} has no bindings."
    if kind == "headers":
        return f"The headers exchange {exchange!r} has no binding that matches these headers."
    keys = list(dict.fromkeys(b.routing_key for b in bindings))
    hint = nearest(key, keys)
    found = f"The {kind} exchange {exchange!r} has no binding that matches the key {key!r}"
    return f"{found}, only {_listed(keys)}" + (f"; {hint}" if hint else ".")


def _lost(death: Death) -> Iterator[str]:
    if death.cycle:
        yield f"Dead-letter cycle without end through {_listed(death.cycle)}."
    for loss in death.losses:
        copy = "One copy" if death.queues else "The message"
        what = "stays there, invisible, and is retried without end" if loss.held else "is lost"
        yield f"{copy} {what}: {_why(loss)}"


def _why(loss: Loss) -> str:
    queue, exchange = loss.queue, loss.exchange
    match loss.why:
        case "no dead letter exchange" if exchange is None:
            return f"{queue!r} has no dead letter exchange."
        case "no dead letter exchange":
            return f"the dead letter exchange of {queue!r}, {exchange!r}, does not exist."
        case "unroutable":
            return f"the dead letter exchange of {queue!r}, {exchange!r}, routes it to no queue."
        case "cycle":
            return (
                f"dead-letter cycle: from {queue!r} it would return to a queue in which it died "
                "before, without a rejection by a client since. RabbitMQ drops it silently."
            )


def _type_of(router: Router, exchange: str) -> str:
    exchanges = router.topology.exchanges.items()
    key = next((key for key, each in exchanges if each.name == exchange), exchange)
    return router.topology.exchange_type(key)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:KEYS_SHOWN])
    return shown if len(names) <= KEYS_SHOWN else f"{shown} and {len(names) - KEYS_SHOWN} more"
