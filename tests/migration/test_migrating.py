"""What a migration does to queues, their messages and their bindings."""

from __future__ import annotations

import threading
from typing import Any

import pika
import pytest

from attune_mq.amqp.connection import Connection
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.broker.observation import MIGRATION_MARK, ingress_name
from attune_mq.broker.report import MissingInfrastructure
from attune_mq.migration.context import MigrationTimeouts
from attune_mq.migration.control import Control
from attune_mq.migration.migrating import migrate
from attune_mq.migration.report import Migration, Progress, Step
from attune_mq.migration.temporary_topology import TemporaryNames
from attune_mq.topology.model import UnknownName
from tests.messaging.bench import DEAD, QUEUE, Bench, topology_of, wait_for
from tests.migration.bench import (
    OLD,
    QUORUM,
    SOON,
    ends_at,
    everything,
    ids,
    is_as,
    leftovers,
    put,
)


def test_a_queue_becomes_what_the_file_says_and_keeps_its_messages_in_order(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    names = [str(number) for number in range(600)]
    put(bench, *names)

    result = migrate(QUORUM, bench.url)

    assert [one.queue for one in result.migrated] == [QUEUE, DEAD]  # type: ignore[union-attr]
    assert result.skipped == ()
    assert is_as(QUORUM, bench.url)
    assert leftovers(bench, broker) == []
    assert ids(bench) == names


def test_what_is_published_afterwards_arrives_once(bench: Bench) -> None:
    migrate(QUORUM, bench.url, names=[QUEUE])

    bench.channel.confirm_delivery()
    bench.channel.basic_publish("work", "requested", b"", mandatory=True)

    bench.wait_for_depth(QUEUE, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"ttl": "1h"},
        {"dead_letter": "false"},
        {"durable": "false"},
        {"max_length": "1000"},
        {"max_priority": "5"},
        {"expires": "1h", "ttl": "30m", "type": "quorum"},
    ],
)
def test_arguments_of_all_kinds_are_changed(bench: Bench, change: dict[str, str]) -> None:
    wanted = topology_of(**change)
    put(bench, "1", "2")
    assert not is_as(wanted, bench.url)

    migrate(wanted, bench.url, names=[QUEUE])

    assert is_as(wanted, bench.url)
    assert ids(bench) == ["1", "2"]


def test_a_message_keeps_what_rabbitmq_lets_it_keep(bench: Bench) -> None:
    history: Any = [{"queue": "elsewhere", "reason": "rejected", "count": 1, "exchange": "e",
                "routing-keys": ["k"]}]  # fmt: skip
    properties = pika.BasicProperties(
        message_id="1", correlation_id="2", content_type="a/b", priority=3, expiration="600000",
        timestamp=1_700_000_000, type="t", reply_to="r", app_id="a", delivery_mode=2,
        headers={"x-death": history, "mine": 1, "CC": ["other"]},
    )  # fmt: skip
    bench.channel.basic_publish("work", "requested", b"\x00body", properties)
    bench.wait_for_depth(QUEUE, 1)

    migrate(QUORUM, bench.url, names=[QUEUE])

    fresh = Bench(bench.url)
    method, kept, body = fresh.channel.basic_get(QUEUE)
    fresh.close()
    assert kept is not None
    assert method is not None
    headers = dict(kept.headers or {})
    assert body == b"\x00body"
    assert method.routing_key == "requested"
    assert (headers["x-death"], headers["mine"], headers["CC"]) == (history, 1, ["other"])
    assert {name: value for name, value in vars(kept).items() if name != "headers"} == {
        name: value for name, value in vars(properties).items() if name != "headers"
    }


def test_a_message_cannot_expire_between_the_queues(bench: Bench) -> None:
    put(bench, "1", expiration="600000")
    ends_at(Step.REFILL, bench.url)

    method, waiting, _ = bench.channel.basic_get(TemporaryNames(QUEUE).staging_queue)
    assert method is not None
    assert waiting is not None
    assert waiting.expiration is None
    bench.channel.basic_nack(method.delivery_tag or 0, requeue=True)
    migrate(QUORUM, bench.url, names=[QUEUE])

    fresh = Bench(bench.url)
    message = fresh.take_when_there(QUEUE)
    fresh.close()
    assert message.properties.expiration == "600000"


