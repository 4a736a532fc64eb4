"""Whatever the order of deliveries, results, pauses and time: each delivery is settled once."""

from __future__ import annotations

import struct
from dataclasses import replace

import pika
from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from attune_mq.consuming.channel_session import ChannelSession, Job, ToDo, UnackedDeliveries
from attune_mq.consuming.pausing import Pause
from attune_mq.consuming.processing import Action, Result, republish_to_tail
from attune_mq.message import Delivery
from attune_mq.message.delivery import HELD_FOR, NOT_BEFORE
from attune_mq.message.settlement import ErrorReport, Hold, Unavailable
from tests.amqp.simulated import SimulatedTime
from tests.messaging.deliveries import delivery

CHANNEL = 3
HELD_FOR_S = 60
WALL_S = 1_800_000_000
SETTLEMENT = struct.Struct(">BHIHHQBB")
ACK, REJECT, NACK = 80, 90, 120
REQUEUE = 0b10
PLAIN = delivery()
AWAY = Unavailable("database", ErrorReport("OSError", "down"))


class BrokersChannel:
    """What RabbitMQ holds unacked on one channel. It closes the channel for an unknown tag."""

    def __init__(self) -> None:
        self.delivered = 0
        self.unacked: set[int] = set()
        self.acked: set[int] = set()
        self.requeued: set[int] = set()
        self.dropped: set[int] = set()

    def deliver(self) -> int:
        self.delivered += 1
        self.unacked.add(self.delivered)
        return self.delivered

    def take(self, frames: bytes) -> None:
        for _, channel, _, _, method, tag, bits, _ in SETTLEMENT.iter_unpack(frames):
            assert channel == CHANNEL
            multiple = bool(bits & 1)
            covered = {one for one in self.unacked if one == tag or (multiple and one < tag)}
            assert tag in covered, "PRECONDITION_FAILED: unknown delivery tag"
            self.unacked -= covered
            assert bits & REQUEUE == (REQUEUE if method == NACK else 0)
            {ACK: self.acked, NACK: self.requeued, REJECT: self.dropped}[method].update(covered)


