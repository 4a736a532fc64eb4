"""Run a private RabbitMQ node in the foreground until Ctrl-C or SIGTERM. Its URL is printed; its
data is deleted at the end."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.cli.context import Context
from attune_mq.exit_codes import EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, help="AMQP port on 127.0.0.1 (default: a free one)")
    parser.add_argument("--management", action="store_true", help="enable the management plugin")


def run(arguments: argparse.Namespace, context: Context) -> int:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    context.note("starting a private RabbitMQ node; this takes some seconds")
    with EmbeddedBroker(port=arguments.port, management=arguments.management) as broker:
        if context.is_json:
            context.emit({"url": broker.url, "management_url": broker.management_url})
        else:
            context.line(broker.url)
            if broker.management_url:
                context.note(f"management: {broker.management_url}")
        sys.stdout.flush()
        context.note("Ctrl-C stops the node and deletes its data")
        stopping.wait()
    return EXIT_OK
