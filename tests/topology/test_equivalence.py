"""What the broker is predicted to answer, by what RabbitMQ 3.10, 4.0 and 4.3 were heard to say."""

from __future__ import annotations

from typing import Any

import pytest

from attune_mq.topology.arguments import Version, release
from attune_mq.topology.declarations import (
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
)
from attune_mq.topology.equivalence import (
    Answer,
    BrokerRules,
    Difference,
    Equal,
    Inequivalent,
    SilentlyIgnored,
    answer_to_exchange,
    answer_to_queue,
    binding_identity,
    written,
)

OLD, MIDDLE, NEW = BrokerRules("3.10.8"), BrokerRules("4.0.5"), BrokerRules("4.3.6")
ALL = pytest.mark.parametrize("rules", [OLD, MIDDLE, NEW], ids=lambda rules: rules.version)


def queue(durable: bool = True, exclusive: bool = False, **arguments: Any) -> QueueDeclaration:
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    return QueueDeclaration("q", durable=durable, exclusive=exclusive, arguments=named)


def binding(**arguments: Any) -> BindingDeclaration:
    return BindingDeclaration("source", "destination", "queue", "key", arguments)


def inequivalent(field: str, expected: Any, found: Any) -> Answer:
    return Inequivalent((Difference(field, expected, found),))


@ALL
def test_a_queue_declared_as_it_is_is_equal(rules: BrokerRules) -> None:
    same = queue(x_message_ttl=1000, x_dead_letter_exchange="dlx")
    assert answer_to_queue(same, same, rules) == Equal()


@ALL
@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        ({"x_message_ttl": 1000}, {"x_message_ttl": 2000}, "x-message-ttl"),
        ({"x_message_ttl": 1000}, {}, "x-message-ttl"),
        ({}, {"x_message_ttl": 1000}, "x-message-ttl"),
        ({"x_message_ttl": 1000}, {"x_message_ttl": "1000"}, "x-message-ttl"),
        ({"x_max_length": 1}, {"x_max_length": True}, "x-max-length"),
        (
            {"x_dead_letter_exchange": "a"},
            {"x_dead_letter_exchange": "b"},
            "x-dead-letter-exchange",
        ),
        ({"x_queue_type": "classic"}, {"x_queue_type": "quorum"}, "x-queue-type"),
        ({}, {"x_queue_type": "quorum"}, "x-queue-type"),
        ({"x_queue_type": "quorum"}, {}, "x-queue-type"),
        ({}, {"x_queue_mode": "lazy"}, "x-queue-mode"),
        ({}, {"x_queue_version": 2}, "x-queue-version"),
        ({}, {"x_single_active_consumer": True}, "x-single-active-consumer"),
    ],
)
def test_a_changed_argument_that_the_broker_knows_is_a_conflict(
    rules: BrokerRules, before: dict[str, Any], after: dict[str, Any], field: str
) -> None:
    answer = answer_to_queue(queue(**after), queue(**before), rules)

    assert isinstance(answer, Inequivalent)
    assert answer.differences[0].field == field


@ALL
def test_no_type_and_classic_are_equal_where_classic_is_the_default(rules: BrokerRules) -> None:
    assert answer_to_queue(queue(), queue(x_queue_type="classic"), rules) == Equal()
    assert answer_to_queue(queue(x_queue_type="classic"), queue(), rules) == Equal()


def test_where_quorum_is_the_default_no_type_is_quorum_and_classic_a_conflict() -> None:
    rules = BrokerRules("4.0.5", default_queue_type="quorum")
    existing = queue(x_queue_type="quorum")

    assert answer_to_queue(queue(), existing, rules) == Equal()
    explicit = answer_to_queue(queue(x_queue_type="classic"), existing, rules)
    assert explicit == inequivalent("x-queue-type", "classic", "quorum")


def test_an_exclusive_queue_is_classic_whatever_the_default() -> None:
    rules = BrokerRules("4.0.5", default_queue_type="quorum")
    mine = queue(exclusive=True)
    assert answer_to_queue(mine, mine, rules, own=True) == Equal()


@ALL
@pytest.mark.parametrize("name", ["x-mesage-ttl", "x-foo", "foo"])
def test_a_changed_argument_that_the_broker_does_not_know_is_ignored(
    rules: BrokerRules, name: str
) -> None:
    before, after = QueueDeclaration("q"), QueueDeclaration("q", arguments={name: 1})

    answer = answer_to_queue(after, before, rules)

    assert answer == SilentlyIgnored((Difference(name, 1, None),))


