"""List, show, replay or purge dead letters."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from attune_mq.cli.context import Context
from attune_mq.cli.output import ProgressBar, counted
from attune_mq.dead_letters.dead_letter import DeadLetter
from attune_mq.dead_letters.destinations import place
from attune_mq.dead_letters.operations import (
    DEFAULT_SHOWN,
    list_dead_letters,
    purge_dead_letters,
    replay_dead_letters,
    show_dead_letters,
)
from attune_mq.dead_letters.replaying import Replay
from attune_mq.errors import InvalidInput
from attune_mq.exit_codes import EXIT_FINDINGS, EXIT_INTERRUPTED, EXIT_OK
from attune_mq.message.masking import shown_body
from attune_mq.topology.durations import parse_duration_ms
from attune_mq.topology.model import Topology

Filter = Callable[[DeadLetter], bool]

BODY_SHOWN = 400
"""In characters of text output; JSON has the whole body."""
OBSTACLES_SHOWN = 10
_QUEUE = (
    "queue in which the messages died, by its name on the broker or its key in the file, or the "
    "dead letter queue; also of an instance of a family, such as worker.7.cancel"
)
_REPLAY = """\
Publishes dead letters again to their original exchange, by the current topology: as their headers
say, otherwise as the file routes their type. Each is confirmed before it is removed from the dead
letter queue. Unroutable messages are listed before anything is sent, and stay; the exit code is 1
then."""
FILTERS = {
    "type": "message type, such as EnforcementCreated",
    "reason": "reason, such as rejected, expired or 'attempts exhausted'",
    "error": "text contained in the error, ignoring case",
    "id": "message id",
    "queue": "queue in which the message died",
    "older": "died longer ago than a duration, such as 2h or 7d",
    "younger": "died more recently than that",
}
_FILTERS = "filters, all of which a message has to match:\n" + "\n".join(
    f"  {f'{name}=…':<10} {meaning}" for name, meaning in FILTERS.items()
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="count the dead letters of each queue")
    show = actions.add_parser("show", help="print dead letters, oldest first, without removing any")
    shown = f"maximum number of messages (default: {DEFAULT_SHOWN})"
    show.add_argument("--limit", metavar="N", type=_count, default=DEFAULT_SHOWN, help=shown)
    replay = actions.add_parser(
        "replay",
        help="publish dead letters again to their original exchange",
        description=_REPLAY,
        epilog=_FILTERS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = replay.add_argument
    add("--limit", metavar="N", type=_count, help="maximum number of messages")
    add("--dry-run", action="store_true", help="show what would be sent, send nothing")
    add("--filter", metavar="NAME=VALUE", action="append", default=[], help="repeatable; see below")
    purge = actions.add_parser("purge", help="delete dead letters")
    purge.add_argument("--yes", action="store_true", help="confirm the deletion (required)")
    for action in (show, replay, purge):
        action.add_argument("queue", metavar="QUEUE", help=_QUEUE)


def run(arguments: argparse.Namespace, context: Context) -> int:
    actions = {"list": _list, "show": _show, "replay": _replay, "purge": _purge}
    return actions[arguments.action](arguments, context)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def _list(_: argparse.Namespace, context: Context) -> int:
    topology = context.topology()
    if context.management_url is None and topology.families:
        families = ", ".join(topology.families)
        context.note(
            f"not listed: instances of families ({families}), which AMQP cannot list; give "
            "--management-url, or a queue of an instance to `dlq show`"
        )
    declared = {queue.name for queue in topology.queues.values()}
    found = [
        one
        for one in list_dead_letters(_with_instances(topology, context), context.broker())
        if one.messages is not None or one.queue in declared
    ]
    if context.is_json:
        context.emit({"queues": [one._asdict() for one in found]})
        return EXIT_OK
    counts = ["-" if one.messages is None else str(one.messages) for one in found]
    count_width = max(map(len, counts), default=0)
    name_width = max((len(one.queue) for one in found), default=0)
    for count, one in zip(counts, found, strict=True):
        remark = " (does not exist)" if one.messages is None else ""
        head = f"{count:>{count_width}}  {one.queue:<{name_width}}"
        context.line(f"{head}  in {one.dead_letter_queue}{remark}")
    return EXIT_OK


def _with_instances(topology: Topology, context: Context) -> Topology:
    if context.management_url is None or not topology.families:
        return topology
    from attune_mq.amqp.settings import virtual_host
    from attune_mq.broker.management import management_client
    from attune_mq.topology.families import including_all, instances_among

    broker = context.broker()
    client = management_client(context.management_url, broker)
    listed = client.queues(virtual_host(broker.urls[0]), columns=("name",))
    return including_all(topology, instances_among(topology, [one["name"] for one in listed]))


def _show(arguments: argparse.Namespace, context: Context) -> int:
    letters = show_dead_letters(
        arguments.queue, context.topology(), context.broker(), limit=arguments.limit
    )
    if context.is_json:
        context.emit({"messages": [_as_json(letter) for letter in letters]})
        return EXIT_OK
    for letter in letters:
        for line in _lines(letter):
            context.line(line)
        context.line()
    more = "; --limit shows more, if there are" if len(letters) == arguments.limit else ""
    context.line(f"{counted(len(letters), 'dead letter')} shown{more}")
    return EXIT_OK


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    exchange, routing_key = letter.origin or (None, None)
    return {
        "message_id": letter.message_id,
        "message_type": letter.message_type,
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "died_at": letter.died_at.astimezone(UTC).isoformat() if letter.died_at else None,
        "exchange": exchange,
        "routing_key": routing_key,
        "body": shown_body(letter.body),
    }


def _lines(letter: DeadLetter) -> Iterator[str]:
    yield f"{letter.message_type or 'no type'}  {letter.message_id or 'no id'}"
    died = [
        letter.reason or "for an unknown reason",
        f"after {counted(letter.attempts, 'attempt')}" if letter.attempts else "",
        f"in {letter.queue}" if letter.queue else "",
        f"at {letter.died_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if letter.died_at else "",
    ]
    yield "  died    " + " ".join(part for part in died if part)
    if letter.error:
        yield f"  error   {letter.error}"
    if letter.origin:
        yield f"  from    {place(*letter.origin)}"
    yield _body_line(shown_body(letter.body))


def _body_line(body: Any) -> str:
    """Of an envelope only the payload; the other fields are shown already."""
    is_envelope = isinstance(body, dict) and "payload" in body
    name, value = ("payload", body["payload"]) if is_envelope else ("body   ", body)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"  {name} {text if len(text) <= BODY_SHOWN else text[:BODY_SHOWN] + '…'}"


def _replay(arguments: argparse.Namespace, context: Context) -> int:
    reporter = _Reporter(context)
    with _stopping() as stop, reporter:
        result = replay_dead_letters(
            arguments.queue,
            context.topology(),
            context.broker(),
            matching=all_of(arguments.filter),
            limit=arguments.limit,
            dry_run=arguments.dry_run,
            on_survey=reporter.survey,
            on_progress=reporter.progress,
            stop=stop,
        )
    reporter.obstacles(result)
    if context.is_json:
        names = ("replayed", "left", "unroutable")
        context.emit({name: getattr(result, name) for name in names})
    else:
        _show_replay(result, context, dry_run=arguments.dry_run)
    if result.stopped:
        return EXIT_INTERRUPTED
    return EXIT_FINDINGS if result.obstacles else EXIT_OK


class _Reporter:
    """Reports the progress of a replay on standard error."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._bar = ProgressBar()
        self._total = 0
        self._sent = 0
        self._reported: set[str] = set()

    def __enter__(self) -> _Reporter:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self._bar.close()
        if error is not None and self._sent:
            self._context.note(f"{self._sent} were sent before that; all others stay in the queue")

    def survey(self, survey: Replay) -> None:
        self.obstacles(survey)
        self._total = survey.replayed

    def progress(self, sent: int) -> None:
        self._sent = sent
        self._bar.update("replaying", sent, self._total)

    def obstacles(self, replay: Replay) -> None:
        """Why matching messages stay, each reason once, the most frequent first."""
        for line in _obstacle_lines(replay):
            if line not in self._reported:
                self._reported.add(line)
                self._context.note(line)


