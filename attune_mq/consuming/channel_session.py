"""The deliveries of one channel from their arrival to their settlement, as a value.

Deliveries, results of handlers and time go in; each call returns what is to be done: jobs for
workers, frames to send, and what is requeued by them. No lock, thread, socket or clock: the thread
that drives the connection calls it.

A message is settled on the channel that it came on, or not at all: when the connection or the
channel is lost, the broker delivers what was not settled again, and late results are ignored.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable, Sequence, Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

from attune_mq.amqp.frames import ack, nack, reject
from attune_mq.consuming.pausing import LONGEST_HOLD_S, Pause
from attune_mq.consuming.processing import Action, Replacement, Result, republish_to_tail
from attune_mq.message.delivery import Delivery
from attune_mq.message.settlement import Hold

RETRY_S = 5.0
"""How long an original is kept whose copy could not be published, before that is tried again."""


class Job(NamedTuple):
    """Work for a worker thread: a delivery to handle, perhaps to try whether a pause is over, or a
    copy of it that is still to be published."""

    delivery: Delivery
    replacement: Replacement | None = None
    is_trial: bool = False


class ToDo(NamedTuple):
    """``frames`` settle messages, which count as settled: what is not sent ends the channel."""

    jobs: Sequence[Job]
    frames: bytes
    requeued: Sequence[Delivery]


@dataclass(frozen=True)
class _Trial:
    """It is time to try whether a pause is over."""


@dataclass(frozen=True)
class _HeldTooLong:
    delivery_tag: int


@dataclass(frozen=True)
class _Begin:
    job: Job


@dataclass(frozen=True)
class _Settle:
    delivery: Delivery
    action: Action


_Due = _Trial | _HeldTooLong | _Begin | _Settle


class ChannelSession:
    """``is_stream``: nothing of it is requeued, nor held for a pause: it waits in its worker."""

    def __init__(
        self, channel: int, pause: Pause, now_s: float, *, is_stream: bool = False
    ) -> None:
        self.unacked = UnackedDeliveries(channel, can_requeue=not is_stream)
        self.due_s = math.inf
        """When :meth:`due` has something to do."""
        self._pause = pause
        self._is_stream = is_stream
        self._is_stopping = False
        self._not_begun: dict[int, Delivery] = {}  # which wait for their time
        self._held: dict[int, Delivery] = {}  # while the consumer pauses
        self._failed: set[int] = set()  # those of them whose handler said that it is to pause
        self._trial_is_due = False
        self._timers: list[tuple[float, int, _Due]] = []
        self._numbers = itertools.count()
        self._jobs: list[Job] = []
        self._requeued: list[Delivery] = []
        self._frames: list[bytes] = []
        self._look_at_pause(now_s)  # it may be that of an earlier connection

    def delivered(
        self,
        deliveries: Sequence[Delivery],
        now_s: float,
        wall_s: float,
        done: AbstractSet[int] = frozenset(),
    ) -> ToDo:
        """``wall_s``: since 1970. ``done``: delivery tags of those that need no handling."""
        self.unacked.add(deliveries)
        self._acknowledge(done)
        is_held_up = self._is_stopping or self._pause.cause is not None
        for delivery in deliveries:
            if delivery.delivery_tag in done:
                continue
            if not (delivery.headers or is_held_up):
                self._jobs.append(Job(delivery))
            elif (hold_s := delivery.hold_s(now_s, wall_s)) > 0 or self._is_stopping:
                self._after(hold_s, _Begin(Job(delivery)), delivery, now_s)
            else:
                self._offer(Job(delivery), now_s)
        return self._to_do()

    def finished(self, results: Iterable[tuple[Delivery, Result]], now_s: float) -> ToDo:
        """What is to happen to the originals."""
        done: set[int] = set()
        for delivery, result in results:
            match result:
                case Action.ACKNOWLEDGE:
                    done.add(delivery.delivery_tag)
                case Action.REQUEUE | Action.HOLD | Hold() | Replacement() if self._is_stopping:
                    self._settle(delivery, Action.REQUEUE)
                case Action.HOLD | Hold():
                    self._hold(delivery, now_s, failed=isinstance(result, Hold))
                case Action.REQUEUE:
                    self._after(RETRY_S, _Settle(delivery, result), delivery, now_s)
                case Action():
                    self._settle(delivery, result)
                case Replacement():
                    job = Job(delivery, result)
                    self._after(RETRY_S, _Begin(job), delivery, now_s)
        self._acknowledge(done)
        self._look_at_pause(now_s)
        return self._to_do()

    def due(self, now_s: float) -> ToDo:
        """What is due by now; nothing once it is stopping."""
        while self.due_s <= now_s:
            due = heapq.heappop(self._timers)[2]
            self._note_due()
            match due:
                case _Trial():
                    self._try_one(now_s)
                case _HeldTooLong(tag):
                    self._republish_held(tag)
                case _Begin(job):
                    del self._not_begun[job.delivery.delivery_tag]
                    self._offer(job, now_s)
                case _Settle(delivery, action):
                    del self._not_begun[delivery.delivery_tag]
                    self._settle(delivery, action)
        return self._to_do()

    def stop(self) -> None:
        """Nothing begins any more."""
        self._is_stopping = True
        self.due_s = math.inf

    def requeue_not_begun(self, taken_back: Iterable[Job]) -> ToDo:
        """By ``basic.nack``, which RabbitMQ 4.3 does not count. ``taken_back``: jobs of the pool
        that have not begun."""
        not_begun = [*self._release_held(), *(job.delivery for job in taken_back)]
        self._not_begun.update((delivery.delivery_tag, delivery) for delivery in not_begun)
        for delivery in self._not_begun.values():
            self._settle(delivery, Action.REQUEUE)
        self._not_begun.clear()
        return self._to_do()

    def _to_do(self) -> ToDo:
        to_do = ToDo(self._jobs, b"".join(self._frames), self._requeued)
        self._jobs, self._frames, self._requeued = [], [], []
        return to_do

    def _acknowledge(self, done: AbstractSet[int]) -> None:
        if done:
            self._frames.append(self.unacked.acknowledge(done))

    def _look_at_pause(self, now_s: float) -> None:
        """Plans the next trial, or lets all go on: after whatever may have begun or ended it."""
        if self._is_stream or self._is_stopping:
            return
        if self._pause.cause is not None:
            if not self._trial_is_due:
                self._trial_is_due = True
                self._at(now_s + self._pause.next_s(), _Trial())
        elif self._held:
            self._jobs += [Job(delivery) for delivery in self._release_held()]

    def _offer(self, job: Job, now_s: float) -> None:
        if self._pause.cause is not None and job.replacement is None and not self._is_stream:
            self._hold(job.delivery, now_s)
        else:
            self._jobs.append(job)

    def _hold(self, delivery: Delivery, now_s: float, *, failed: bool = False) -> None:
        """``failed``: it is one of those that the missing thing is needed for, so one to try."""
        tag = delivery.delivery_tag
        until_s = delivery.kept_since_s(now_s) + LONGEST_HOLD_S
        if until_s <= now_s:
            self._jobs.append(Job(delivery, republish_to_tail(delivery)))
            return
        self._held[tag] = delivery
        if failed:
            self._failed.add(tag)
        # A timer each time, so that nothing has to be remembered of what may be gone by then.
        self._at(until_s, _HeldTooLong(tag))

    def _try_one(self, now_s: float) -> None:
        self._trial_is_due = False
        if self._pause.cause is not None and self._held:
            # One that did not fail may not need what is missing, and would say nothing about it.
            tag = min(self._failed or self._held)
            self._failed.discard(tag)
            self._jobs.append(Job(self._held.pop(tag), is_trial=True))
        else:
            self._pause.end()  # there is nothing to try with: the next message is the trial
            self._look_at_pause(now_s)

    def _republish_held(self, tag: int) -> None:
        delivery = self._held.pop(tag, None)
        self._failed.discard(tag)
        if delivery is not None:  # else it is being tried, or is gone
            self._jobs.append(Job(delivery, republish_to_tail(delivery)))

    def _release_held(self) -> list[Delivery]:
        released = [self._held[tag] for tag in sorted(self._held)]
        self._held.clear()
        self._failed.clear()
        return released

    def _settle(self, delivery: Delivery, action: Action) -> None:
        if action is Action.DROP:
            self._frames.append(self.unacked.drop(delivery))
        else:
            self._frames.append(self.unacked.requeue(delivery))
            self._requeued.append(delivery)

    def _after(self, pause_s: float, due: _Due, delivery: Delivery, now_s: float) -> None:
        """Once it is stopping nothing of it begins any more: it is requeued."""
        self._not_begun[delivery.delivery_tag] = delivery
        self._at(now_s + pause_s, due)

    def _at(self, at_s: float, due: _Due) -> None:
        heapq.heappush(self._timers, (at_s, next(self._numbers), due))
        self._note_due()

    def _note_due(self) -> None:
        is_due = self._timers and not self._is_stopping
        self.due_s = self._timers[0][0] if is_due else math.inf


class UnackedDeliveries:
    """``can_requeue``: a stream cannot. RabbitMQ 3.10 closes the connection for a ``nack`` to it,
    4.3 takes it for an acknowledgement."""

    def __init__(self, channel: int, *, can_requeue: bool = True) -> None:
        self._channel = channel
        self._can_requeue = can_requeue
        self._deliveries: dict[int, Delivery] = {}  # in the order of their delivery tags

    def __len__(self) -> int:
        return len(self._deliveries)

    def __contains__(self, delivery_tag: int) -> bool:
        return delivery_tag in self._deliveries

    def add(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self._deliveries[delivery.delivery_tag] = delivery

    def acknowledge(self, done: AbstractSet[int]) -> bytes:
        """One acknowledgement for the run of done messages that begins with the oldest unacked one:
        nothing else lies below its end. One each for the others."""
        run: list[int] = []
        for tag in self._deliveries:
            if tag not in done:
                break
            run.append(tag)
        frames = [ack(self._channel, run[-1], multiple=len(run) > 1)] if run else []
        frames += [ack(self._channel, tag) for tag in sorted(done - set(run))]
        for tag in done:
            del self._deliveries[tag]
        return b"".join(frames)

    def requeue(self, delivery: Delivery) -> bytes:
        del self._deliveries[delivery.delivery_tag]
        return nack(self._channel, delivery.delivery_tag) if self._can_requeue else b""

    def drop(self, delivery: Delivery) -> bytes:
        """``basic.reject`` without ``requeue``."""
        del self._deliveries[delivery.delivery_tag]
        return reject(self._channel, delivery.delivery_tag)
