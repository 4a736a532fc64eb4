"""How many queues, each with a confirmed message, are gone when their node is killed moments after.

python -m tests.faults.declaring                             # one classic queue, and killed
python -m tests.faults.declaring --seconds 3                 # one after the other for so long
python -m tests.faults.declaring --type quorum --rounds 1
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

import pika
from pika import exceptions as pika_errors

from attune_mq.broker import EmbeddedBroker

PAUSE_S = 0.03
"""Between two queues."""
SETTLES_S = 10.0
"""A quorum queue that tells of no message after so long has none."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="declaring", description=__doc__)
    parser.add_argument("--rounds", type=int, default=12, help="each on a node of its own")
    parser.add_argument("--seconds", type=float, default=0.0, help="to declare queues for")
    parser.add_argument("--type", default="classic", choices=("classic", "quorum"))
    options = parser.parse_args()
    for _ in range(options.rounds):
        with EmbeddedBroker() as broker:
            declared_at_s = _declare(broker, options.type, options.seconds)
            killed_at_s = time.monotonic()
            broker.kill()
            broker.start()
            gone_ms = [
                round((killed_at_s - declared_at_s[queue]) * 1000)
                for queue in _without_message(broker, list(declared_at_s))
            ]
            sys.stdout.write(
                f"RabbitMQ {broker.version}: of {len(declared_at_s)} queues {len(gone_ms)} are "
                f"gone, or without their message; declared {gone_ms} ms before the kill\n"
            )
            sys.stdout.flush()


def _declare(broker: EmbeddedBroker, kind: str, seconds: float) -> dict[str, float]:
    """When the broker had said of each that it is declared; then its message was confirmed."""
    channel = pika.BlockingConnection(pika.URLParameters(broker.url)).channel()
    channel.confirm_delivery()
    declared_at_s: dict[str, float] = {}
    until_s = time.monotonic() + seconds
    while True:
        name = f"declared.{len(declared_at_s)}"
        channel.queue_declare(name, durable=True, arguments={"x-queue-type": kind})
        declared_at_s[name] = time.monotonic()
        persistent = pika.BasicProperties(delivery_mode=2)
        channel.basic_publish("", name, b"confirmed", persistent, mandatory=True)
        if time.monotonic() >= until_s:
            return declared_at_s
        time.sleep(PAUSE_S)


def _without_message(broker: EmbeddedBroker, queues: list[str]) -> Iterator[str]:
    connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    until_s = time.monotonic() + SETTLES_S
    for queue in queues:
        while not (has_one := _has_message(connection, queue)) and time.monotonic() < until_s:
            time.sleep(PAUSE_S)
        if not has_one:
            yield queue
    connection.close()


def _has_message(connection: pika.BlockingConnection, queue: str) -> bool:
    channel = connection.channel()
    try:
        found = channel.queue_declare(queue, passive=True).method.message_count == 1
    except pika_errors.ChannelClosedByBroker:
        return False
    channel.close()
    return found


if __name__ == "__main__":
    main()
