"""``attune-mq dlq``: dead letters, listed, shown, replayed, purged."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from attune_mq.cli.context import FOUND, OK, Context
from attune_mq.cli.dlq_filters import FILTERS, all_of
from attune_mq.cli.dlq_words import as_json, counted, in_words, obstacles, replayed, table
from attune_mq.cli.progress import Progress
from attune_mq.dead_letters.operations import (
    DEFAULT_SHOWN,
    DeadLetterCount,
    list_dead_letters,
    purge_dead_letters,
    replay_dead_letters,
    show_dead_letters,
)
from attune_mq.dead_letters.replaying import Replay
from attune_mq.errors import InvalidInput
from attune_mq.exit_codes import INTERRUPTED
from attune_mq.topology.model import Topology

SUMMARY = "List, show, replay or purge the messages that failed for good."
_QUEUE = (
    "the queue that they died in, by its name on the broker or its key in the file, or the dead "
    "letter queue; also of an instance of a family, such as worker.7.cancel"
)
_REPLAY = """\
Sends dead letters to where they first came from, by the topology of today: as their headers say,
or else as the file says of their type. Each is confirmed there before it leaves the dead letter
queue. What no queue takes today is named before anything is sent, and stays; exits 1 then."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="how many each queue has")
    show = actions.add_parser("show", help="what they say, oldest first; they stay where they are")
    show.add_argument("queue", metavar="QUEUE", help=_QUEUE)
    show.add_argument("--limit", metavar="N", type=_count, default=DEFAULT_SHOWN,
                      help=f"at most so many (default: {DEFAULT_SHOWN})")  # fmt: skip
    filters = "\n".join(f"  {f'{name}=…':<10} {meaning}" for name, meaning in FILTERS.items())
    replay = actions.add_parser(
        "replay",
        help="send them again to where they came from",
        description=_REPLAY,
        epilog=f"filters, of which a message has to fit all that are given:\n{filters}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    replay.add_argument("queue", metavar="QUEUE", help=_QUEUE)
    replay.add_argument("--limit", metavar="N", type=_count, help="send at most so many")
    replay.add_argument("--dry-run", action="store_true", help="say what would be sent; send none")
    replay.add_argument("--filter", metavar="NAME=VALUE", action="append", default=[],
                        help="only those; may be given several times")  # fmt: skip
    purge = actions.add_parser("purge", help="delete them for good")
    purge.add_argument("queue", metavar="QUEUE", help=_QUEUE)
    purge.add_argument("--yes", action="store_true", help="without it nothing is deleted")


def run(arguments: argparse.Namespace, context: Context) -> int:
    match arguments.action:
        case "list":
            return _list(context)
        case "show":
            return _show(arguments, context)
        case "replay":
            return _replay(arguments, context)
        case _:
            return _purge(arguments, context)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(text)


def _list(context: Context) -> int:
    topology = context.topology()
    if context.management_url is None and topology.families:
        families = ", ".join(topology.families)
        context.note(
            f"not listed: what instances of families have ({families}), which AMQP cannot tell; "
            f"--management-url can, and `dlq show` takes a queue of an instance by its name"
        )
    found = [
        one
        for one in list_dead_letters(_with_instances(topology, context), context.broker())
        if one.messages is not None or _is_of(topology, one)
    ]
    if context.is_json:
        context.emit({"queues": [one._asdict() for one in found]})
        return OK
    for line in table(found):
        context.line(line)
    return OK


def _with_instances(topology: Topology, context: Context) -> Topology:
    if context.management_url is None or not topology.families:
        return topology
    from attune_mq.amqp.settings import virtual_host
    from attune_mq.broker.management import management_client
    from attune_mq.topology.instances import including_all, instances_among

    broker = context.broker()
    client = management_client(context.management_url, broker)
    listed = client.queues(virtual_host(broker.urls[0]), columns=("name",))
    return including_all(topology, instances_among(topology, [one["name"] for one in listed]))


def _is_of(topology: Topology, one: DeadLetterCount) -> bool:
    """Whether the queue stands in the file itself, where it is missed when it is not there."""
    return one.queue in {queue.name for queue in topology.queues.values()}


def _show(arguments: argparse.Namespace, context: Context) -> int:
    letters = show_dead_letters(
        arguments.queue, context.topology(), context.broker(), limit=arguments.limit
    )
    if context.is_json:
        context.emit({"messages": [as_json(letter) for letter in letters]})
        return OK
    for letter in letters:
        for line in in_words(letter):
            context.line(line)
        context.line()
    more = "; --limit shows more, if there are" if len(letters) == arguments.limit else ""
    context.line(f"{counted(len(letters), 'dead letter')} shown{more}")
    return OK


def _replay(arguments: argparse.Namespace, context: Context) -> int:
    telling = _Telling(context)
    with _stopping() as stop, telling:
        result = replay_dead_letters(
            arguments.queue,
            context.topology(),
            context.broker(),
            matching=all_of(arguments.filter),
            limit=arguments.limit,
            dry_run=arguments.dry_run,
            on_survey=telling.survey,
            on_progress=telling.progress,
            stop=stop,
        )
    telling.result(result, would=arguments.dry_run)
    if result.stopped:
        return INTERRUPTED
    return FOUND if result.obstacles else OK


class _Telling:
    """What a replay says on its way, on standard error, and its result on standard output."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._bar: Progress | None = None
        self._sent = 0
        self._said: set[str] = set()

    def __enter__(self) -> _Telling:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if self._bar is not None:
            self._bar.close()
        if error is not None and self._sent:
            self._context.note(
                f"{self._sent} were sent before that; all others are where they were"
            )

    def survey(self, survey: Replay) -> None:
        self._tell_obstacles(survey)
        self._bar = Progress("replaying", survey.replayed)

    def progress(self, sent: int) -> None:
        self._sent = sent
        if self._bar is not None:
            self._bar.update(sent)

    def result(self, result: Replay, *, would: bool) -> None:
        self._tell_obstacles(result)
        if self._context.is_json:
            names = ("replayed", "left", "unroutable")
            self._context.emit({name: getattr(result, name) for name in names})
            return
        for line in replayed(result, would=would):
            self._context.line(line)

    def _tell_obstacles(self, replay: Replay) -> None:
        for line in obstacles(replay):
            if line not in self._said:
                self._said.add(line)
                self._context.note(line)


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM let the message in flight arrive; a second one does not wait for it."""
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
            "purge: expected --yes, since what is deleted is gone for good; "
            f"`attune-mq dlq show {arguments.queue}` shows what it would be"
        )
    purge = purge_dead_letters(arguments.queue, context.topology(), context.broker())
    if context.is_json:
        context.emit({"dead_letter_queue": purge.dead_letter_queue, "purged": purge.messages})
    else:
        context.line(f"deleted {counted(purge.messages, 'message')} of {purge.dead_letter_queue}")
    return OK
