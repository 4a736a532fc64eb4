"""Closing a connection, whatever goes on on it meanwhile."""

from __future__ import annotations

import os

import pytest
from attune_mq.amqp.connecting import abandon, close_quietly, count_queue, open_connection
from pika.exceptions import AMQPError

from attune_mq.amqp.pika_link import DirectConnection
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.errors import ConsumeError


def test_a_channel_that_the_broker_closes_meanwhile_does_not_keep_a_connection_open(
    broker_url: str,
) -> None:
    for _ in range(20):  # the broker may answer the one channel before the other
        connection = open_connection(BrokerSettings.of(broker_url), name="tests")
        connection.channel()
        asking = connection.channel()
        count_queue(asking, "not there", lambda *_: None)

        close_quietly(connection)

        assert connection.is_closed


def test_what_is_called_back_while_a_connection_closes_keeps_it_neither_open_nor_ends_its_thread(
    broker_url: str,
) -> None:
    """A consumer's thread ended for good when its queue was deleted while a handler finished: its
    acknowledgement was still to be written, and found the channel closed."""
    settings = BrokerSettings(urls=(broker_url,))
    connection = open_connection(settings, name="tests", inner=DirectConnection)
    connection.channel()

    def acknowledge() -> None:
        raise ConsumeError("the broker closed the channel")

    DirectConnection.of(connection).call_soon(acknowledge)
    close_quietly(connection)

    assert connection.is_closed


def test_a_connection_that_was_given_up_holds_no_descriptor(broker_url: str) -> None:
    """Neither its socket nor what its loop is made of; none of its calls told of the loss."""
    before = descriptors()
    settings = BrokerSettings(urls=(broker_url,))
    connection = open_connection(settings, name="tests", inner=DirectConnection)
    abandon(connection, "it does not answer")
    with pytest.raises(AMQPError):
        DirectConnection.turn(connection)

    close_quietly(connection)
    close_quietly(connection)

    assert descriptors() == before


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))
