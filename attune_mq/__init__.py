"""One declarative RabbitMQ topology that every service sets up, checks and travels on.

::

    from attune_mq import Message, Service, payloads

    service = Service("notifier")

    @service.on(payloads.NotificationCreated)
    def tell(message: Message[payloads.NotificationCreated]) -> None:
        print(message.payload.activity)

    service.run()

What is listed in ``__all__`` is public and documented; each name is imported when it is first
used, so that a command line which needs few of them starts fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attune_mq import logs as logs, payloads as payloads
    from attune_mq.amqp.settings import BrokerSettings as BrokerSettings
    from attune_mq.broker.infrastructure import setup_infrastructure as setup_infrastructure
    from attune_mq.broker.inspection import QueueInspector as QueueInspector
    from attune_mq.broker.management import ManagementClient as ManagementClient
    from attune_mq.broker.plan import (
        Health as Health,
        Plan as Plan,
        check as check,
        plan as plan,
    )
    from attune_mq.broker.report import (
        ConflictingInfrastructure as ConflictingInfrastructure,
        MissingInfrastructure as MissingInfrastructure,
        SetupReport as SetupReport,
    )
    from attune_mq.consuming.consumer import Consumer as Consumer
    from attune_mq.consuming.handlers import Handlers as Handlers
    from attune_mq.consuming.status import ConsumerStatus as ConsumerStatus
    from attune_mq.dead_letters.operations import (
        list_dead_letters as list_dead_letters,
        purge_dead_letters as purge_dead_letters,
        replay_dead_letters as replay_dead_letters,
        show_dead_letters as show_dead_letters,
    )
    from attune_mq.definitions import (
        export_definitions as export_definitions,
        import_definitions as import_definitions,
    )
    from attune_mq.errors import (
        AttuneError as AttuneError,
        BrokerUnavailable as BrokerUnavailable,
        ConsumeError as ConsumeError,
        DatabaseUnavailable as DatabaseUnavailable,
        DependencyUnavailable as DependencyUnavailable,
        DuplicateConsumerTag as DuplicateConsumerTag,
        ForkedProcess as ForkedProcess,
        InfrastructureError as InfrastructureError,
        InvalidInput as InvalidInput,
        LifecycleError as LifecycleError,
        LoginRefused as LoginRefused,
        MalformedMessage as MalformedMessage,
        NotConfirmed as NotConfirmed,
        NotSynchronous as NotSynchronous,
        PermissionRefused as PermissionRefused,
        PublishError as PublishError,
        PublishManyFailed as PublishManyFailed,
        PublishRefused as PublishRefused,
        Reject as Reject,
        RetryLater as RetryLater,
        TlsRefused as TlsRefused,
        Unroutable as Unroutable,
        VirtualHostRefused as VirtualHostRefused,
    )
    from attune_mq.exit_codes import exit_code as exit_code
    from attune_mq.health.client import HealthAnswer as HealthAnswer, ask_health as ask_health
    from attune_mq.health.server import HealthServer as HealthServer
    from attune_mq.lint import Finding as Finding, lint as lint
    from attune_mq.message.delivery import Message as Message
    from attune_mq.message.envelope import Envelope as Envelope
    from attune_mq.message.outgoing import Receipt as Receipt
    from attune_mq.message.payload import Payload as Payload
    from attune_mq.message.telemetry import Telemetries as Telemetries, Telemetry as Telemetry
    from attune_mq.migration.context import MigrationTimeouts as MigrationTimeouts
    from attune_mq.migration.migrating import migrate as migrate
    from attune_mq.migration.report import CountMismatch as CountMismatch, Migration as Migration
    from attune_mq.publishing.publisher import Publisher as Publisher
    from attune_mq.rendering import (
        to_dot as to_dot,
        to_mermaid as to_mermaid,
        to_svg as to_svg,
    )
    from attune_mq.service import Service as Service
    from attune_mq.topology.acl import Permissions as Permissions, acl as acl
    from attune_mq.topology.dead_lettering import Death as Death
    from attune_mq.topology.expansion import expand as expand
    from attune_mq.topology.families import instantiate as instantiate
    from attune_mq.topology.flow import Flow as Flow, trace as trace
    from attune_mq.topology.loading import parse_topology as parse_topology
    from attune_mq.topology.model import (
        Route as Route,
        Topology as Topology,
        UnknownName as UnknownName,
    )
    from attune_mq.topology.routing import Router as Router, Routing as Routing
    from attune_mq.topology.schema import topology_schema as topology_schema
    from attune_mq.topology.selection import needed_by as needed_by
    from attune_mq.topology.source import InvalidTopology as InvalidTopology
    from attune_mq.topology.writing import write_topology as write_topology
    from attune_mq.topology_file import (
        TopologyFileError as TopologyFileError,
        load_topology as load_topology,
    )

_HOMES = {
    "exit_code": "attune_mq.exit_codes",
    "setup_infrastructure": "attune_mq.broker.infrastructure",
    "QueueInspector": "attune_mq.broker.inspection",
    "ConflictingInfrastructure": "attune_mq.broker.report",
    "MissingInfrastructure": "attune_mq.broker.report",
    "SetupReport": "attune_mq.broker.report",
    "BrokerSettings": "attune_mq.amqp.settings",
    "AttuneError": "attune_mq.errors",
    "BrokerUnavailable": "attune_mq.errors",
    "ConsumeError": "attune_mq.errors",
    "DatabaseUnavailable": "attune_mq.errors",
    "DependencyUnavailable": "attune_mq.errors",
    "DuplicateConsumerTag": "attune_mq.errors",
    "ForkedProcess": "attune_mq.errors",
    "InfrastructureError": "attune_mq.errors",
    "InvalidInput": "attune_mq.errors",
    "LifecycleError": "attune_mq.errors",
    "LoginRefused": "attune_mq.errors",
    "MalformedMessage": "attune_mq.errors",
    "NotConfirmed": "attune_mq.errors",
    "NotSynchronous": "attune_mq.errors",
    "PermissionRefused": "attune_mq.errors",
    "PublishError": "attune_mq.errors",
    "PublishManyFailed": "attune_mq.errors",
    "PublishRefused": "attune_mq.errors",
    "Reject": "attune_mq.errors",
    "RetryLater": "attune_mq.errors",
    "TlsRefused": "attune_mq.errors",
    "Unroutable": "attune_mq.errors",
    "VirtualHostRefused": "attune_mq.errors",
    "Consumer": "attune_mq.consuming.consumer",
    "Message": "attune_mq.message.delivery",
    "Envelope": "attune_mq.message.envelope",
    "Handlers": "attune_mq.consuming.handlers",
    "Receipt": "attune_mq.message.outgoing",
    "Payload": "attune_mq.message.payload",
    "Publisher": "attune_mq.publishing.publisher",
    "ConsumerStatus": "attune_mq.consuming.status",
    "Telemetries": "attune_mq.message.telemetry",
    "Telemetry": "attune_mq.message.telemetry",
    "Service": "attune_mq.service",
    "expand": "attune_mq.topology.expansion",
    "instantiate": "attune_mq.topology.families",
    "parse_topology": "attune_mq.topology.loading",
    "Route": "attune_mq.topology.model",
    "Topology": "attune_mq.topology.model",
    "UnknownName": "attune_mq.topology.model",
    "needed_by": "attune_mq.topology.selection",
    "InvalidTopology": "attune_mq.topology.source",
    "TopologyFileError": "attune_mq.topology_file",
    "load_topology": "attune_mq.topology_file",
    "plan": "attune_mq.broker.plan",
    "Plan": "attune_mq.broker.plan",
    "Health": "attune_mq.broker.plan",
    "check": "attune_mq.broker.plan",
    "CountMismatch": "attune_mq.migration.report",
    "migrate": "attune_mq.migration.migrating",
    "Migration": "attune_mq.migration.report",
    "MigrationTimeouts": "attune_mq.migration.context",
    "ManagementClient": "attune_mq.broker.management",
    "Permissions": "attune_mq.topology.acl",
    "acl": "attune_mq.topology.acl",
    "Finding": "attune_mq.lint",
    "lint": "attune_mq.lint",
    "Router": "attune_mq.topology.routing",
    "Routing": "attune_mq.topology.routing",
    "Death": "attune_mq.topology.dead_lettering",
    "Flow": "attune_mq.topology.flow",
    "trace": "attune_mq.topology.flow",
    "export_definitions": "attune_mq.definitions",
    "import_definitions": "attune_mq.definitions",
    "write_topology": "attune_mq.topology.writing",
    "topology_schema": "attune_mq.topology.schema",
    "to_dot": "attune_mq.rendering",
    "to_mermaid": "attune_mq.rendering",
    "to_svg": "attune_mq.rendering",
    "HealthServer": "attune_mq.health.server",
    "HealthAnswer": "attune_mq.health.client",
    "ask_health": "attune_mq.health.client",
    "list_dead_letters": "attune_mq.dead_letters.operations",
    "show_dead_letters": "attune_mq.dead_letters.operations",
    "replay_dead_letters": "attune_mq.dead_letters.operations",
    "purge_dead_letters": "attune_mq.dead_letters.operations",
}

__all__ = ["logs", "payloads", *_HOMES]


def __getattr__(name: str) -> Any:
    if name in ("logs", "payloads"):
        return importlib.import_module(f"attune_mq.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'attune_mq' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