def _obstacle_lines(replay: Replay) -> Iterator[str]:
    most_first = sorted(replay.obstacles, key=lambda obstacle: -obstacle[1])
    for why, count in most_first[:OBSTACLES_SHOWN]:
        yield f"{count} cannot be sent: {why}"
    if len(most_first) > OBSTACLES_SHOWN:
        others = sum(count for _, count in most_first[OBSTACLES_SHOWN:])
        yield f"{others} more cannot be sent, for {len(most_first) - OBSTACLES_SHOWN} other reasons"


def _show_replay(replay: Replay, context: Context, *, dry_run: bool) -> None:
    sends, leaves = ("would send", "would leave") if dry_run else ("sent", "left")
    for (exchange, routing_key, _), count in replay.destinations:
        context.line(f"{sends} {count} to {place(exchange, routing_key)}")
    unroutable = f", {replay.unroutable} of them unroutable" if replay.unroutable else ""
    left = f"{leaves} {replay.left} in {replay.dead_letter_queue}"
    context.line(f"{sends} {replay.replayed}, {left}{unroutable}")


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that the message in flight is still confirmed. A
    second signal interrupts at once."""
    stop = threading.Event()

    def handle(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _purge(arguments: argparse.Namespace, context: Context) -> int:
    if not arguments.yes:
        raise InvalidInput(
            "purge: expected --yes, since deleted messages cannot be recovered; "
            f"`attune-mq dlq show {arguments.queue}` shows them"
        )
    purge = purge_dead_letters(arguments.queue, context.topology(), context.broker())
    if context.is_json:
        context.emit({"dead_letter_queue": purge.dead_letter_queue, "purged": purge.messages})
    else:
        context.line(f"deleted {counted(purge.messages, 'message')} of {purge.dead_letter_queue}")
    return EXIT_OK


def all_of(texts: Iterable[str], now: datetime | None = None) -> Filter:
    """Matches what every one of the filters matches. A dead letter without a time of death is
    neither older nor younger than anything.

    Raises :class:`~attune_mq.errors.InvalidInput` for an invalid filter.
    """
    filters = [_filter(text, now or datetime.now(UTC)) for text in texts]
    return lambda letter: all(matches(letter) for matches in filters)


def _filter(text: str, now: datetime) -> Filter:
    name, equals, value = text.partition("=")
    if not equals or name not in FILTERS:
        known = ", ".join(f"{known}=…" for known in FILTERS)
        raise InvalidInput(f"--filter: expected one of {known}, got {text!r}")
    match name:
        case "type":
            return lambda letter: letter.message_type == value
        case "reason":
            return lambda letter: letter.reason == value
        case "id":
            return lambda letter: letter.message_id == value
        case "queue":
            return lambda letter: letter.queue == value
        case "error":
            return lambda letter: value.casefold() in (letter.error or "").casefold()
    then = _ago(text, value, now)
    if name == "older":
        return lambda letter: letter.died_at is not None and letter.died_at < then
    return lambda letter: letter.died_at is not None and letter.died_at > then


def _ago(text: str, value: str, now: datetime) -> datetime:
    try:
        return now - timedelta(milliseconds=parse_duration_ms(value))
    except ValueError as error:
        raise InvalidInput(f"--filter: expected {error}, got {text!r}") from None
