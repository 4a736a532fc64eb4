"""``attune-mq import``: a topology file from RabbitMQ's definitions, or from a broker."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from attune_mq.amqp.settings import virtual_host
from attune_mq.broker.management import management_client
from attune_mq.cli.context import OK, Context
from attune_mq.definitions import Imported, import_definitions
from attune_mq.errors import InvalidInput
from attune_mq.topology.writing import topology_data

SUMMARY = (
    "Read RabbitMQ's definitions JSON, or what a broker has, and write it as a topology file. "
    "What a topology file cannot say is named at its top and on standard error."
)
MAX_FILE_BYTES = 64 * 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from",
        dest="origin",
        choices=("definitions", "broker"),
        default="definitions",
        help="a file, or a broker by its HTTP API (--management-url); a file unless given",
    )
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="definitions JSON; -: standard input"
    )
    parser.add_argument(
        "--vhost",
        metavar="V",
        help="the virtual host to import. Of a file: by default the only one that has objects, or "
        "/ where several have; of a broker: by default that of the URL",
    )


def run(arguments: argparse.Namespace, context: Context) -> int:
    if arguments.origin == "broker":
        imported = _from_broker(arguments, context)
    else:
        imported = _from_file(arguments.file, arguments.vhost)
    if context.is_json:
        topology = topology_data(imported.topology)
        context.emit({"topology": topology, "unsaid": list(imported.not_imported)})
    else:
        context.line(imported.yaml_text.rstrip("\n"))
    for sentence in imported.not_imported:
        context.note(f"attune-mq: not said in a topology file: {sentence}")
    return OK


def _from_broker(arguments: argparse.Namespace, context: Context) -> Imported:
    if arguments.file is not None:
        raise InvalidInput(f"import --from broker: expected no file, got {arguments.file!r}")
    if context.management_url is None:
        raise InvalidInput(
            "import --from broker needs RabbitMQ's HTTP API, since AMQP cannot list what there "
            "is: give --management-url http://HOST:15672 or ATTUNE_MQ_MANAGEMENT_URL"
        )
    settings = context.broker()
    vhost = arguments.vhost or virtual_host(settings.urls[0])
    client = management_client(context.management_url, settings)
    definitions = json.dumps(client.definitions(vhost))
    return import_definitions(definitions, vhost, file=f"{client}, virtual host {vhost}")


def _from_file(name: str | None, vhost: str | None) -> Imported:
    if name is None:
        raise InvalidInput("import: expected a file with definitions JSON, or - for standard input")
    if name == "-":
        data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        return import_definitions(_bounded(data, name), vhost, file="<stdin>")
    try:
        with Path(name).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidInput(f"{name}: cannot be read: {reason}") from error
    return import_definitions(_bounded(data, name), vhost, file=name)


def _bounded(data: bytes, name: str) -> bytes:
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(f"{name}: expected {MAX_FILE_BYTES:,} bytes at most, got more")
    return data
