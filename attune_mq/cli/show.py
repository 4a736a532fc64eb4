"""``attune-mq show``: the topology with everything that the library adds."""

from __future__ import annotations

import argparse

from attune_mq.cli.context import OK, Context
from attune_mq.topology.expansion import additions, expand
from attune_mq.topology.schema import topology_schema
from attune_mq.topology.writing import topology_data, write_topology

SUMMARY = (
    "Print the topology with everything the library adds: dead letter queues, retry queues and "
    "their bindings, each with a comment that says what in the file led to it. What is printed is "
    "a topology file itself."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--schema",
        action="store_true",
        help="print the JSON Schema of topology files instead, for editors",
    )


def run(arguments: argparse.Namespace, context: Context) -> int:
    if arguments.schema:
        context.emit(topology_schema())
        return OK
    whole = expand(context.topology())
    if context.is_json:
        context.emit(topology_data(whole))
    else:
        context.line(write_topology(whole, comments=additions(whole)).rstrip("\n"))
    return OK
