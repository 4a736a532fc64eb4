"""Sending dead letters to where they came from.

The queue is gone through twice: first to tell what will be sent and what cannot be, then to send.
One message at a time is fetched, published as mandatory, confirmed, and only then acknowledged; so
whenever this ends, killed included, every message is in its queue again, or in the dead letter
queue, and the one in flight at most is in both. A message is counted, and dead-lettered, afresh.

What is passed over is kept unacknowledged until the end, so that the next fetch gives the next
message; :mod:`attune_mq.dead_letters.browsing` says how it goes back. Only as many messages are
looked at as were there at the start, so it ends also where they die again at once.

If the broker itself loses its power, it may have lost the acknowledgements of the last moment:
messages are then in both queues, and never in none.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from attune_mq.dead_letters.browsing import Browser
from attune_mq.dead_letters.dead_letter import DeadLetter, headers_without_deaths
from attune_mq.dead_letters.destinations import Destinations, NoRoute, fresh, place
from attune_mq.errors import NotConfirmed, PublishError, Unroutable
from attune_mq.message.delivery import Delivery
from attune_mq.message.outgoing import Outgoing, Receipt
from attune_mq.message.synchronous import check_ran
from attune_mq.publishing.publisher import Publisher
from attune_mq.topology.model import Route

Matching = Callable[[DeadLetter], bool]


@dataclass(frozen=True)
class Replay:
    """What a replay did, or, as a survey, what it would do.

    ``left``: messages that stay in the dead letter queue, of those that were there at the start.
    ``unroutable``: those among them that were asked for and that no queue takes today.
    ``destinations``: how many were sent where. ``obstacles``: how many of those asked for stay for
    which reason, which includes those that a broker refused.
    ``stopped``: it was asked to stop before its end.
    """

    dead_letter_queue: str
    replayed: int
    left: int
    unroutable: int
    destinations: tuple[tuple[Route, int], ...] = ()
    obstacles: tuple[tuple[str, int], ...] = ()
    stopped: bool = False

    def without_effect(self) -> Replay:
        """Of a survey that was stopped: nothing was sent, and all is left."""
        return replace(self, replayed=0, left=self.left + self.replayed, destinations=())


@dataclass(frozen=True)
class Replayer:
    """``matching``, ``limit``: of the messages that it takes the first so many are replayed."""

    browser: Browser
    publisher: Publisher
    destinations: Destinations
    matching: Matching
    limit: int | None
    stop: threading.Event

    def survey(self) -> Replay:
        """What would be sent where. Nothing is, and all is requeued."""
        survey = _Tally(self.browser)
        for _, outgoing in self._sendable(survey):
            survey.sent(outgoing)
        self.browser.requeue()
        return survey.result(stopped=self.stop.is_set())

    def replay(self, on_progress: Callable[[int], None]) -> Replay:
        """Raises ``NotConfirmed`` where a message may be in its queue and is in this one for
        certain; what came before it is replayed, what comes after it is left."""
        replay = _Tally(self.browser)
        for delivery, outgoing in self._sendable(replay):
            outcome = self.publisher.send([outgoing])[0]
            if isinstance(outcome, NotConfirmed):
                raise outcome
            if isinstance(outcome, Receipt):
                self.browser.take_out(delivery)
                replay.sent(outgoing)
                on_progress(replay.replayed)
            else:
                replay.refused(outgoing, outcome)
        return replay.result(stopped=self.stop.is_set())

    def _sendable(self, tally: _Tally) -> Iterator[tuple[Delivery, Outgoing]]:
        if self.limit == 0:
            return
        for delivery in self.browser.messages():
            if self.stop.is_set():
                return
            tally.looked_at += 1
            letter = DeadLetter.of(delivery)
            matches: object = self.matching(letter)
            check_ran(matches, "matching")
            if matches:
                headers = headers_without_deaths(delivery.headers)
                route = self.destinations.of(letter, headers)
                if isinstance(route, NoRoute):
                    tally.unroutable += 1
                    tally.obstacles[route.why] += 1
                else:
                    yield delivery, fresh(delivery, route, headers)
            if tally.replayed == self.limit:
                return
        tally.at_the_end = True


class _Tally:
    def __init__(self, browser: Browser) -> None:
        self.looked_at = 0
        self.at_the_end = False
        self.unroutable = 0
        self.obstacles: Counter[str] = Counter()
        self._browser = browser
        self._destinations: Counter[Route] = Counter()

    @property
    def replayed(self) -> int:
        return self._destinations.total()

    def sent(self, outgoing: Outgoing) -> None:
        self._destinations[Route(outgoing.exchange, outgoing.routing_key)] += 1

    def refused(self, outgoing: Outgoing, error: PublishError) -> None:
        """The broker does not agree with the file, or a queue is full."""
        self.unroutable += isinstance(error, Unroutable)
        why = str(error).removeprefix(f"{outgoing}: ")
        self.obstacles[f"{place(outgoing.exchange, outgoing.routing_key)}: {why}"] += 1

    def result(self, *, stopped: bool) -> Replay:
        there = self.looked_at if self.at_the_end else self._browser.count
        return Replay(
            dead_letter_queue=self._browser.queue,
            replayed=self.replayed,
            left=there - self.replayed,
            unroutable=self.unroutable,
            destinations=tuple(self._destinations.items()),
            obstacles=tuple(self.obstacles.items()),
            stopped=stopped,
        )
