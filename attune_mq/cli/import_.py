"""Convert RabbitMQ definitions JSON, or the objects of a broker, to a topology file. What a
topology file cannot express is listed at its top and on standard error."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from attune_mq.amqp.settings import virtual_host
from attune_mq.broker.management import management_client
from attune_mq.cli.context import Context
from attune_mq.definitions import Imported, import_definitions
from attune_mq.errors import InvalidInput
from attune_mq.exit_codes import EXIT_OK
from attune_mq.topology.writing import topology_data

MAX_FILE_BYTES = 64 * 1024 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--from",
        dest="origin",
        choices=("definitions", "broker"),
        default="definitions",
        help="a file, or a broker over its HTTP API (--management-url); default: definitions",
    )
    add("file", metavar="FILE", nargs="?", help="definitions JSON; - reads standard input")
    add(
        "--vhost",
        metavar="V",
        help="virtual host to import (default: of a file the only one with objects, else /; of a "
        "broker that of --url)",
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
        print(imported.yaml_text.rstrip("\n"))
    for sentence in imported.not_imported:
        context.note(f"attune-mq: not imported: {sentence}")
    return EXIT_OK


def _from_broker(arguments: argparse.Namespace, context: Context) -> Imported:
    if arguments.file is not None:
        raise InvalidInput(f"import --from broker: expected no file, got {arguments.file!r}")
    if context.management_url is None:
        raise InvalidInput(
            "import --from broker requires RabbitMQ's HTTP API, since AMQP cannot list objects: "
            "give --management-url http://HOST:15672 or ATTUNE_MQ_MANAGEMENT_URL"
        )
    settings = context.broker()
    vhost = arguments.vhost or virtual_host(settings.urls[0])
    client = management_client(context.management_url, settings)
    definitions = json.dumps(client.definitions(vhost))
    return import_definitions(definitions, vhost, file=f"{client}, virtual host {vhost}")


def _from_file(name: str | None, vhost: str | None) -> Imported:
    if name is None:
        raise InvalidInput("import: expected a file with definitions JSON, or - for standard input")
    try:
        if name == "-":
            data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InvalidInput(f"{name}: cannot be read: {reason}") from error
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(f"{name}: expected at most {MAX_FILE_BYTES:,} bytes, got more")
    return import_definitions(data, vhost, file="<stdin>" if name == "-" else name)