class AnySettlements(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.broker = BrokersChannel()
        self.unacked = UnackedDeliveries(CHANNEL)
        self.deliveries: dict[int, Delivery] = {}

    @initialize(can_requeue=st.booleans())
    def begin(self, can_requeue: bool) -> None:
        self.can_requeue = can_requeue
        self.unacked = UnackedDeliveries(CHANNEL, can_requeue=can_requeue)
        self.left = set[int]()  # of a stream, to which nothing is said of what is not handled

    @rule(count=st.integers(1, 4))
    def deliver(self, count: int) -> None:
        tags = [self.broker.deliver() for _ in range(count)]
        self.deliveries |= {tag: numbered(tag) for tag in tags}
        self.unacked.add([self.deliveries[tag] for tag in tags])

    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        open_tags = sorted(self.broker.unacked - self.left)
        done = data.draw(st.sets(st.sampled_from(open_tags))) if open_tags else set[int]()
        before = self.broker.acked.copy()
        if not self.left:  # else one for several covers those, which moves no position in a stream
            self.broker.take(self.unacked.acknowledge(done))
            assert self.broker.acked - before == done

    @precondition(lambda self: self.broker.unacked - self.left)
    @rule(data=st.data(), is_dropped=st.booleans())
    def settle(self, data: st.DataObject, is_dropped: bool) -> None:
        tag = data.draw(st.sampled_from(sorted(self.broker.unacked - self.left)))
        settle = self.unacked.drop if is_dropped else self.unacked.requeue
        self.broker.take(settle(self.deliveries[tag]))
        if is_dropped:
            assert tag in self.broker.dropped
        elif self.can_requeue:
            assert tag in self.broker.requeued
        else:
            self.left.add(tag)

    @invariant()
    def both_know_the_same(self) -> None:
        known = {tag for tag in self.deliveries if tag in self.unacked}
        assert known == self.broker.unacked - self.left
        assert len(self.unacked) == len(known)


def numbered(tag: int, *, held: bool = False) -> Delivery:
    one = replace(PLAIN, delivery_tag=tag)
    if held:
        not_before_ms = (WALL_S + HELD_FOR_S) * 1000
        headers = {NOT_BEFORE: not_before_ms, HELD_FOR: HELD_FOR_S * 1000}
        one = replace(one, properties=pika.BasicProperties(headers=headers))
    return one


class AnyDeliveries(RuleBasedStateMachine):
    """``queued``: jobs that no worker has begun; ``running``: those that one has."""

    def __init__(self) -> None:
        super().__init__()
        self.time = SimulatedTime()
        self.pause = Pause("worker", None, self.time)
        self.session = ChannelSession(CHANNEL, self.pause, self.time.now_s)
        self.broker = BrokersChannel()
        self.queued: list[Job] = []
        self.running: list[Job] = []
        self.finished: list[tuple[Delivery, Result]] = []
        self.to_be_acked: set[int] = set()
        self.to_be_dropped: set[int] = set()
        self.is_stopping = False

    def happened(self, what: ToDo) -> None:
        assert not (self.is_stopping and what.jobs), "begun after it was to stop"
        requeued_before = self.broker.requeued.copy()
        self.broker.take(what.frames)
        requeued = [one.delivery_tag for one in what.requeued]
        assert sorted(requeued) == sorted(self.broker.requeued - requeued_before)
        self.queued += what.jobs

    @rule(count=st.integers(1, 4), held=st.booleans())
    def deliver(self, count: int, held: bool) -> None:
        came = [numbered(self.broker.deliver(), held=held) for _ in range(count)]
        self.happened(self.session.delivered(came, self.time.now_s, WALL_S))

    @precondition(lambda self: self.queued)
    @rule()
    def begin(self) -> None:
        self.running.append(self.queued.pop(0))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        job = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.finished.append((job.delivery, self.result_of(job, data)))

    def result_of(self, job: Job, data: st.DataObject) -> Result:
        """As a worker may say; a pause begins and ends there."""
        tag = job.delivery.delivery_tag
        copied = republish_to_tail(job.delivery)
        result: Result
        if job.replacement is not None:
            is_confirmed = data.draw(st.booleans())
            result = Action.ACKNOWLEDGE if is_confirmed else job.replacement
        elif self.pause.cause is not None and not job.is_trial:
            result = Action.HOLD
        else:
            choices: list[Result] = [Action.ACKNOWLEDGE, Action.DROP, Action.REQUEUE]
            result = data.draw(st.sampled_from([*choices, Hold(AWAY), copied]))
            if isinstance(result, Hold):
                self.pause.begin(AWAY)
            elif job.is_trial:
                self.pause.end()
        if result is Action.ACKNOWLEDGE:
            self.to_be_acked.add(tag)
        elif result is Action.DROP:
            self.to_be_dropped.add(tag)
        return result

    @rule()
    def settle(self) -> None:
        finished, self.finished = self.finished, []
        self.happened(self.session.finished(finished, self.time.now_s))
        assert self.broker.acked == self.to_be_acked
        assert self.broker.dropped == self.to_be_dropped

    @rule(seconds=st.sampled_from([0.3, 5.0, 61.0, 901.0]))
    def pass_time(self, seconds: float) -> None:
        self.time.now_s += seconds
        self.happened(self.session.due(self.time.now_s))
        assert self.session.due_s > self.time.now_s

    @rule()
    def end_pause(self) -> None:
        """As a trial does whose result is not settled yet."""
        self.pause.end()

    @precondition(lambda self: not self.is_stopping)
    @rule(is_sure=st.integers(0, 5))
    def stop(self, is_sure: int) -> None:
        if is_sure == 5:
            self.is_stopping = True
            self.session.stop()

    @precondition(lambda self: self.is_stopping)
    @rule()
    def requeue_not_begun(self) -> None:
        taken_back, self.queued = self.queued, []
        self.happened(self.session.requeue_not_begun(taken_back))

    @invariant()
    def each_delivery_is_in_one_place(self) -> None:
        in_hand = [job.delivery.delivery_tag for job in (*self.queued, *self.running)]
        in_hand += [one.delivery_tag for one, _ in self.finished]
        assert len(in_hand) == len({*in_hand}), "handled twice at a time"
        assert self.broker.unacked.issuperset(in_hand), "handled after it was settled"
        known = range(1, self.broker.delivered + 1)
        assert {tag for tag in known if tag in self.session.unacked} == self.broker.unacked

    def teardown(self) -> None:
        """The pause ends, all is due and handled: nothing was forgotten. Or it stops."""
        if self.is_stopping:
            self.requeue_not_begun()
        for _ in range(3 * self.broker.delivered + 3):
            self.pause.end()
            self.running += self.queued
            self.queued = []
            self.finished += [(job.delivery, Action.ACKNOWLEDGE) for job in self.running]
            self.to_be_acked |= {job.delivery.delivery_tag for job in self.running}
            self.running = []
            self.settle()
            self.pass_time(901.0)
        assert not self.broker.unacked


def test_a_settlement_settles_what_is_done_and_nothing_else() -> None:
    run_state_machine_as_test(AnySettlements, settings=settings(deadline=None, max_examples=50))


def test_each_delivery_is_settled_once_whatever_comes_between() -> None:
    run_state_machine_as_test(AnyDeliveries, settings=settings(deadline=None, max_examples=100))
