"""The plain cases, with the fixtures of pytest-rabbitmq as any user of that plugin has them."""

from __future__ import annotations

import pika
import pytest
from pika.exceptions import UnroutableError
from pytest_rabbitmq.factories.executor import RabbitMqExecutor


def test_a_message_comes_back_from_the_queue_it_was_sent_to(
    rabbitmq: pika.BlockingConnection,
) -> None:
    channel = rabbitmq.channel()
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True).method.queue

    channel.basic_publish("", queue, b"hello", mandatory=True)

    assert channel.basic_get(queue, auto_ack=True)[2] == b"hello"


def test_a_mandatory_message_that_no_queue_takes_is_returned(
    rabbitmq: pika.BlockingConnection,
) -> None:
    channel = rabbitmq.channel()
    channel.confirm_delivery()

    with pytest.raises(UnroutableError):
        channel.basic_publish("amq.direct", "nobody", b"hello", mandatory=True)


def test_the_node_of_the_plugin_answers_rabbitmqctl(rabbitmq_proc: RabbitMqExecutor) -> None:
    assert "amq.topic" in rabbitmq_proc.list_exchanges()
