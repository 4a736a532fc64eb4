"""``setup_infrastructure``: what every service calls when it starts."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Literal

import pika
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq.broker.amqp import our_errors
from attune_mq.broker.asking import Asker, Refusal
from attune_mq.broker.migration_marks import MARK, ingress_name
from attune_mq.broker.replies import (
    CUT_OFF,
    Different,
    Invalid,
    NotPermitted,
    NotThere,
    parse_reply,
)
from attune_mq.broker.report import (
    Conflict,
    ConflictingInfrastructure,
    Created,
    Missing,
    MissingInfrastructure,
    Outcome,
    Refused,
    SetupReport,
    Unchanged,
)
from attune_mq.broker.settings import BrokerSettings
from attune_mq.topology.arguments import FIELD_OF_ARGUMENT
from attune_mq.topology.declarations import (
    BindingDeclaration,
    Declaration,
    ExchangeDeclaration,
    QueueDeclaration,
    declarations,
)
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import Topology
from attune_mq.topology.selection import needed_by, services
from attune_mq.topology_file import load_topology

logger = logging.getLogger(__name__)

BUILT_IN_PREFIX = "amq."


def setup_infrastructure(
    topology: Topology | str | os.PathLike[str] | None = None,
    broker: pika.BlockingConnection | BrokerSettings | str | None = None,
    *,
    service: str | None = None,
    required_by: str | None = None,
    mode: Literal["create", "verify"] = "create",
    on_conflict: Literal["warn", "fail"] = "warn",
) -> SetupReport:
    """Makes what the topology says and the broker lacks; changes nothing that is there.

    ``topology``: a topology, the path of a file, or nothing for the default file. One instance of
    a family is set up as ``instantiate(topology, "worker", worker_id=7)``.
    ``broker``: an open connection (which stays open; used from the thread that owns it), a URL,
    settings, or nothing for what the environment says.
    ``service``: only what that service needs, see :func:`~attune_mq.topology.selection.needed_by`.
    ``required_by``: everything is set up, but of what cannot be made only that counts as missing
    which this service needs; the rest is a warning. So a service can run with the permissions that
    it needs itself. A name that the file does not have needs everything.
    ``mode="verify"`` creates nothing, ever.
    ``on_conflict="fail"`` raises on an object that exists with other properties; otherwise it is
    a warning, as is a missing permission to declare what exists, and start goes on.

    Calling it again, or from many services at once, does no harm: a second run finds everything
    unchanged. No message is touched by it. A queue that is being migrated, and its bindings, are
    left to the migration.

    Raises :class:`~attune_mq.broker.report.MissingInfrastructure` where something that is needed
    does not exist and cannot be made, naming each; with ``on_conflict="fail"``
    :class:`~attune_mq.broker.report.ConflictingInfrastructure`; ``BrokerUnavailable``,
    ``LoginRefused``, ``VirtualHostRefused``; and ``InvalidInput`` for a file or URL that is wrong.
    All objects are tried before anything is raised, and the error carries the report.
    """
    wanted = topology if isinstance(topology, Topology) else load_topology(topology)
    if service is not None:
        wanted = needed_by(wanted, service)
    wanted = expand(wanted)
    logger.info("Setting up RabbitMQ infrastructure")
    with _Declarer(broker, wanted, verify_only=mode == "verify") as declarer:
        report = SetupReport(tuple(declarer.ensure_all(declarations(wanted))))
    _log(report)
    if on_conflict == "fail" and report.conflicts:
        raise ConflictingInfrastructure(report)
    missing = {(one.declaration.kind, one.declaration.name): one for one in report.missing}
    if missing.keys() & _required(wanted, required_by):
        raise MissingInfrastructure(report)
    for one in missing.values():
        logger.warning("Only other services need this: %s", one)
    return report


def _required(wanted: Topology, service: str | None) -> set[tuple[str, str]]:
    """Kind and name of each object that has to be there."""
    if service is not None and service in services(wanted):
        wanted = needed_by(wanted, service)
    return {(one.kind, one.name) for one in declarations(wanted)}


def _log(report: SetupReport) -> None:
    for conflict in report.conflicts:
        logger.warning("Conflict: %s", conflict)
    for refused in report.refused:
        logger.warning("Refused: %s", refused)
    created, unchanged = len(report.created), len(report.unchanged)
    logger.info("RabbitMQ infrastructure: %d created, %d unchanged", created, unchanged)


class _Declarer:
    """Declares one object after the other such that one that is refused takes none along."""

    def __init__(
        self,
        broker: pika.BlockingConnection | BrokerSettings | str | None,
        topology: Topology,
        *,
        verify_only: bool,
    ) -> None:
        if isinstance(broker, pika.BlockingConnection):
            self._settings = BrokerSettings()
            self._asker = Asker(broker, name="attune_mq setup")
        else:
            self._settings = BrokerSettings.of(broker)
            self._asker = Asker(self._settings, name="attune_mq setup")
        self._topology = topology
        self._verify_only = verify_only
        self._made: set[tuple[str, str]] = set()
        self._are_migrated: bool | None = None
        self._migrated: dict[str, bool] = {}

    def __enter__(self) -> _Declarer:
        return self

    def __exit__(self, *_: object) -> None:
        self._asker.close()

    def ensure_all(self, wanted: Iterable[Declaration]) -> Iterable[Outcome]:
        with our_errors(self._settings):
            for declaration in wanted:
                yield self._ensure(declaration)

    def _ensure(self, declaration: Declaration) -> Outcome:
        where = self._topology.where(*declaration.path)
        if isinstance(declaration, BindingDeclaration):
            return self._ensure_binding(declaration)
        absent = self._asker.ask(lambda channel: _declare(channel, declaration, passive=True))
        if self._verify_only:
            if absent is None:
                return Unchanged(declaration, where)
            return Missing(declaration, where, "nothing was created, as asked")
        if isinstance(declaration, QueueDeclaration) and self._is_migrated(declaration.name):
            if absent is None:
                return Unchanged(declaration, where)
            return Missing(declaration, where, "it is being migrated: `attune-mq migrate` makes it")
        refusal = self._asker.ask(lambda channel: _declare(channel, declaration, passive=False))
        if refusal is not None:
            return self._refusal(declaration, refusal, exists=absent is None)
        # What every service says again at every start is not worth a line each.
        _log_declared(declaration, logging.INFO if absent else logging.DEBUG)
        if absent is None:
            return Unchanged(declaration, where)
        self._made.add((declaration.kind, declaration.name))
        return Created(declaration, where)

    def _ensure_binding(self, binding: BindingDeclaration) -> Outcome:
        where = self._topology.where(*binding.path)
        to_queue = binding.destination_type == "queue"
        if self._verify_only or (to_queue and self._is_migrated(binding.destination)):
            return Unchanged(binding, where)
        refusal = self._asker.ask(lambda channel: _bind(channel, binding))
        if refusal is not None:
            return self._refusal(binding, refusal, exists=None)
        ends = {("exchange", binding.source), (binding.destination_type, binding.destination)}
        return Created(binding, where) if ends & self._made else Unchanged(binding, where)

    def _is_migrated(self, queue: str) -> bool:
        """Whether somebody else sees to the queue and its bindings just now."""
        if self._are_migrated is None:
            self._are_migrated = self._has_exchange(MARK)
        if not self._are_migrated:
            return False
        if queue not in self._migrated:
            self._migrated[queue] = self._has_exchange(ingress_name(queue))
        return self._migrated[queue]

    def _has_exchange(self, name: str) -> bool:
        return self._asker.ask(lambda channel: channel.exchange_declare(name, passive=True)) is None

    def _refusal(
        self, declaration: Declaration, refusal: Refusal, *, exists: bool | None
    ) -> Outcome:
        where = self._topology.where(*declaration.path)
        match parse_reply(*refusal):
            case Different(field, expected, found):
                place = self._topology.where(*declaration.path, FIELD_OF_ARGUMENT.get(field, field))
                if expected == CUT_OFF:
                    expected = str(declaration.arguments.get(field, "none"))
                return Conflict(declaration, place, field, expected, found)
            case NotPermitted(permission, detail):
                needed = permission or _likely_permission(declaration, detail)
                return Refused(declaration, where, needed, detail, exists)
            case NotThere(kind, name):
                return Missing(declaration, where, f"there is no {kind} '{name}'")
            case Invalid(detail):
                return Missing(declaration, where, f"the broker does not take it: {detail}")


def _declare(
    channel: BlockingChannel, declaration: ExchangeDeclaration | QueueDeclaration, *, passive: bool
) -> None:
    if isinstance(declaration, ExchangeDeclaration):
        channel.exchange_declare(
            declaration.name,
            exchange_type=declaration.type,
            passive=passive,
            durable=declaration.durable,
            auto_delete=declaration.auto_delete,
            internal=declaration.internal,
            arguments=dict(declaration.arguments),
        )
    else:
        declare_queue(channel, declaration, passive=passive)


def declare_queue(
    channel: BlockingChannel, declaration: QueueDeclaration, *, passive: bool = False
) -> str:
    """Declares one queue; returns its name, which the server chose where it was left empty."""
    declared = channel.queue_declare(
        declaration.name,
        passive=passive,
        durable=declaration.durable,
        exclusive=declaration.exclusive,
        auto_delete=declaration.auto_delete,
        arguments=dict(declaration.arguments),
    )
    return str(declared.method.queue)


def bind_queue(channel: BlockingChannel, binding: BindingDeclaration, queue: str) -> None:
    channel.queue_bind(queue, binding.source, binding.routing_key, dict(binding.arguments))


def _bind(channel: BlockingChannel, binding: BindingDeclaration) -> None:
    if binding.destination_type == "queue":
        bind_queue(channel, binding, binding.destination)
    else:
        channel.exchange_bind(
            binding.destination, binding.source, binding.routing_key, dict(binding.arguments)
        )


def _log_declared(declaration: Declaration, level: int) -> None:
    dead_letters = declaration.arguments.get("x-dead-letter-exchange")
    if isinstance(declaration, ExchangeDeclaration):
        logger.log(level, "Exchange '%s' declared (%s)", declaration.name, declaration.type)
    elif dead_letters is None:
        logger.log(level, "Queue '%s' declared", declaration.name)
    else:
        shown = "Queue '%s' declared with dead letter exchange '%s'"
        logger.log(level, shown, declaration.name, dead_letters)


def _likely_permission(declaration: Declaration, detail: str) -> str:
    """RabbitMQ before 4.0 names the resource but not the permission; what is asked for tells."""
    if f"'{declaration.name}'" in detail and not isinstance(declaration, BindingDeclaration):
        dead_lettered = "x-dead-letter-exchange" in declaration.arguments
        return "configure or read" if dead_lettered else "configure"
    if isinstance(declaration, BindingDeclaration):
        return "read" if f"'{declaration.source}'" in detail else "write"
    return "write"
