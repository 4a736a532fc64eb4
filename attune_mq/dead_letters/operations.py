"""Dead letters as a daily tool: list, show, replay, purge.

    for one in list_dead_letters():
        print(one.queue, one.messages)
    replay_dead_letters("executions", matching=lambda letter: letter.reason == "rejected")

``queue`` is the queue that they died in, by its name on the broker or its key in the file, or the
dead letter queue itself; also of an instance of a family, such as ``worker.7.cancel``. Showing
and replaying take any queue of the broker whose name the file does not have, as one that another
program has filled.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from attune_mq.amqp.probe_channel import ProbeChannel
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.dead_letters.browsing import Browser, queue_errors
from attune_mq.dead_letters.dead_letter import DeadLetter
from attune_mq.dead_letters.destinations import Destinations
from attune_mq.dead_letters.replaying import Matching, Replay, Replayer
from attune_mq.errors import InfrastructureError
from attune_mq.message.synchronous import check_ran, check_synchronous
from attune_mq.message.telemetry import Telemetry
from attune_mq.publishing.publisher import DEFAULT_TIMEOUT_S, Publisher
from attune_mq.topology.dead_letter_queues import DeadLetterQueues, NamedDeadLetterQueue
from attune_mq.topology.model import Topology, UnknownName
from attune_mq.topology_file import TopologySource, topology_from

DEFAULT_SHOWN = 20

Broker = BrokerSettings | str | None


class DeadLetterCount(NamedTuple):
    """``messages``: how many dead letters of ``queue`` are ready in ``dead_letter_queue``; ``None``
    where that queue is not there. Queues that share one are each said to have all of them."""

    queue: str
    dead_letter_queue: str
    messages: int | None


class Purge(NamedTuple):
    """``messages``: how many are gone."""

    dead_letter_queue: str
    messages: int


def list_dead_letters(
    topology: TopologySource = None, broker: Broker = None
) -> tuple[DeadLetterCount, ...]:
    """How many dead letters each queue of the file has, in its order.

    Instances of families are counted where ``topology`` is one, such as
    ``instantiate(topology, "worker", worker_id=7)``. Looking at a queue that expires counts as
    using it.

    Raises ``BrokerUnavailable``, ``LoginRefused``, ``VirtualHostRefused``, ``PermissionRefused``.
    """
    routes = DeadLetterQueues(topology_from(topology)).routes
    settings = BrokerSettings.of(broker)
    with ProbeChannel(settings, name="attune_mq dlq") as probe:
        counts = {
            name: _message_count(probe, name)
            for name in dict.fromkeys(route.dead_letter_queue for route in routes)
        }
    return tuple(DeadLetterCount(*route, counts[route.dead_letter_queue]) for route in routes)


def show_dead_letters(
    queue: str,
    topology: TopologySource = None,
    broker: Broker = None,
    *,
    limit: int = DEFAULT_SHOWN,
) -> tuple[DeadLetter, ...]:
    """The first ``limit`` dead letters of a queue, oldest first, all of them in memory.

    They stay where they are; :mod:`attune_mq.dead_letters.browsing` tells what that means on a
    quorum queue, and the one case in which a message could be lost. Others do not get them
    meanwhile.

    Raises :class:`~attune_mq.errors.InvalidInput` for a queue that has no dead letter queue,
    :class:`~attune_mq.errors.InfrastructureError` where the broker has not got it, and what a
    :class:`~attune_mq.dead_letters.browsing.Browser` raises.
    """
    with _opened(queue, topology, broker) as opened:
        return tuple(DeadLetter.of(delivery) for delivery in opened.browser.messages(limit))


def replay_dead_letters(
    queue: str,
    topology: TopologySource = None,
    broker: Broker = None,
    *,
    matching: Matching = lambda letter: True,
    limit: int | None = None,
    dry_run: bool = False,
    on_survey: Callable[[Replay], object] = lambda survey: None,
    on_progress: Callable[[int], None] = lambda replayed: None,
    stop: threading.Event | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    telemetry: Telemetry | None = None,
) -> Replay:
    """Sends the first ``limit`` dead letters of a queue that ``matching`` takes (all, unless
    given) to where they were first published; oldest first, one at a time.

    That is where their headers say that they came from (this library's, else the oldest death by
    the broker's word), or else where the topology publishes their type. Who has not got a queue
    there by the topology of today is passed to ``on_survey``, before anything is sent, counts as
    unroutable, and stays. An exchange gives a message to *all* queues that are bound to it, also
    to those that had it before: consumers drop what they have seen by its ``message_id``.

    A message keeps its body and properties, its priority and ids included, and its headers but
    for those that tell of its deaths, so that it is tried as often as a new one.

    ``dry_run``: the survey alone. ``on_progress`` is called after each with how many are sent.
    ``stop``: set it from anywhere, and this ends after the message in flight.
    ``timeout_s``: for a confirm. ``telemetry`` is notified of what is published.

    No message is ever in neither queue; :mod:`attune_mq.dead_letters.replaying` tells what a crash
    can double, and :mod:`attune_mq.dead_letters.browsing` what a quorum queue's delivery limit can
    take.

    Raises as :func:`show_dead_letters`; and :class:`~attune_mq.errors.NotConfirmed` when the broker
    does not confirm one: that one may be in both queues.
    """
    check_synchronous(matching, "matching")
    check_synchronous(on_survey, "on_survey")
    check_synchronous(on_progress, "on_progress")
    with _opened(queue, topology, broker, timeout_s=timeout_s, telemetry=telemetry) as opened:
        destinations = Destinations(opened.file, opened.resting)
        replayer = Replayer(
            opened.browser,
            opened.publisher,
            destinations,
            matching,
            limit,
            stop or threading.Event(),
        )
        survey = replayer.survey()
        check_ran(on_survey(survey), "on_survey")
        if survey.stopped:
            return survey.without_effect()
        if dry_run or not survey.replayed:
            return survey
        return replayer.replay(on_progress)


def purge_dead_letters(queue: str, topology: TopologySource = None, broker: Broker = None) -> Purge:
    """Deletes the dead letters of a queue, all that are ready. They are gone for good.

    Takes dead letter queues of the file only, so that a slip of the pen empties no other.

    Raises :class:`~attune_mq.topology.model.UnknownName` for any other, and otherwise as
    :func:`show_dead_letters`.
    """
    name = DeadLetterQueues(topology_from(topology)).find(queue).name
    with ProbeChannel(BrokerSettings.of(broker), name="attune_mq dlq") as probe, queue_errors(name):
        return Purge(name, probe.open_channel().queue_purge(name))


class _Opened(NamedTuple):
    file: Topology
    resting: NamedDeadLetterQueue
    publisher: Publisher
    browser: Browser


@contextlib.contextmanager
def _opened(
    queue: str,
    topology: TopologySource,
    broker: Broker,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    telemetry: Telemetry | None = None,
) -> Iterator[_Opened]:
    file, settings = topology_from(topology), BrokerSettings.of(broker)
    unknown: UnknownName | None = None
    try:
        resting = DeadLetterQueues(file).find(queue)
    except UnknownName as error:
        resting, unknown = NamedDeadLetterQueue(queue, file), error
    publisher = Publisher(
        file,
        settings,
        source_service="attune_mq dlq",
        timeout_s=timeout_s,
        telemetry=telemetry,
    )
    browser = Browser(settings, resting.name, publisher, delivery_limit=resting.delivery_limit)
    with contextlib.ExitStack() as stack:
        stack.enter_context(publisher)
        try:
            stack.enter_context(browser)
        except InfrastructureError as missing:  # on the broker neither: the name is wrong
            raise unknown or missing from missing
        yield _Opened(file, resting, publisher, browser)


def _message_count(probe: ProbeChannel, queue: str) -> int | None:
    try:
        with queue_errors(queue):
            declared = probe.open_channel().queue_declare(queue, passive=True)
    except InfrastructureError:
        return None
    return int(declared.message_count or 0)
