"""The other clients of Python, each as its own documentation uses it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from benchmarks.clients.measuring import (
    EXCHANGE,
    ROUTING_KEY,
    Client,
    PlainEnvelope,
    Stopwatch,
    Task,
    Timing,
    body,
)

IN_FLIGHT = 500


def aio_pika_consume(task: Task) -> Timing:
    import aio_pika

    async def main() -> Timing:
        connection = await aio_pika.connect(task.url)
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=task.prefetch)
        queue = await channel.get_queue(task.queue)
        watch, taken, done = Stopwatch(), 0, asyncio.Event()

        async def on_message(message: Any) -> None:
            nonlocal taken
            if not taken:
                watch.start()
            PlainEnvelope.model_validate_json(message.body)
            await message.ack()
            taken += 1
            if taken == task.messages:
                done.set()

        await queue.consume(on_message)
        await done.wait()
        timing = watch.stop(task.messages)
        await connection.close()
        return timing

    return asyncio.run(main())


def aio_pika_publish(task: Task) -> Timing:
    import aio_pika

    async def main() -> Timing:
        connection = await aio_pika.connect(task.url)
        channel = await connection.channel(publisher_confirms=True)
        exchange = await channel.get_exchange(EXCHANGE, ensure=False)
        permits = asyncio.Semaphore(IN_FLIGHT)

        async def send(number: int) -> None:
            async with permits:
                message = aio_pika.Message(
                    body(number),
                    content_type="application/json",
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    message_id=str(number),
                    correlation_id=str(number),
                )
                await exchange.publish(message, ROUTING_KEY, mandatory=True)

        watch = Stopwatch()
        watch.start()
        pending: list[Coroutine[Any, Any, None]] = [send(number) for number in range(task.messages)]
        await asyncio.gather(*pending)
        timing = watch.stop(task.messages)
        await connection.close()
        return timing

    return asyncio.run(main())


def faststream_consume(task: Task) -> Timing:
    from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

    logging.disable(logging.WARNING)

    async def main() -> Timing:
        broker = RabbitBroker(
            task.url, default_channel=Channel(prefetch_count=task.prefetch), logger=None
        )
        watch, taken, done = Stopwatch(), 0, asyncio.Event()

        async def on_message(message: PlainEnvelope) -> None:
            nonlocal taken
            if not taken:
                watch.start()
            taken += 1
            if taken == task.messages:
                done.set()

        queue = RabbitQueue(task.queue, durable=True, declare=False)
        broker.subscriber(queue)(on_message)
        await broker.start()
        await done.wait()
        timing = watch.stop(task.messages)
        await asyncio.sleep(0.2)  # for the last acknowledgements
        await broker.stop()
        return timing

    return asyncio.run(main())


def amqpstorm_consume(task: Task) -> Timing:
    import amqpstorm

    with amqpstorm.UriConnection(task.url) as connection, connection.channel() as channel:
        channel.basic.qos(task.prefetch)
        watch, taken = Stopwatch(), 0

        def on_message(message: Any) -> None:
            nonlocal taken
            if not taken:
                watch.start()
            PlainEnvelope.model_validate_json(message.body)
            message.ack()
            taken += 1
            if taken == task.messages:
                channel.stop_consuming()

        channel.basic.consume(on_message, task.queue)
        channel.start_consuming()
        return watch.stop(task.messages)


def amqpstorm_publish(task: Task) -> Timing:
    import amqpstorm

    with amqpstorm.UriConnection(task.url) as connection, connection.channel() as channel:
        channel.confirm_deliveries()
        watch = Stopwatch()
        watch.start()
        for number in range(task.messages):
            properties = {"content_type": "application/json", "delivery_mode": 2}
            channel.basic.publish(
                body(number).decode(), ROUTING_KEY, EXCHANGE, properties, mandatory=True
            )
        return watch.stop(task.messages)


def kombu_consume(task: Task) -> Timing:
    import kombu

    with kombu.Connection(task.url.replace("amqp://", "pyamqp://")) as connection:
        watch, taken = Stopwatch(), 0

        def on_message(message: Any) -> None:
            nonlocal taken
            if not taken:
                watch.start()
            PlainEnvelope.model_validate_json(message.body)
            message.ack()
            taken += 1

        queue = kombu.Queue(task.queue, no_declare=True)
        with connection.Consumer(queue, on_message=on_message, prefetch_count=task.prefetch):
            while taken < task.messages:
                connection.drain_events()
        return watch.stop(task.messages)


def kombu_publish(task: Task) -> Timing:
    import kombu

    options = {"confirm_publish": True}
    url = task.url.replace("amqp://", "pyamqp://")
    with kombu.Connection(url, transport_options=options) as connection:
        producer = kombu.Producer(connection.channel(), kombu.Exchange(EXCHANGE, no_declare=True))
        watch = Stopwatch()
        watch.start()
        for number in range(task.messages):
            producer.publish(
                body(number),
                routing_key=ROUTING_KEY,
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=2,
                mandatory=True,
                message_id=str(number),
            )
        return watch.stop(task.messages)


CLIENTS: dict[str, Client] = {
    "faststream": faststream_consume,
    "aio-pika": aio_pika_consume,
    "amqpstorm": amqpstorm_consume,
    "kombu": kombu_consume,
    "aio-pika-500": aio_pika_publish,
    "amqpstorm-confirm": amqpstorm_publish,
    "kombu-confirm": kombu_publish,
}
