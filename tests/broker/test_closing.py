"""Closing a connection, whatever goes on on it meanwhile."""

from __future__ import annotations

from attune_mq.broker.amqp import close_quietly, count_consumers, open_connection
from attune_mq.broker.settings import BrokerSettings


def test_a_channel_that_the_broker_closes_meanwhile_does_not_keep_a_connection_open(
    broker_url: str,
) -> None:
    for _ in range(20):  # the broker may answer the one channel before the other
        connection = open_connection(BrokerSettings.of(broker_url), name="tests")
        connection.channel()
        asking = connection.channel()
        count_consumers(asking, "not there", lambda _: None)

        close_quietly(connection)

        assert connection.is_closed
