"""Two executors handle messages about one execution at the same moment: whichever is first, what
the database says is so."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from sqlalchemy import delete, update

from attune_executor import store
from attune_executor.tables import executions, messages
from attune_mq import BrokerUnavailable
from attune_mq.payloads import ExecutionStatus as S, WorkerRegistered
from attune_mq.transactional import reading, to_us, utc_now
from tests.executor.two_executors import NUMBER, WORKER, OneExecutor, Pair, message


def test_a_cancellation_that_races_a_schedule_reaches_the_worker_or_nothing_is_dispatched(
    pair: Pair,
) -> None:
    pair.race(pair.one.schedule, pair.other.cancel)

    dispatched, told, ended = pair.said("dispatch"), pair.said("cancel"), Counter[int]()
    for execution_id in pair.ids:
        if pair.execution(execution_id).status is S.CANCELLED:
            ended[execution_id] += 1
    assert set(pair.states()) <= {"cancelled", "canceling"}
    assert dispatched == told
    assert ended + dispatched == pair.once_each()
    assert pair.said("NotificationCreated") == ended


def test_a_dispatch_that_dies_while_its_worker_reports_that_it_runs_ends_nothing(
    pair: Pair,
) -> None:
    pair.each(pair.one.schedule)

    pair.race(pair.one.runs, pair.other.dispatch_dies)

    assert pair.states() == {"running": NUMBER}
    assert not pair.said("NotificationCreated")


@pytest.mark.parametrize("reason", ["expired", "delivery_limit", "maxlen"])
def test_a_dispatch_that_dies_late_ends_nothing_that_runs(pair: Pair, reason: str) -> None:
    pair.each(pair.one.schedule)
    pair.each(pair.one.runs)

    pair.each(lambda execution_id: pair.other.dispatch_dies(execution_id, reason))
    assert pair.states() == {"running": NUMBER}

    pair.each(pair.other.ends)
    assert pair.states() == {"completed": NUMBER}
    assert pair.said("NotificationCreated") == pair.once_each()


def test_a_dispatch_that_dies_while_its_worker_completes_it_changes_nothing(pair: Pair) -> None:
    pair.each(pair.one.schedule)

    pair.race(pair.one.ends, pair.other.dispatch_dies)

    assert pair.states() == {"completed": NUMBER}
    assert pair.said("NotificationCreated") == pair.once_each()


def test_an_execution_whose_worker_gave_it_up_is_failed_although_it_ran(pair: Pair) -> None:
    pair.each(pair.one.schedule)
    pair.each(pair.one.runs)

    pair.race(
        lambda execution_id: pair.one.dispatch_dies(execution_id, "rejected"),
        lambda execution_id: pair.other.dispatch_dies(execution_id, "rejected"),
    )

    assert pair.states() == {"failed": NUMBER}
    assert pair.said("NotificationCreated") == pair.once_each()


@pytest.mark.parametrize(("reason", "becomes"), [("rejected", "failed"), ("expired", "running")])
def test_that_a_worker_gave_it_up_is_known_at_the_second_attempt_to_handle_it(
    pair: Pair, reason: str, becomes: str
) -> None:
    pair.each(pair.one.schedule)
    pair.each(pair.one.runs)
    pair.each(lambda one: pair.one.dispatch_dies(one, reason, is_retry=True))

    assert pair.states() == {becomes: NUMBER}


def test_a_completion_that_races_a_cancellation_is_the_end(pair: Pair) -> None:
    pair.each(pair.one.schedule)
    pair.each(pair.one.runs)

    pair.race(pair.one.ends, pair.other.cancel)

    assert pair.states() == {"completed": NUMBER}
    assert pair.said("NotificationCreated") == pair.once_each()
    assert pair.said("cancel") <= pair.once_each()


def test_a_completion_that_races_a_timeout_is_one_end_with_one_notification(pair: Pair) -> None:
    pair.each(pair.one.schedule)

    pair.race(pair.one.ends, lambda one: pair.other.ends(one, S.TIMEOUT))

    assert pair.states().total() == NUMBER
    assert set(pair.states()) <= {"completed", "timeout"}
    assert pair.said("NotificationCreated") == pair.once_each()


def test_a_report_that_it_runs_and_a_cancellation_at_once_leave_both_known(pair: Pair) -> None:
    pair.each(pair.one.schedule)

    pair.race(pair.one.runs, pair.other.cancel)

    assert pair.states() == {"canceling": NUMBER}
    assert pair.said("cancel") == pair.once_each()
    assert all(pair.execution(one).started_at is not None for one in pair.ids)


def test_two_schedulers_dispatch_an_execution_once(pair: Pair) -> None:
    pair.race(pair.one.schedule, pair.other.schedule)

    assert pair.states() == {"scheduled": NUMBER}
    assert pair.said("dispatch") == pair.once_each()
    assert {pair.execution(one).scheduling_attempts for one in pair.ids} == {1}


def test_two_schedulers_that_find_no_worker_count_each_attempt(pair: Pair) -> None:
    for executor in (pair.one, pair.other):
        executor.workers.is_alive = False

    pair.race(pair.one.schedule, pair.other.schedule)

    assert pair.states() == {"scheduling": NUMBER}
    assert {pair.execution(one).scheduling_attempts for one in pair.ids} == {2}


def test_two_cancellations_at_once_ask_the_worker_once(pair: Pair) -> None:
    pair.each(pair.one.schedule)

    pair.race(pair.one.cancel, pair.other.cancel)

    assert pair.states() == {"canceling": NUMBER}
    assert pair.said("cancel") == pair.once_each()


def test_a_cancellation_of_what_nobody_scheduled_here_goes_to_the_worker_that_it_names(
    pair: Pair,
) -> None:
    pair.each(pair.one.runs)

    pair.each(pair.other.cancel)

    assert pair.states() == {"canceling": NUMBER}
    assert pair.said("cancel") == pair.once_each()


def a_worker_is_gone(pair: Pair) -> None:
    for executor in (pair.one, pair.other):
        executor.workers.number = None


def both_look(pair: Pair) -> None:
    start = Barrier(2)

    def look(executor: OneExecutor) -> None:
        start.wait(60)
        executor.look()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(look, (pair.one, pair.other)))


def test_two_watchdogs_fail_an_execution_whose_dispatch_died_once(pair: Pair) -> None:
    pair.each(pair.one.schedule)
    pair.each(pair.one.dispatch_dies)

    both_look(pair)

    assert pair.states() == {"failed": NUMBER}
    assert pair.said("NotificationCreated") == pair.once_each()


def test_two_watchdogs_schedule_an_execution_anew_once_and_take_the_old_dispatch_back(
    pair: Pair,
) -> None:
    pair.each(pair.one.schedule)
    a_worker_is_gone(pair)

    both_look(pair)

    assert pair.states() == {"requested": NUMBER}
    assert pair.said("ExecutionRequested") == pair.once_each()
    assert not pair.said("dispatch")


def test_a_dispatch_that_a_relay_has_in_hand_is_not_sent_to_another_worker(pair: Pair) -> None:
    pair.each(pair.one.schedule)
    a_worker_is_gone(pair)
    outbox = messages.outbox
    a_minute = to_us(utc_now() + timedelta(minutes=1))
    with pair.one.engine.begin() as tx:
        tx.execute(update(outbox).values(claimed_by="a relay", available_at_us=a_minute))

    both_look(pair)
    assert pair.states() == {"scheduled": NUMBER}

    with pair.one.engine.begin() as tx:
        tx.execute(update(outbox).values(available_at_us=0))  # the lease is over
    both_look(pair)
    assert pair.states() == {"requested": NUMBER}
    assert not pair.said("dispatch")


def test_an_execution_that_is_scheduled_anew_and_again_fails_after_its_last_attempt(
    pair: Pair,
) -> None:
    a_worker_is_gone(pair)

    for _ in range(5):
        pair.each(pair.one.schedule)
        assert pair.states() == {"scheduled": NUMBER}
        pair.other.look()

    assert pair.states() == {"failed": NUMBER}
    assert pair.said("NotificationCreated") == pair.once_each()


def test_a_report_that_races_the_watchdog_is_heard_or_the_worker_is_asked_to_stop(
    pair: Pair,
) -> None:
    pair.each(pair.one.schedule)
    pair.each(pair.one.dispatch_dies)
    start = Barrier(2)

    def report() -> None:
        start.wait(60)
        for execution_id in reversed(pair.ids):
            pair.one.runs(execution_id)

    def look() -> None:
        start.wait(60)
        pair.other.look()

    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(report), pool.submit(look)]:
            one.result()

    failed = Counter(one for one in pair.ids if pair.execution(one).status is S.FAILED)
    assert pair.states() == +Counter(failed=len(failed), running=NUMBER - len(failed))
    assert pair.said("cancel") == failed
    assert pair.said("NotificationCreated") == failed


def test_a_cancellation_that_races_a_scheduling_anew_is_never_forgotten(pair: Pair) -> None:
    pair.each(pair.one.schedule)
    a_worker_is_gone(pair)
    start = Barrier(2)

    def cancel() -> None:
        start.wait(60)
        for execution_id in reversed(pair.ids):
            pair.one.cancel(execution_id)

    def look() -> None:
        start.wait(60)
        pair.other.look()

    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(cancel), pool.submit(look)]:
            one.result()
    pair.other.look()

    assert pair.states() == {"cancelled": NUMBER}
    assert pair.said("NotificationCreated") == pair.once_each()
    assert not pair.said("dispatch")
    assert not pair.said("cancel")


def test_what_runs_where_the_worker_is_gone_is_abandoned_once(pair: Pair) -> None:
    pair.each(pair.one.schedule)
    pair.each(pair.one.runs)
    pair.each(pair.one.dispatch_dies)
    both_look(pair)
    assert pair.states() == {"running": NUMBER}

    a_worker_is_gone(pair)
    both_look(pair)
    assert pair.states() == {"abandoned": NUMBER}
    assert pair.said("NotificationCreated") == pair.once_each()


def test_what_was_abandoned_and_is_reported_again_is_asked_to_stop(pair: Pair) -> None:
    pair.each(pair.one.schedule)
    pair.each(pair.one.runs)
    a_worker_is_gone(pair)
    pair.other.look()
    assert pair.states() == {"abandoned": NUMBER}

    pair.each(pair.one.runs)
    assert pair.said("cancel") == pair.once_each()
    assert pair.states() == {"abandoned": NUMBER}


def test_what_ended_as_its_worker_said_is_asked_nothing_by_a_late_report(pair: Pair) -> None:
    pair.each(pair.one.schedule)
    pair.each(pair.one.runs)
    pair.each(lambda one: pair.one.ends(one, S.FAILED))

    pair.each(pair.one.runs)
    assert not pair.said("cancel")


def test_a_dispatch_of_an_earlier_scheduling_is_not_that_of_a_later_one_by_a_clock_set_back(
    pair: Pair,
) -> None:
    pair.each(pair.one.schedule)
    by_a_clock_ahead = utc_now() + timedelta(hours=1)
    pair.each(lambda one: pair.one.dispatch_dies(one, "expired", by_a_clock_ahead))

    assert all(pair.execution(one).dispatch_died_at is None for one in pair.ids)


def test_a_dispatch_of_an_earlier_scheduling_that_dies_is_not_that_of_the_later_one(
    pair: Pair,
) -> None:
    pair.each(pair.one.schedule)
    first = {one: pair.execution(one).scheduled_at for one in pair.ids}
    a_worker_is_gone(pair)
    pair.other.look()
    pair.each(pair.other.schedule)

    for reason in ("expired", "rejected"):
        pair.each(
            lambda one, reason=reason: pair.one.dispatch_dies(one, reason, first[one])  # type: ignore[misc]
        )

    assert pair.states() == {"scheduled": NUMBER}
    assert all(pair.execution(one).dispatch_died_at is None for one in pair.ids)


def test_of_registrations_at_once_the_latest_counts(pair: Pair) -> None:
    now = utc_now()

    def register(executor: OneExecutor, runtime: str, number: int) -> None:
        executor.scheduler.on_worker(
            message(
                WorkerRegistered(
                    worker_id=WORKER,
                    name=runtime,
                    runtimes=(runtime,),
                    registered_at=now + timedelta(microseconds=number + (runtime == "new")),
                )
            )
        )

    pair.race(
        lambda number: register(pair.one, "old", 2 * number),
        lambda number: register(pair.other, "new", 2 * number),
    )

    with reading(pair.one.engine) as tx:
        assert [one.name for one in store.workers_for_runtime(tx, "new")] == ["new"]
        assert store.workers_for_runtime(tx, "old") == []


def test_what_was_reported_while_no_executor_was_there_is_waited_for(pair: Pair) -> None:
    pair.each(pair.one.schedule)
    two_days_ago = to_us(utc_now() - timedelta(days=2))
    with pair.one.engine.begin() as tx:
        tx.execute(update(executions).values(updated_at_us=two_days_ago))
        tx.execute(delete(messages.outbox))
    executor = pair.one

    executor.watchdog.look()
    executor.clock_s += 1_000.0
    executor.workers.is_broker_there = False
    with pytest.raises(BrokerUnavailable):
        executor.watchdog.look()
    executor.workers.is_broker_there = True
    executor.watchdog.look()
    assert pair.states() == {"scheduled": NUMBER}

    pair.other.ends(pair.ids[0])
    executor.clock_s += 1_000.0
    executor.watchdog.look()
    assert pair.states() == {"completed": 1, "failed": NUMBER - 1}
    assert pair.said("cancel") == Counter(pair.ids[1:])
