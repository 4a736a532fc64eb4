"""Policies that hold for the queues of a migration, or for what it makes."""

from __future__ import annotations

from typing import Any

import pytest

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.migration.context import MigrationTimeouts
from attune_mq.migration.migrating import migrate
from attune_mq.migration.policies import Policies, Policy
from attune_mq.migration.report import CountMismatch, Progress, Step
from attune_mq.migration.temporary_topology import MIRRORED, TemporaryNames
from attune_mq.topology.declarations import QueueDeclaration
from tests.messaging.bench import QUEUE, Bench, topology_of
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
from tests.migration.policy import policy

NAMES = [str(number) for number in range(100)]
DEADLY: dict[str, int] = {"message-ttl": 0, "expires": 1, "max-length": 1, "max-length-bytes": 10}
"""Each costs messages at once."""


@pytest.mark.parametrize("limit", DEADLY)
@pytest.mark.parametrize("wanted", [QUORUM, topology_of(ttl="1h")], ids=["quorum", "classic"])
def test_a_policy_for_all_names_that_begin_like_the_queue_costs_no_message(
    bench: Bench, broker: EmbeddedBroker, limit: str, wanted: Any
) -> None:
    put(bench, *NAMES)

    with policy(bench, broker, {limit: DEADLY[limit]}, pattern=r"^work\.queue\.[^d]"):
        [migrated] = migrate(wanted, bench.url, names=[QUEUE]).migrated

    assert ids(bench) == NAMES
    assert migrated.unseen == ("policies", "unacknowledged")  # type: ignore[union-attr]