@ALL
def test_an_argument_of_another_queue_type_is_ignored_once_the_queue_is_there(
    rules: BrokerRules,
) -> None:
    answer = answer_to_queue(queue(x_delivery_limit=5), queue(), rules)
    assert answer == SilentlyIgnored((Difference("x-delivery-limit", 5, None),))


def test_an_argument_is_compared_by_the_versions_that_know_it() -> None:
    before, after = queue(x_queue_type="quorum"), queue(x_queue_type="quorum", x_consumer_timeout=1)

    assert isinstance(answer_to_queue(after, before, MIDDLE), SilentlyIgnored)
    assert isinstance(answer_to_queue(after, before, NEW), Inequivalent)


def test_all_differences_are_named_with_the_one_that_the_broker_names_first() -> None:
    before = queue(x_message_ttl=1, x_max_length=1)
    after = queue(durable=False, x_message_ttl=2, x_max_length=2, x_expires=5)

    answer = answer_to_queue(after, before, OLD)

    assert isinstance(answer, Inequivalent)
    fields = [difference.field for difference in answer.differences]
    assert fields == ["durable", "x-expires", "x-message-ttl", "x-max-length"]


def test_an_exclusive_queue_is_locked_to_every_other_connection() -> None:
    mine = queue(exclusive=True)

    answer = answer_to_queue(mine, mine, OLD)

    assert isinstance(answer, Inequivalent)
    assert answer.differences[0].field == "exclusive"


def test_an_exclusive_queue_is_transient_even_if_declared_durable() -> None:
    asked, stored = queue(durable=True, exclusive=True), queue(durable=False, exclusive=True)
    assert answer_to_queue(asked, stored, OLD, own=True) == Equal()


@pytest.mark.parametrize(
    ("after", "field", "expected", "found"),
    [
        (ExchangeDeclaration("x", "topic"), "type", "topic", "direct"),
        (ExchangeDeclaration("x", "direct", durable=False), "durable", False, True),
        (ExchangeDeclaration("x", "direct", auto_delete=True), "auto_delete", True, False),
        (ExchangeDeclaration("x", "direct", internal=True), "internal", True, False),
        (
            ExchangeDeclaration("x", "direct", arguments={"alternate-exchange": "a"}),
            "alternate-exchange",
            "a",
            None,
        ),
    ],
)
def test_a_changed_exchange_is_a_conflict(
    after: ExchangeDeclaration, field: str, expected: Any, found: Any
) -> None:
    answer = answer_to_exchange(after, ExchangeDeclaration("x", "direct"))
    assert answer == inequivalent(field, expected, found)


def test_any_other_argument_of_an_exchange_is_ignored() -> None:
    before = ExchangeDeclaration("x", "direct", arguments={"hash-header": "a"})
    after = ExchangeDeclaration("x", "direct", arguments={"hash-header": "b"})

    answer = answer_to_exchange(after, before)

    assert answer == SilentlyIgnored((Difference("hash-header", "b", "a"),))


def test_a_binding_is_told_apart_by_its_arguments_but_not_by_their_order() -> None:
    assert binding_identity(binding(a=1, b=2)) == binding_identity(binding(b=2, a=1))
    assert binding_identity(binding(a=1)) != binding_identity(binding(a=True))
    assert binding_identity(binding(a=1)) != binding_identity(binding())
    assert binding_identity(binding(a=[1])) == binding_identity(binding(a=(1,)))


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("3.10.8", (3, 10)),
        ("3.12", (3, 12)),
        ("3.8.10+1551.gaf6c358.dirty", (3, 8)),
        ("4.1.0-rc.2", (4, 1)),
    ],
)
def test_versions_are_read_as_people_have_them(version: str, expected: Version) -> None:
    assert release(version) == expected


def test_a_version_that_cannot_be_read_is_taken_for_the_newest() -> None:
    assert "x-consumer-timeout" in BrokerRules("dev").compared_arguments("quorum")


def test_values_are_written_as_the_broker_writes_them() -> None:
    assert [written(value) for value in (None, True, False, 1000, "lazy")] == [
        "none",
        "true",
        "false",
        "1000",
        "lazy",
    ]
