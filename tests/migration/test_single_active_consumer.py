"""A queue whose single active consumer is another: a migration is given nothing, and sees late."""

from __future__ import annotations

import pika
import pytest

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.migration.context import MigrationTimeouts
from attune_mq.migration.migrating import migrate
from attune_mq.migration.report import Progress, Step
from tests.messaging.bench import QUEUE, Bench, topology_of
from tests.migration.bench import SOON, is_as, leftovers

RETRY = f"{QUEUE}.retry.3s"
RETRIES = "{attempts: 3, backoff: [3s]}"
KINDS = {"sac": {"single_active_consumer": "true"}, "plain": {}}


def consumed(bench: Bench) -> list[str | None]:
    """By a consumer: a quorum queue with a single active one takes no ``basic.get``."""
    fresh = Bench(bench.url)
    given: list[str | None] = []
    for method, properties, _ in fresh.channel.consume(QUEUE, inactivity_timeout=1):
        if method is None or properties is None:
            break
        given.append(properties.message_id)
    fresh.close()
    return given


@pytest.mark.parametrize("kind", KINDS)
def test_what_waits_for_a_retry_comes_back_to_the_new_queue(
    bench: Bench, broker: EmbeddedBroker, kind: str
) -> None:
    """Its three seconds end while the migration waits for statistics that are older."""
    old = topology_of(retry=RETRIES, **KINDS[kind])
    new = topology_of(retry=RETRIES, type="quorum", **KINDS[kind])
    bench.channel.queue_delete(QUEUE)
    bench.set_up(old)
    consumer = Bench(bench.url)
    given: list[int] = []
    consumer.channel.basic_consume(QUEUE, lambda _, method, *__: given.append(method.delivery_tag))

    def fail(progress: Progress) -> None:
        """As a consumer does whose handler fails: a copy goes to the retry queue."""
        if progress.step is Step.DRAIN and progress.moved == 0 and not failed:
            failed.append(True)
            bench.put(RETRY, b"", pika.BasicProperties(message_id="retried", delivery_mode=2))

    failed: list[bool] = []
    result = migrate(
        new, bench.url, names=[QUEUE], management_url=broker.management_url,
        timeouts=SOON, on_progress=fail,
    )  # fmt: skip
    consumer.connection.process_data_events(0)
    consumer.close()
    bench.wait_for_depth(QUEUE, 1)

    assert len(result.migrated) == 1
    assert given == []
    assert consumed(bench) == ["retried"]
    assert is_as(new, bench.url)
    assert leftovers(bench, broker) == []


def test_what_the_single_active_consumer_holds_is_waited_for(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    bench.channel.queue_delete(QUEUE)
    bench.set_up(topology_of(**KINDS["sac"]))
    bench.put(QUEUE, b"", pika.BasicProperties(message_id="held", delivery_mode=2))
    consumer = Bench(bench.url)
    consumer.channel.basic_consume(QUEUE, lambda *_: None)
    consumer.connection.process_data_events(1)

    timeouts = MigrationTimeouts(stall_s=9.0, statistics_age_s=1.0)
    result = migrate(
        topology_of(type="quorum", **KINDS["sac"]), bench.url, names=[QUEUE],
        management_url=broker.management_url, timeouts=timeouts,
    )  # fmt: skip
    consumer.close()
    [skipped] = result.skipped

    assert "do not acknowledge" in skipped.why
    assert consumed(bench) == ["held"]
