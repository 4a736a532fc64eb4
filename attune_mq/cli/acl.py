"""``attune-mq acl SERVICE``: the least permissions that a service needs."""

from __future__ import annotations

import argparse
import shlex

from attune_mq.amqp.settings import virtual_host
from attune_mq.cli.context import OK, Context
from attune_mq.cli.objects import printable
from attune_mq.topology.acl import Permissions, acl

SUMMARY = "Name the least permissions that a service needs, as patterns for rabbitmqctl."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", help="a service that the file names")
    parser.add_argument(
        "--verify", action="store_true", help="where somebody else sets the infrastructure up"
    )
    parser.add_argument(
        "--rabbitmq",
        metavar="VERSION",
        help="the broker's version, with --verify; else the one that the file expects, else any",
    )
    parser.add_argument("--why", action="store_true", help="say what asks for each permission")


def run(arguments: argparse.Namespace, context: Context) -> int:
    permissions = acl(
        context.topology(), arguments.service, verify=arguments.verify, version=arguments.rabbitmq
    )
    if context.is_json:
        context.emit(as_json(permissions))
        return OK
    if arguments.why:
        for need in permissions.needs:
            context.line(f"{need.permission:<9}  {need.pattern}  {printable(need.why)}")
        context.line()
    for name, pattern in as_json(permissions).items():
        context.line(f"{name:<9}  {pattern}")
    context.line()
    context.line(_command(permissions, context))
    return OK


def as_json(permissions: Permissions) -> dict[str, str]:
    return {
        "configure": permissions.configure,
        "write": permissions.write,
        "read": permissions.read,
    }


def _command(permissions: Permissions, context: Context) -> str:
    vhost = shlex.quote(virtual_host(context.broker().urls[0]))
    patterns = " ".join(shlex.quote(pattern) for pattern in as_json(permissions).values())
    return f"rabbitmqctl set_permissions -p {vhost} USER {patterns}"
