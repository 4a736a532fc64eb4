"""``attune-mq route``: where a message would go, without a broker."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from attune_mq.cli.context import FOUND, OK, WRONG_INPUT, Context
from attune_mq.cli.route_questions import (
    Answer,
    Dead,
    Oracle,
    Published,
    Question,
    arrives,
    as_json,
    parse_question,
)
from attune_mq.cli.route_words import in_words
from attune_mq.errors import InvalidInput
from attune_mq.topology.dead_lettering import REASONS, Reason
from attune_mq.topology.expansion import DEFAULT_EXCHANGE
from attune_mq.topology.routing import SENDER_SELECTED
from attune_mq.topology.validation import nearest

SUMMARY = (
    "Say where a message would go, without a broker. Exits 1 when it would come to no queue. "
    "Names are those that the broker knows."
)

_one_line = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps makes an encoder each time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "exchange", metavar="EXCHANGE", nargs="?", help='"" is the default exchange'
    )
    parser.add_argument("routing_key", metavar="KEY", nargs="?", help="none unless given")
    parser.add_argument(
        "--header",
        metavar="K=V",
        action="append",
        default=[],
        help="V is read as JSON where it is JSON (7, true, null), else as a text; "
        "CC and BCC take a routing key each time",
    )
    parser.add_argument("--dead", metavar="QUEUE", help="the message dies in this queue")
    parser.add_argument("--key", help="with --dead: the key with which it was published")
    parser.add_argument("--reason", choices=REASONS, help="with --dead; rejected unless given")
    parser.add_argument(
        "--follow",
        action="store_true",
        help="with --dead: where it rests in the end, by way of queues in which it expires",
    )
    parser.add_argument(
        "--batch",
        metavar="FILE",
        help="many questions, a JSON object a line (-: standard input), answered by one line each",
    )


def run(arguments: argparse.Namespace, context: Context) -> int:
    _check_form(arguments)
    oracle = Oracle(context.topology())
    if arguments.batch is not None:
        return _batch(oracle, arguments.batch, context, follow=arguments.follow)
    question = _question(arguments)
    if isinstance(question, Published):
        _check_exchange(oracle, question.exchange)
    answer = oracle.answer(question)
    _show(oracle, question, answer, context)
    return OK if arrives(answer) else FOUND


def _check_form(arguments: argparse.Namespace) -> None:
    """One of the three forms, and nothing with it that belongs to another."""
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


def _question(arguments: argparse.Namespace) -> Question:
    headers = _headers(arguments.header)
    if arguments.dead is None:
        return Published(arguments.exchange, arguments.routing_key or "", headers)
    reason: Reason = arguments.reason or "rejected"
    return Dead(arguments.dead, arguments.key or "", headers, reason, arguments.follow)


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


def _check_exchange(oracle: Oracle, name: str) -> None:
    topology, known = oracle.router.topology, oracle.router.exchanges
    if name == DEFAULT_EXCHANGE or name in known:
        return
    meant = topology.exchanges.get(name)
    hint = f"did you mean {meant.name!r}?" if meant else nearest(name, known)
    expected = ", ".join(exchange.name for exchange in topology.exchanges.values())
    found = f"got {name!r}" + (f" ({hint})" if hint else "")
    raise InvalidInput(
        f"EXCHANGE: expected an exchange of {topology.sources.file} ({expected}), {found}"
    )


def _show(oracle: Oracle, question: Question, answer: Answer, context: Context) -> None:
    if isinstance(question, Dead) and (instance := oracle.instance(question.queue)):
        context.note(f"with an instance of the family {instance}")
    if context.is_json:
        context.emit(as_json(answer))
        return
    for line in in_words(oracle, question, answer):
        context.line(line)


def _batch(oracle: Oracle, file: str, context: Context, *, follow: bool) -> int:
    """An answer for every question, in order; ``{"error": …}`` for what is none."""
    code = OK
    with _opened(file) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                answer = oracle.answer(parse_question(line, follow=follow))
            except InvalidInput as error:
                context.note(f"{file}:{number}: {error}")
                context.line(_one_line({"error": str(error)}))
                code = WRONG_INPUT
                continue
            context.line(_one_line(as_json(answer)))
            if not arrives(answer):
                code = code or FOUND
            if file == "-":
                sys.stdout.flush()  # whoever asks line by line waits for it
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
