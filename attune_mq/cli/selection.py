"""The part of the topology that a command is about: ``--service``, ``--instance``."""

from __future__ import annotations

import argparse

from attune_mq.errors import InvalidInput
from attune_mq.topology.families import instantiate
from attune_mq.topology.model import Topology
from attune_mq.topology.selection import needed_by


def add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--service", metavar="NAME", help="only what this service needs")
    parser.add_argument(
        "--instance",
        metavar="FAMILY:NAME=VALUE",
        help="one instance of a family instead of the file, such as worker:worker_id=7",
    )


def selected(topology: Topology, arguments: argparse.Namespace) -> Topology:
    """Raises :class:`~attune_mq.errors.InvalidInput` for what the file does not have."""
    if arguments.instance is not None:
        topology = _instance(topology, arguments.instance)
    if arguments.service is not None:
        topology = needed_by(topology, arguments.service)
    return topology


def _instance(topology: Topology, text: str) -> Topology:
    family, _, given = text.partition(":")
    pairs = [pair.partition("=") for pair in given.split(",") if pair]
    if not all(name and equals for name, equals, _ in pairs):
        raise InvalidInput(f"--instance: expected FAMILY:NAME=VALUE[,NAME=VALUE…], got {text!r}")
    return instantiate(topology, family, **{name: value for name, _, value in pairs})
