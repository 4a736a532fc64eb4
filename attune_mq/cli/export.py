"""``attune-mq export``: RabbitMQ's own definitions JSON."""

from __future__ import annotations

import argparse

from attune_mq.cli.context import OK, Context
from attune_mq.definitions import export_definitions, left_out_of_export

SUMMARY = (
    "Write the definitions JSON that `rabbitmqctl import_definitions` and RabbitMQ's HTTP API "
    "take, with everything the library adds. Standard error names what definitions cannot hold."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", choices=("definitions",), default="definitions")
    parser.add_argument(
        "--vhost",
        metavar="V",
        default="/",
        help="the virtual host to which the objects belong; it must exist. / unless given",
    )


def run(arguments: argparse.Namespace, context: Context) -> int:
    topology = context.topology()
    context.emit(export_definitions(topology, arguments.vhost))
    for sentence in left_out_of_export(topology):
        context.note(f"attune-mq: not exported: {sentence}")
    return OK
