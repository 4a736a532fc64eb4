"""Print the least-privilege permissions of a service, as patterns for rabbitmqctl."""

from __future__ import annotations

import argparse
import shlex

from attune_mq.amqp.settings import virtual_host
from attune_mq.cli.context import Context
from attune_mq.exit_codes import EXIT_OK
from attune_mq.topology.permissions import acl


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("service", metavar="SERVICE", help="name of a service in the file")
    add("--verify", action="store_true", help="if the service only verifies the infrastructure")
    add("--rabbitmq", metavar="VERSION", help="version of the broker, for --verify")
    add("--why", action="store_true", help="explain each permission")


def run(arguments: argparse.Namespace, context: Context) -> int:
    permissions = acl(
        context.topology(), arguments.service, verify=arguments.verify, version=arguments.rabbitmq
    )
    patterns = {name: getattr(permissions, name) for name in ("configure", "write", "read")}
    if context.is_json:
        context.emit(patterns)
        return EXIT_OK
    if arguments.why:
        for need in permissions.needs:
            context.line(f"{need.permission:<9}  {need.pattern}  {need.why}")
        context.line()
    for name, pattern in patterns.items():
        context.line(f"{name:<9}  {pattern}")
    context.line()
    words = [virtual_host(context.broker().urls[0]), "USER", *patterns.values()]
    context.line(f"rabbitmqctl set_permissions -p {shlex.join(words)}")
    return EXIT_OK