def test_copies_that_the_mirror_queue_drops_are_no_dead_letters_of_a_policy(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    names = [str(number) for number in range(MIRRORED + 50)]
    put(bench, *names)
    bench.channel.queue_declare("dead")

    letters = {"dead-letter-exchange": "", "dead-letter-routing-key": "dead"}
    with policy(bench, broker, letters, pattern="^work"):
        migrate(QUORUM, bench.url, names=[QUEUE])

    assert ids(bench) == names
    assert ids(bench, "dead") == []


@pytest.mark.parametrize("kind", ["policies", "operator-policies"])
@pytest.mark.parametrize("limit", DEADLY)
def test_a_policy_that_holds_for_the_temporary_queues_is_refused_before_anything_is_changed(
    bench: Bench, broker: EmbeddedBroker, limit: str, kind: str
) -> None:
    put(bench, *NAMES)
    before = everything(bench, broker)

    with policy(bench, broker, {limit: DEADLY[limit]}, kind=kind):
        [skipped] = migrate(
            QUORUM, bench.url, names=[QUEUE], management_url=broker.management_url
        ).skipped

    assert skipped.differs
    assert "policy 'p'" in skipped.why
    assert limit in skipped.why
    assert repr(everything(bench, broker)) == repr(before)
    assert ids(bench) == NAMES


def test_messages_that_expire_by_a_policy_that_nobody_sees_are_not_reported_as_migrated(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    put(bench, *NAMES)

    with policy(bench, broker, {"message-ttl": 0}, pattern=r"\.moved$"):
        for _ in range(2):
            with pytest.raises(CountMismatch) as caught:
                migrate(QUORUM, bench.url, names=[QUEUE])
            assert caught.value.where == TemporaryNames(QUEUE).staging_queue

    assert is_as(OLD, bench.url)


@pytest.mark.parametrize("limit", ["max-length", "max-length-bytes"])
def test_a_policy_that_nobody_sees_stops_the_migration_and_costs_no_message(
    bench: Bench, broker: EmbeddedBroker, limit: str
) -> None:
    put(bench, *NAMES)

    with policy(bench, broker, {limit: DEADLY[limit]}, pattern=r"\.moved$"):
        for _ in range(2):
            with pytest.raises(CountMismatch) as caught:
                migrate(QUORUM, bench.url, names=[QUEUE])

    assert caught.value.where == TemporaryNames(QUEUE).staging_queue
    assert is_as(OLD, bench.url)
    migrate(QUORUM, bench.url, names=[QUEUE])
    assert sorted(map(str, ids(bench))) == sorted(NAMES)


def test_while_a_migration_waits_no_policy_lets_its_classic_queues_expire(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    put(bench, *NAMES)
    bench.channel.basic_qos(prefetch_count=1)
    bench.channel.basic_consume(QUEUE, lambda *_: None)
    bench.connection.process_data_events(0.5)

    with policy(bench, broker, {"expires": 1500}):
        timeouts = MigrationTimeouts(settle_s=4)
        migrate(topology_of(ttl="1h"), bench.url, names=[QUEUE], timeouts=timeouts)

    assert ids(bench) == NAMES[1:], "the first was with a consumer for longer than was promised"


def test_an_operator_policy_that_comes_meanwhile_leaves_the_queue_as_it_was(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    put(bench, *NAMES)
    late = policy(bench, broker, {"message-ttl": 3_600_000}, kind="operator-policies")

    def see(progress: Progress) -> None:
        if progress.step is Step.DRAIN and progress.moved == len(NAMES):
            late.__enter__()

    [skipped] = migrate(
        QUORUM, bench.url, names=[QUEUE], management_url=broker.management_url,
        timeouts=SOON, on_progress=see,
    ).skipped  # fmt: skip
    late.__exit__(None, None, None)

    assert "operator policy 'p'" in skipped.why
    assert is_as(OLD, bench.url)
    assert leftovers(bench, broker) == []
    assert ids(bench) == NAMES


def test_a_broken_off_migration_refuses_an_operator_policy_as_well(
    bench: Bench, broker: EmbeddedBroker
) -> None:
    put(bench, *NAMES)
    ends_at(Step.REFILL, bench.url)

    with policy(bench, broker, {"expires": 3_600_000}, kind="operator-policies"):
        [skipped] = migrate(
            QUORUM, bench.url, names=[QUEUE], management_url=broker.management_url
        ).skipped

    assert "expires" in skipped.why
    migrate(QUORUM, bench.url, names=[QUEUE])
    assert ids(bench) == NAMES


# Which policy holds.

CLASSIC = QueueDeclaration(
    "orders.moved", arguments={"x-queue-type": "classic", "x-max-length": 50}
)


def of(name: str, **given: Any) -> Policy:
    plain: dict[str, Any] = {
        "pattern": "^orders", "apply_to": "queues", "priority": 0,
        "definition": {"max-length": 5}, "is_operators": False,
    }  # fmt: skip
    return Policy(name, **{**plain, **given})


@pytest.mark.parametrize(
    ("policies", "holds"),
    [
        ((of("a"),), "a"),
        ((of("a", pattern="^orders$"),), None),
        ((of("a", pattern=".*"),), "a"),
        ((of("a", pattern="(?<"),), "a"),
        ((of("a", apply_to="exchanges"),), None),
        ((of("a", apply_to="all"),), "a"),
        ((of("a", apply_to="classic_queues"),), "a"),
        ((of("a", apply_to="quorum_queues"),), None),
        ((of("a"), of("b", priority=1)), "b"),
        ((of("a"), of("b", priority=1, definition={"max-age": "1h"})), None),
        ((of("a"), of("b", definition={"max-length": 4}, is_operators=True)), "b"),
        ((of("a", definition={"max-length": 4}), of("b", is_operators=True)), "a"),
        ((of("a", definition={"max-length": 99}),), None),
    ],
)
def test_the_policy_that_holds_is_the_one_that_rabbitmq_would_choose(
    policies: tuple[Policy, ...], holds: str | None
) -> None:
    limit = Policies(policies).limit(CLASSIC, "max-length")

    assert (limit and limit.policy and limit.policy.name) == holds


@pytest.mark.parametrize(("kind", "disturbs"), [("classic", False), ("quorum", True)])
def test_a_delivery_limit_disturbs_quorum_queues_alone(kind: str, disturbs: bool) -> None:
    queue = QueueDeclaration("orders", arguments={"x-queue-type": kind, "x-delivery-limit": 99})
    policies = Policies([of("a", definition={"delivery-limit": 3})])

    assert bool(list(policies.unsafe(queue))) is disturbs


@pytest.mark.parametrize(
    ("is_operators", "disturbs"), [(False, False), (True, True)], ids=["policy", "operator policy"]
)
def test_what_is_no_limit_disturbs_where_no_argument_beats_it(
    is_operators: bool, disturbs: bool
) -> None:
    arguments = {"x-overflow": "reject-publish", "x-dead-letter-exchange": ""}
    queue = QueueDeclaration("orders", arguments=arguments)
    definition = {"overflow": "drop-head", "dead-letter-exchange": "dlx"}
    policies = Policies([of("a", definition=definition, is_operators=is_operators)])

    assert bool(list(policies.unsafe(queue))) is disturbs


def test_what_a_policy_takes_from_the_new_queue_alone_is_named() -> None:
    old = QueueDeclaration("orders", arguments={"x-queue-type": "classic"})
    new = QueueDeclaration("orders", arguments={"x-queue-type": "quorum"})
    refusing = QueueDeclaration(
        "orders", arguments={**new.arguments, "x-overflow": "reject-publish"}
    )
    policies = Policies([of("p", apply_to="quorum_queues")])

    [why] = policies.tightened(old, new)

    assert why == (
        "policy 'p' (pattern '^orders') would set max-length to 5 on the new queue, and the old "
        "one has no such limit"
    )
    assert list(policies.tightened(new, new)) == []
    assert list(policies.tightened(old, refusing)) == []
