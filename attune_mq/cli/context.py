"""What every command works with: the general options, and the part of the topology it is for."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attune_mq.cli.output import Styled, printable

if TYPE_CHECKING:
    from attune_mq.amqp.settings import BrokerSettings
    from attune_mq.topology.model import Topology

_one_line = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps makes an encoder each time


@dataclass(frozen=True)
class Context:
    """The general options. Standard output is for a command's result and nothing else."""

    topology_path: str | None = None
    url: str | None = None
    management: str | None = None
    format: str = "text"

    @property
    def is_json(self) -> bool:
        return self.format == "json"

    @property
    def management_url(self) -> str | None:
        return self.management or os.environ.get("ATTUNE_MQ_MANAGEMENT_URL") or None

    @property
    def is_coloured(self) -> bool:
        """Whether standard output is a terminal, and NO_COLOR is unset (https://no-color.org)."""
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def topology(self) -> Topology:
        from attune_mq.topology_file import load_topology

        return load_topology(self.topology_path)

    def broker(self) -> BrokerSettings:
        from attune_mq.amqp.settings import BrokerSettings

        return BrokerSettings.of(self.url)

    def emit(self, value: object) -> None:
        """One JSON document, indented."""
        print(json.dumps(value, indent=2, ensure_ascii=False))

    def emit_line(self, value: object) -> None:
        """One JSON document in one line."""
        print(_one_line(value))

    def line(self, *spans: str | Styled) -> None:
        """A line of text, with non-printable characters escaped."""
        print("".join(map(self._span, spans)).rstrip())

    def note(self, text: str) -> None:
        """Text on standard error, with all but its line breaks escaped."""
        print("\n".join(map(printable, text.split("\n"))), file=sys.stderr)

    def _span(self, span: str | Styled) -> str:
        if isinstance(span, str):
            return printable(span)
        text = printable(span.text)
        return f"\033[{span.style}m{text}\033[0m" if self.is_coloured and text else text


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Adds ``--service`` and ``--instance``, which :func:`selected` reads."""
    parser.add_argument("--service", metavar="NAME", help="only what this service needs")
    parser.add_argument(
        "--instance",
        metavar="FAMILY:NAME=VALUE",
        help="one instance of a family instead of the file, such as worker:worker_id=7",
    )


def selected(arguments: argparse.Namespace, context: Context) -> Topology:
    """The part of the topology that ``--service`` and ``--instance`` name.

    Raises :class:`~attune_mq.errors.InvalidInput` for what the file does not have.
    """
    from attune_mq.topology.selection import needed_by

    topology = context.topology()
    if arguments.instance is not None:
        topology = _instance(topology, arguments.instance)
    if arguments.service is not None:
        topology = needed_by(topology, arguments.service)
    return topology


def _instance(topology: Topology, text: str) -> Topology:
    from attune_mq.errors import InvalidInput
    from attune_mq.topology.families import instantiate

    family, _, given = text.partition(":")
    pairs = [pair.partition("=") for pair in given.split(",") if pair]
    if not all(name and equals for name, equals, _ in pairs):
        raise InvalidInput(f"--instance: expected FAMILY:NAME=VALUE[,NAME=VALUE…], got {text!r}")
    return instantiate(topology, family, **{name: value for name, _, value in pairs})