def test_bindings_that_the_file_does_not_have_are_kept_by_the_http_api(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    bench.channel.queue_bind(QUEUE, "work", "of another program", {"x": "y"})
    before = everything(bench, broker).bindings

    migrate(QUORUM, bench.url, names=[QUEUE], management_url=broker.management_url, timeouts=SOON)

    assert set(map(repr, everything(bench, broker).bindings)) == set(map(repr, before))


def test_a_dry_run_says_all_that_differs_and_changes_nothing(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    put(bench, "1")
    before = everything(bench, broker)

    result = migrate(topology_of(type="quorum", ttl="1h"), bench.url, names=["work"], dry_run=True)

    [planned] = result.planned
    assert (planned.name, planned.messages, planned.consumers) == (QUEUE, 1, 0)
    assert {each.field for each in planned.differences} == {"x-queue-type", "x-message-ttl"}
    assert result.migrated == ()
    assert repr(everything(bench, broker)) == repr(before)


def test_what_is_as_it_should_be_is_left_alone(bench: Bench) -> None:
    assert migrate(OLD, bench.url) == Migration((), (), ())
    [skipped] = migrate(OLD, bench.url, names=[QUEUE]).skipped
    assert (skipped.name, skipped.differs) == (QUEUE, False)


def test_a_name_that_the_file_does_not_have_is_refused(bench: Bench) -> None:
    with pytest.raises(UnknownName, match="wrok"):
        migrate(OLD, bench.url, names=["wrok"])


def test_over_amqp_alone_a_queue_with_a_consumer_is_not_touched(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    bench.channel.basic_consume(QUEUE, lambda *_: None)

    [skipped] = migrate(QUORUM, bench.url, names=[QUEUE]).skipped

    assert "--management-url" in skipped.why
    assert is_as(OLD, bench.url)
    assert leftovers(bench, broker) == []


def test_what_a_consumer_holds_is_waited_for(bench: Bench, broker: EmbeddedBroker) -> None:
    put(bench, "held", "other")
    channel = bench.connection.channel()
    channel.basic_qos(prefetch_count=1)
    held: list[int] = []
    channel.basic_consume(QUEUE, lambda _, method, *__: held.append(method.delivery_tag))
    bench.connection.process_data_events(1)
    assert len(held) == 1
    emptying = threading.Event()

    def see(progress: Progress) -> None:
        if progress.step is Step.DRAIN and progress.moved == 1:
            emptying.set()

    results: list[Migration] = []
    thread = threading.Thread(
        target=lambda: results.append(
            migrate(QUORUM, bench.url, names=[QUEUE], management_url=broker.management_url,
                    timeouts=SOON, on_progress=see)
        )
    )  # fmt: skip
    thread.start()
    wait_for(emptying, "the migration takes the other message")
    thread.join(8)
    assert thread.is_alive(), "it did not wait for the message that is held"
    channel.basic_ack(held[0])
    bench.connection.process_data_events(0)
    thread.join(60)

    assert is_as(QUORUM, bench.url)
    assert ids(bench) == ["other"]


def test_a_consumer_that_does_not_give_back_what_it_holds_leaves_the_queue_as_it_was(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    put(bench, "held", "other")
    holder = Bench(bench.url)
    holder.channel.basic_qos(prefetch_count=1)
    holder.channel.basic_consume(QUEUE, lambda *_: None)
    holder.connection.process_data_events(1)

    timeouts = MigrationTimeouts(stall_s=8.0, statistics_age_s=1.0)
    [skipped] = migrate(
        QUORUM, bench.url, names=[QUEUE], management_url=broker.management_url, timeouts=timeouts
    ).skipped
    holder.close()

    assert "do not acknowledge" in skipped.why
    assert is_as(OLD, bench.url)
    assert leftovers(bench, broker) == []
    assert sorted(map(str, ids(bench))) == ["held", "other"]


@pytest.mark.parametrize("by", ["the HTTP API", "a promise"])
def test_what_a_service_that_is_stopping_still_holds_is_waited_for(
    bench: Bench, broker: EmbeddedBroker, by: str
) -> None:
    """It has cancelled its consumer, and its handler still works."""
    put(bench, "held")
    stopping = Bench(bench.url)
    tag = stopping.channel.basic_consume(QUEUE, lambda *_: None)
    stopping.connection.process_data_events(1)
    stopping.channel.basic_cancel(tag)

    is_told = by == "the HTTP API"
    timeouts = (
        MigrationTimeouts(stall_s=9.0) if is_told else MigrationTimeouts(stall_s=3.0, settle_s=60)
    )
    url = broker.management_url if is_told else None
    result = migrate(QUORUM, bench.url, names=[QUEUE], management_url=url, timeouts=timeouts)
    stopping.close()

    assert len(result.skipped) == 1, "it did not wait for the message that is held"
    assert ids(bench) == ["held"]


def test_a_queue_that_is_published_to_directly_all_the_time_is_left_as_it_was(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    stop = threading.Event()
    taken: list[str] = []

    def publish() -> None:
        publishing = Bench(bench.url)
        publishing.channel.confirm_delivery()
        while not stop.wait(0.01):
            properties = pika.BasicProperties(message_id=str(len(taken)), delivery_mode=2)
            publishing.channel.basic_publish("", QUEUE, b"", properties, mandatory=True)
            taken.append(str(len(taken)))
        publishing.close()

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        timeouts = MigrationTimeouts(stall_s=2.0)
        [skipped] = migrate(QUORUM, bench.url, names=[QUEUE], timeouts=timeouts).skipped
    finally:
        stop.set()
        thread.join()

    assert "straight to it" in skipped.why
    assert is_as(OLD, bench.url)
    assert leftovers(bench, broker) == []
    assert sorted(map(str, ids(bench)), key=int) == taken


def test_two_at_once_exclude_each_other(bench: Bench) -> None:
    control = Control(Connection.open(BrokerSettings.of(bench.url), name="tests"))
    assert control.lock(TemporaryNames(QUEUE).lock_queue)

    [skipped] = migrate(QUORUM, bench.url, names=[QUEUE]).skipped

    assert "another process" in skipped.why
    assert is_as(OLD, bench.url)


def test_what_another_process_migrated_between_the_plan_and_the_lock_is_left_alone(
    bench: Bench,
) -> None:
    put(bench, "1")

    def overtake(_: object) -> None:
        migrate(QUORUM, bench.url, names=[QUEUE])

    result = migrate(QUORUM, bench.url, names=[QUEUE], on_plan=overtake)

    [skipped] = result.skipped
    assert (skipped.why, result.has_differences) == ("another process did", False)
    assert ids(bench) == ["1"]


@pytest.mark.parametrize("step", [Step.PARK, Step.REPLACE, Step.CLEAN_UP])
def test_what_was_broken_off_goes_on(bench: Bench, broker: EmbeddedBroker, step: Step) -> None:
    put(bench, "1", "2", "3")
    ends_at(step, bench.url)
    confirming = bench.connection.channel()
    confirming.confirm_delivery()
    parked = pika.BasicProperties(message_id="4")
    confirming.basic_publish("work", "requested", b"", parked, mandatory=True)

    [planned] = migrate(QUORUM, bench.url, names=[QUEUE], dry_run=True).planned
    migrate(QUORUM, bench.url, names=[QUEUE])

    assert planned.unfinished
    assert is_as(QUORUM, bench.url)
    assert leftovers(bench, broker) == []
    assert sorted(map(str, ids(bench))) == ["1", "2", "3", "4"]


def test_set_up_leaves_a_queue_under_migration_to_the_migration(bench: Bench) -> None:
    ends_at(Step.DRAIN, bench.url)

    setup_infrastructure(OLD, bench.url)
    bench.channel.basic_publish("work", "requested", b"")
    bench.wait_for_depth(TemporaryNames(QUEUE).parking_queue, 1)

    assert bench.depth(QUEUE) == 0, "set-up has bound it again, so that messages double"


def test_set_up_does_not_make_a_queue_that_is_being_replaced(bench: Bench) -> None:
    ends_at(Step.DRAIN, bench.url)
    bench.channel.queue_delete(QUEUE)

    with pytest.raises(MissingInfrastructure, match="being migrated"):
        setup_infrastructure(OLD, bench.url)


def test_a_queue_that_another_program_brings_back_as_it_was_is_migrated_all_the_same(
    bench: Bench,
) -> None:
    ends_at(Step.DRAIN, bench.url)
    bench.channel.queue_delete(QUEUE)
    bench.channel.queue_declare(QUEUE, durable=True)

    migrate(QUORUM, bench.url, names=[QUEUE])

    assert is_as(QUORUM, bench.url)


def test_a_definition_that_the_broker_does_not_take_is_noticed_before_anything_is_done(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    put(bench, "1")
    wanted = topology_of(type="quorum", arguments="{x-queue-leader-locator: nowhere}")

    [skipped] = migrate(wanted, bench.url, names=[QUEUE]).skipped

    assert "x-queue-leader-locator" in skipped.why
    assert is_as(OLD, bench.url)
    assert leftovers(bench, broker) == []
    assert ids(bench) == ["1"]


def test_a_queue_that_refuses_what_it_has_no_room_for_gets_its_messages_as_room_comes(
    bench: Bench,
) -> None:
    put(bench, *(str(number) for number in range(20)))
    wanted = topology_of(max_length="5", overflow="reject-publish")
    taken: list[str] = []
    full = threading.Event()

    def see(progress: Progress) -> None:
        if progress.step is Step.REFILL:
            full.set()

    def consume() -> None:
        wait_for(full, "the new queue is there")
        consumer = Bench(bench.url)
        while len(taken) < 20:
            taken.extend(str(one.properties.message_id) for one in consumer.take_all(QUEUE))
        consumer.close()

    thread = threading.Thread(target=consume)
    thread.start()
    migrate(wanted, bench.url, names=[QUEUE], on_progress=see)
    thread.join(30)

    assert sorted(taken, key=int) == [str(number) for number in range(20)]


def test_retry_queues_keep_what_waits_in_them(bench: Bench) -> None:
    waiting = topology_of(retry="{attempts: 3, backoff: [1h]}")
    bench.set_up(waiting)
    bench.put("work.queue.retry.1h", b"", pika.BasicProperties(message_id="waits"))
    changed = topology_of(retry="{attempts: 3, backoff: [1h]}", ttl="2h")

    migrate(changed, bench.url)

    assert ids(bench, "work.queue.retry.1h") == ["waits"]


def test_the_marks_of_a_migration_go_with_it(bench: Bench) -> None:
    control = Control(Connection.open(BrokerSettings.of(bench.url), name="tests"))
    ends_at(Step.PARK, bench.url)
    assert control.has_exchange(MIGRATION_MARK)
    assert control.has_exchange(ingress_name(QUEUE))

    migrate(QUORUM, bench.url, names=[QUEUE])

    assert not control.has_exchange(MIGRATION_MARK)
    assert not control.has_exchange(ingress_name(QUEUE))
