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
from attune_mq.exit_codes import INTERRUPTED, WRONG_INPUT, exit_code

COMMANDS = {
    "show": "print the topology with everything the library adds",
    "setup": "make what is missing on the broker; change nothing that is there",
    "plan": "say what setup would do",
    "check": "say whether everything is there and consumed",
    "lint": "find faults of design, without a broker",
    "route": "say where a message would go, without a broker",
    "graph": "draw the topology",
    "export": "write RabbitMQ definitions JSON",
    "import": "read RabbitMQ definitions or a broker into a topology file",
    "acl": "name the least permissions that a service needs",
    "migrate": "change in place what RabbitMQ cannot, losing nothing",
    "publish": "send one message as the topology says",
    "dlq": "list, show, replay or purge dead letters",
    "status": "say what goes on in each queue, and what is wrong",
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
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone; there is nobody left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED


def _split(arguments: Sequence[str]) -> tuple[argparse.Namespace, str, list[str]]:
    """General options may stand before the command and after it."""
    parser = _general_parser()
    options, rest = parser.parse_known_args(arguments)
    if not rest or rest[0] in ("-h", "--help"):
        parser.print_help(sys.stdout if rest else sys.stderr)
        raise SystemExit(0 if rest else WRONG_INPUT)
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
        description="One topology file for RabbitMQ: set up, understood, travelled on.",
        epilog=f"commands:\n{listed}\n\n`attune-mq COMMAND --help` says more of one.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("--topology", metavar="FILE", help="else ATTUNE_MQ_TOPOLOGY, "
                        "./topology.yaml, or the packaged file")  # fmt: skip
    parser.add_argument("--url", help="of the broker, else ATTUNE_MQ_URL; several: by commas")
    parser.add_argument("--management-url", metavar="URL", help="of RabbitMQ's HTTP API, "
                        "else ATTUNE_MQ_MANAGEMENT_URL, or none")  # fmt: skip
    parser.add_argument("--format", choices=("text", "json"), default="text")
    return parser


def _version() -> str:
    from importlib.metadata import version

    return f"attune-mq {version('attune-mq')}"


def _run(command: str, rest: Sequence[str], context: Context) -> int:
    name = "import_" if command == "import" else command
    module: Any = importlib.import_module(f"attune_mq.cli.{name}")
    parser = argparse.ArgumentParser(prog=f"attune-mq {command}", description=module.SUMMARY)
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
    """A command answers, and raises what is wrong; what is logged on the way says it twice."""
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
