"""Simulate where a message goes, without a broker. Exit code 1: it reaches no queue. Names are
those on the broker."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from attune_mq.cli.context import Context
from attune_mq.cli.route_result import as_json, as_text
from attune_mq.cli.route_simulator import (
    DeadLetterQuery,
    PublishQuery,
    Query,
    RouteSimulator,
    parse_query,
)
from attune_mq.errors import InvalidInput
from attune_mq.exit_codes import EXIT_FINDINGS, EXIT_INVALID_INPUT, EXIT_OK
from attune_mq.topology.dead_lettering import REASONS, Reason
from attune_mq.topology.expansion import DEFAULT_EXCHANGE
from attune_mq.topology.routing import SENDER_SELECTED, Router
from attune_mq.topology.validation import nearest


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
