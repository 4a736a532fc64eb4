"""Declare something, declare it again differently, and compare the broker's word with ours.

``ATTUNE_PROPERTY_EXAMPLES`` says how many cases to try of each; the ordinary run tries few.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pika
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from pika.exceptions import ChannelClosedByBroker

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.replies import Different, parse_reply
from attune_mq.topology.declarations import ExchangeDeclaration, QueueDeclaration
from attune_mq.topology.equivalence import (
    Answer,
    BrokerRules,
    Equal,
    Inequivalent,
    SilentlyIgnored,
    answer_to_exchange,
    answer_to_queue,
)

EXAMPLES = int(os.environ.get("ATTUNE_PROPERTY_EXAMPLES", "120"))
slow_broker = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

ARGUMENTS: dict[str, list[Any]] = {
    "x-message-ttl": [1000, 2**33, "1000", True],
    "x-expires": [3_600_000, 3_600_001],
    "x-dead-letter-exchange": ["", "a", 1],
    "x-dead-letter-routing-key": ["", "k"],
    "x-dead-letter-strategy": ["at-most-once", "at-least-once"],
    "x-max-length": [1, 2],
    "x-max-length-bytes": [1000, 2000],
    "x-max-priority": [1, 5],
    "x-overflow": ["drop-head", "reject-publish"],
    "x-queue-mode": ["lazy", "default"],
    "x-queue-version": [2],
    "x-single-active-consumer": [True, False, "true"],
    "x-delivery-limit": [2, 3],
    "x-quorum-initial-group-size": [1, 3],
    "x-queue-leader-locator": ["client-local", "balanced"],
    "x-consumer-timeout": [60_000, 70_000],
    "x-max-age": ["1D", "2D"],
    "x-stream-max-segment-size-bytes": [1_000_000, 2_000_000],
    "x-stream-filter-size-bytes": [16, 32],
    "x-initial-cluster-size": [1, 2],
    "x-queue-type": ["classic", "quorum", "stream"],
    "x-mesage-ttl": [1, 2],
    "foo": [1, "1", True, None, [1, "a"], {"b": 1}],
}


def some_arguments(most: int) -> st.SearchStrategy[dict[str, Any]]:
    names = st.lists(st.sampled_from(sorted(ARGUMENTS)), max_size=most, unique=True)
    return names.flatmap(
        lambda chosen: st.fixed_dictionaries(
            {name: st.sampled_from(ARGUMENTS[name]) for name in chosen}
        )
    )


@st.composite
def queue_and_change(draw: st.DrawFn) -> tuple[QueueDeclaration, QueueDeclaration]:
    """Two declarations of one queue, most often alike but for a thing or two."""
    name = f"equivalence-{uuid.uuid4()}"
    before = QueueDeclaration(
        name,
        durable=draw(st.booleans()),
        exclusive=draw(st.sampled_from([False, False, False, True])),
        auto_delete=draw(st.sampled_from([False, False, True])),
        arguments=draw(some_arguments(4)),
    )
    kept = {k: v for k, v in before.arguments.items() if draw(st.integers(0, 4))}
    after = QueueDeclaration(
        name,
        durable=before.durable if draw(st.integers(0, 5)) else not before.durable,
        exclusive=before.exclusive if draw(st.integers(0, 5)) else not before.exclusive,
        auto_delete=before.auto_delete if draw(st.integers(0, 5)) else not before.auto_delete,
        arguments={**kept, **draw(some_arguments(2))},
    )
    return before, after


@st.composite
def exchange_and_change(draw: st.DrawFn) -> tuple[ExchangeDeclaration, ExchangeDeclaration]:
    name = f"equivalence-{uuid.uuid4()}"
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
    event(type(answer).__name__)
    match answer:
        case Equal() | SilentlyIgnored():
            assert said is None
        case Inequivalent(differences):
            assert isinstance(said, Different)
            assert said.field == differences[0].field


@slow_broker
@given(pair=queue_and_change())
def test_the_answer_to_a_changed_queue_is_foretold(
    declaring: Declaring, pair: tuple[QueueDeclaration, QueueDeclaration]
) -> None:
    before, after = pair
    assume(declaring.queue(before) is None)

    said = declaring.queue(after)

    declaring.delete(before.name)
    answer = answer_to_queue(after, before, BrokerRules(declaring.version), own=True)
    assert_foretold(answer, said)


@slow_broker
@given(pair=exchange_and_change())
def test_the_answer_to_a_changed_exchange_is_foretold(
    declaring: Declaring, pair: tuple[ExchangeDeclaration, ExchangeDeclaration]
) -> None:
    before, after = pair
    assume(declaring.exchange(before) is None)

    said = declaring.exchange(after)

    declaring.delete(before.name)
    assert_foretold(answer_to_exchange(after, before), said)
