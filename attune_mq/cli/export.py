"""Write the definitions JSON that `rabbitmqctl import_definitions` and RabbitMQ's HTTP API accept,
with everything the library adds. What definitions cannot hold is listed on standard error."""

from __future__ import annotations

import argparse

from attune_mq.cli.context import Context
from attune_mq.definitions import export_definitions, left_out_of_export
from attune_mq.exit_codes import EXIT_OK


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--to", choices=("definitions",), default="definitions", help="output format")
    add("--vhost", metavar="V", default="/", help="an existing virtual host (default: /)")


def run(arguments: argparse.Namespace, context: Context) -> int:
    topology = context.topology()
    context.emit(export_definitions(topology, arguments.vhost))
    for sentence in left_out_of_export(topology):
        context.note(f"attune-mq: not exported: {sentence}")
    return EXIT_OK
