"""Declare something, declare it again differently, and compare the broker's word with ours.

``ATTUNE_PROPERTY_EXAMPLES`` says how many cases to try of each; the ordinary run tries few.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pika
import pytest
from hypothesis import HealthCheck, assume, event, given, settings, strategies as st
from pika.exceptions import ChannelClosedByBroker

from attune_mq.broker import EmbeddedBroker
from attune_mq.broker.replies import Different, parse_reply
from attune_mq.topology import (
    Answer,
    BrokerRules,
    Equal,
    ExchangeDeclaration,
    Inequivalent,
    QueueDeclaration,
    SilentlyIgnored,
    answer_to_exchange,
    answer_to_queue,
)
from tests.administration import Administration

EXAMPLES = int(os.environ.get("ATTUNE_PROPERTY_EXAMPLES", "80"))
slow_broker = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

VALUES: dict[str, list[Any]] = {
    "x-message-ttl": [1000, 2**33],
    "x-expires": [3_600_000, 3_600_001],
    "x-dead-letter-exchange": ["", "a"],
    "x-dead-letter-strategy": ["at-most-once", "at-least-once"],
    "x-max-length": [1, 2],
    "x-max-length-bytes": [1000, 2000],
    "x-max-priority": [1, 5],
    "x-overflow": ["drop-head", "reject-publish"],
    "x-queue-mode": ["lazy", "default"],
    "x-queue-version": [2],
    "x-single-active-consumer": [True, False],
    "x-delivery-limit": [2, 3],
    "x-quorum-initial-group-size": [1, 3],
    "x-queue-leader-locator": ["client-local", "balanced"],
    "x-consumer-timeout": [60_000, 70_000],
    "x-max-age": ["1D", "2D"],
    "x-stream-max-segment-size-bytes": [1_000_000, 2_000_000],
    "x-stream-filter-size-bytes": [16, 32],
    "x-initial-cluster-size": [1, 2],
    "x-mesage-ttl": [1, 2],
    "foo": [1, "1", True, None, [1, "a"], {"b": 1}],
}
"""Of every argument some values with which a queue can be made."""
WRONG: dict[str, list[Any]] = {
    "x-message-ttl": ["1000", True, None],
    "x-dead-letter-exchange": [1],
    "x-dead-letter-routing-key": ["", "k"],
    "x-single-active-consumer": ["true", 1],
    "x-max-length": [True, "1"],
    "x-queue-type": ["classic", "quorum", "stream", "bogus"],
}
"""Some that only a queue which is there already does not mind, or compares."""


def some_of(values: dict[str, list[Any]], most: int) -> st.SearchStrategy[dict[str, Any]]:
    names = st.lists(st.sampled_from(sorted(values)), max_size=most, unique=True)
    return names.flatmap(
        lambda chosen: st.fixed_dictionaries(
            {name: st.sampled_from(values[name]) for name in chosen}
        )
    )


def makeable(rules: BrokerRules) -> st.SearchStrategy[QueueDeclaration]:
    """Declarations of which the broker takes nearly all."""

    def arguments(queue_type: str | None) -> st.SearchStrategy[dict[str, Any]]:
        known = rules.compared_arguments(queue_type or rules.default_queue_type)
        values = {
            name: VALUES[name]
            for name in VALUES
            if name in known or name in ("foo", "x-mesage-ttl")
        }
        typed = {} if queue_type is None else {"x-queue-type": queue_type}
        return some_of(values, 4).map(lambda chosen: typed | chosen)

    def declaration(queue_type: str | None) -> st.SearchStrategy[QueueDeclaration]:
        transient = st.booleans() if queue_type == "classic" else st.just(False)
        return st.builds(
            QueueDeclaration,
            name=st.builds(lambda: f"equal-{uuid.uuid4().hex[:12]}"),
            durable=transient.map(lambda is_transient: not is_transient),
            exclusive=transient,
            auto_delete=transient,
            arguments=arguments(queue_type),
        )

    return st.sampled_from([None, "classic", "quorum", "stream"]).flatmap(declaration)


@st.composite
def queue_and_change(
    draw: st.DrawFn, rules: BrokerRules
) -> tuple[QueueDeclaration, QueueDeclaration]:
    """Two declarations of one queue, most often alike but for a thing or two."""
    before = draw(makeable(rules))

    def flag(value: bool) -> bool:
        return value if draw(st.integers(0, 7)) else not value

    arguments = {k: v for k, v in before.arguments.items() if draw(st.integers(0, 5))}
    for name in [name for name in arguments if name in VALUES and draw(st.booleans())]:
        arguments[name] = draw(st.sampled_from(VALUES[name] + WRONG.get(name, [])))
    after = QueueDeclaration(
        before.name,
        durable=flag(before.durable),
        exclusive=flag(before.exclusive),
        auto_delete=flag(before.auto_delete),
        arguments={**arguments, **draw(some_of({**VALUES, **WRONG}, 2) | some_of(VALUES, 1))},
    )
    return before, after


@st.composite
def exchange_and_change(draw: st.DrawFn) -> tuple[ExchangeDeclaration, ExchangeDeclaration]:
    name = f"equal-{uuid.uuid4().hex[:12]}"
    types = st.sampled_from(["direct", "topic", "fanout", "headers"])
    arguments = st.fixed_dictionaries(
        {},
        optional={
            "alternate-exchange": st.sampled_from(["", "a", "b"]),
            "x-foo": st.sampled_from([1, 2]),
        },
    )

    def flag(value: bool) -> bool:
        return value if draw(st.integers(0, 5)) else not value

    before = ExchangeDeclaration(
        name,
        draw(types),
        durable=draw(st.booleans()),
        auto_delete=draw(st.booleans()),
        internal=draw(st.booleans()),
        arguments=draw(arguments),
    )
    after = ExchangeDeclaration(
        name,
        before.type if draw(st.integers(0, 5)) else draw(types),
        durable=flag(before.durable),
        auto_delete=flag(before.auto_delete),
        internal=flag(before.internal),
        arguments=before.arguments if draw(st.booleans()) else draw(arguments),
    )
    return before, after


class Declaring:
    """One connection on which a refused declaration does no harm to the next."""

    def __init__(self, url: str, version: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        self.version = version

    def queue(self, queue: QueueDeclaration) -> Different | str | None:
        return self._said(
            lambda: self._channel.queue_declare(
                queue.name,
                durable=queue.durable,
                exclusive=queue.exclusive,
                auto_delete=queue.auto_delete,
                arguments=dict(queue.arguments),
            )
        )

    def exchange(self, exchange: ExchangeDeclaration) -> Different | str | None:
        return self._said(
            lambda: self._channel.exchange_declare(
                exchange.name,
                exchange.type,
                durable=exchange.durable,
                auto_delete=exchange.auto_delete,
                internal=exchange.internal,
                arguments=dict(exchange.arguments),
            )
        )

    def delete(self, name: str) -> None:
        self._channel.queue_delete(name)
        self._channel.exchange_delete(name)

    def close(self) -> None:
        self._connection.close()

    def _said(self, declare: Any) -> Different | str | None:
        """Nothing when the broker agreed; what is different; else what else it said."""
        try:
            declare()
        except ChannelClosedByBroker as error:
            self._channel = self._connection.channel()
            reply = parse_reply(error.reply_code, error.reply_text)
            return reply if isinstance(reply, Different) else error.reply_text
        return None


@pytest.fixture
def declaring(broker: EmbeddedBroker, broker_url: str) -> Iterator[Declaring]:
    one = Declaring(broker_url, broker.version)
    yield one
    one.close()


def assert_foretold(answer: Answer, said: Different | str | None) -> None:
    match answer:
        case Equal() | SilentlyIgnored():
            assert said is None
        case Inequivalent(differences):
            assert isinstance(said, Different)
            assert said.field == differences[0].field


def assert_queues_foretold(declaring: Declaring, data: st.DataObject, rules: BrokerRules) -> None:
    before, after = data.draw(queue_and_change(rules))
    assume(declaring.queue(before) is None)

    said = declaring.queue(after)

    declaring.delete(before.name)
    typed = {**before.arguments, "x-queue-type": rules.queue_type(before)}
    stored = replace(before, arguments=typed)  # as the HTTP API shows it
    answer = answer_to_queue(after, stored, rules, own=True)
    event(type(answer).__name__)
    assert_foretold(answer, said)


@slow_broker
@given(data=st.data())
def test_the_answer_to_a_changed_queue_is_foretold(
    declaring: Declaring, data: st.DataObject
) -> None:
    assert_queues_foretold(declaring, data, BrokerRules(declaring.version))


@pytest.mark.parametrize("queue_type", ["classic", "quorum", "stream"])
def test_every_argument_is_compared_in_the_order_that_is_foretold(
    declaring: Declaring, queue_type: str
) -> None:
    typed = {"x-queue-type": queue_type}
    declaring.queue(QueueDeclaration("q", arguments=typed))
    compared = BrokerRules(declaring.version).compared_arguments(queue_type)

    for index, name in enumerate(compared):
        changed = dict.fromkeys(compared[index:], "changed")
        said = declaring.queue(QueueDeclaration("q", arguments=typed | changed))
        assert isinstance(said, Different), name
        assert said.field == name


@pytest.mark.parametrize("queue_type", ["classic", "quorum", "stream"])
def test_no_other_argument_is_compared(declaring: Declaring, queue_type: str) -> None:
    typed = {"x-queue-type": queue_type}
    declaring.queue(QueueDeclaration("q", arguments=typed))
    rules = BrokerRules(declaring.version)
    names = {*VALUES, *WRONG} - set(rules.compared_arguments(queue_type))
    assert len(names) > 5

    for name in names:
        assert declaring.queue(QueueDeclaration("q", arguments=typed | {name: "new"})) is None


@pytest.mark.parametrize(("there", "equal"), [(5, 5), (5, "5"), (1, True), (2**40, 2**40)])
def test_numbers_are_compared_by_value_but_not_with_texts_and_booleans(
    declaring: Declaring, there: int, equal: Any
) -> None:
    before = QueueDeclaration("q", arguments={"x-max-length": there})
    after = QueueDeclaration("q", arguments={"x-max-length": equal})
    declaring.queue(before)

    said = declaring.queue(after)

    assert_foretold(answer_to_queue(after, before, BrokerRules(declaring.version)), said)


@pytest.fixture
def declaring_where_quorum_is_the_default(broker: EmbeddedBroker) -> Iterator[Declaring]:
    with Administration(broker).vhost_with_default_queue_type("quorum") as url:
        one = Declaring(url, broker.version)
        yield one
        one.close()


@settings(slow_broker, max_examples=max(EXAMPLES // 4, 20))
@given(data=st.data())
def test_the_answer_is_foretold_where_quorum_is_the_default_type(
    declaring_where_quorum_is_the_default: Declaring, data: st.DataObject
) -> None:
    declaring = declaring_where_quorum_is_the_default
    assert_queues_foretold(declaring, data, BrokerRules(declaring.version, "quorum"))


@slow_broker
@given(pair=exchange_and_change())
def test_the_answer_to_a_changed_exchange_is_foretold(
    declaring: Declaring, pair: tuple[ExchangeDeclaration, ExchangeDeclaration]
) -> None:
    before, after = pair
    assume(declaring.exchange(before) is None)

    said = declaring.exchange(after)

    declaring.delete(before.name)
    answer = answer_to_exchange(after, before)
    event(type(answer).__name__)
    assert_foretold(answer, said)
