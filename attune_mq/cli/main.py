"""``attune-mq``: finds the command, runs it, turns errors into exit codes."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from attune_mq.cli.context import Context
from attune_mq.exit_codes import EXIT_INTERRUPTED, EXIT_INVALID_INPUT, exit_code

COMMANDS = {
    "show": "print the topology, including everything the library adds",
    "setup": "create what is missing on the broker; existing objects stay as they are",
    "plan": "show what setup would do",
    "check": "check that everything exists and every consumer is connected",
    "lint": "check the design of the topology, without a broker",
    "route": "simulate where a message goes, without a broker",
    "graph": "draw the topology",
    "export": "write RabbitMQ definitions JSON",
    "import": "convert RabbitMQ definitions, or a broker, to a topology file",
    "acl": "print the least-privilege permissions of a service",
    "migrate": "change in place what RabbitMQ cannot, without losing messages",
    "publish": "publish one message, routed by its type",
    "dlq": "list, show, replay or purge dead letters",
    "status": "show depth, rates, consumers and problems of each queue",
    "broker": "run a private RabbitMQ node in the foreground",
}
"""Each is a module of this package, imported when it is used; a summary a line for ``--help``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    options, command, rest = _split(arguments)
    context = Context(options.topology, options.url, options.management_url, options.format)
    try:
        return _run(command, rest, context)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # nothing reads standard output any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_INTERRUPTED


def _split(arguments: Sequence[str]) -> tuple[argparse.Namespace, str, list[str]]:
    """General options may stand before the command and after it."""
    parser = _general_parser()
    options, rest = parser.parse_known_args(arguments)
    if not rest or rest[0] in ("-h", "--help"):
        parser.print_help(sys.stdout if rest else sys.stderr)
        raise SystemExit(0 if rest else EXIT_INVALID_INPUT)
    if rest[0] == "--version":
        print(_version())
        raise SystemExit(0)
    command = rest[0]
    if command not in COMMANDS:
        known = ", ".join(COMMANDS)
        parser.error(f"expected a command ({known}), got {command!r}")
    return options, command, rest[1:]


def _general_parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<9} {summary}" for name, summary in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="attune-mq",
        usage="attune-mq [--topology FILE] [--url URL] [--format text|json] COMMAND …",
        description="Declare, check, simulate and migrate a RabbitMQ topology from one YAML file.",
        epilog=f"commands:\n{listed}\n\n`attune-mq COMMAND --help` describes a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--topology",
        metavar="FILE",
        help="topology file (env: ATTUNE_MQ_TOPOLOGY; default: "
        "./topology.yaml, else the packaged file)",
    )
    add("--url", help="AMQP URL(s), comma-separated (env: ATTUNE_MQ_URL)")
    add("--management-url", metavar="URL", help="HTTP API (env: ATTUNE_MQ_MANAGEMENT_URL)")
    add("--format", choices=("text", "json"), default="text", help="output (default: text)")
    return parser


def _version() -> str:
    from importlib.metadata import version

    return f"attune-mq {version('attune-mq')}"


def _run(command: str, rest: Sequence[str], context: Context) -> int:
    name = "import_" if command == "import" else command
    module: Any = importlib.import_module(f"attune_mq.cli.{name}")
    parser = argparse.ArgumentParser(prog=f"attune-mq {command}", description=module.__doc__)
    module.add_arguments(parser)
    arguments = parser.parse_args(rest)
    from attune_mq.errors import AttuneError

    try:
        with _quiet_logs():
            return int(module.run(arguments, context))
    except AttuneError as error:
        context.note(f"attune-mq: {error}")
        return exit_code(error)


@contextlib.contextmanager
def _quiet_logs() -> Iterator[None]:
    """The command itself reports what is wrong; warnings logged on the way would repeat it."""
    import logging

    levels = {"pika": logging.CRITICAL, "attune_mq": logging.ERROR}
    before = {name: logging.getLogger(name).level for name in levels}
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
