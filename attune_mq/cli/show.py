"""Print the topology with everything the library adds: dead letter queues, retry queues and their
bindings, each with a comment that names its origin in the file. The output is a valid topology
file."""

from __future__ import annotations

import argparse

from attune_mq.cli.context import Context
from attune_mq.exit_codes import EXIT_OK
from attune_mq.topology.expansion import additions, expand
from attune_mq.topology.schema import topology_schema
from attune_mq.topology.writing import topology_data, write_topology


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of such files")


def run(arguments: argparse.Namespace, context: Context) -> int:
    if arguments.schema:
        context.emit(topology_schema())
        return EXIT_OK
    whole = expand(context.topology())
    if context.is_json:
        context.emit(topology_data(whole))
    else:
        print(write_topology(whole, comments=additions(whole)).rstrip("\n"))
    return EXIT_OK
