"""``setup_infrastructure``: what every service calls when it starts."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pika

from attune_mq.broker.amqp import our_errors
from attune_mq.broker.asking import Asker
from attune_mq.broker.declaring import (
    Declarer,
    bind_queue as bind_queue,
    declare_queue as declare_queue,
)
from attune_mq.broker.report import (
    ConflictingInfrastructure,
    MissingInfrastructure,
    Outcome,
    SetupReport,
)
from attune_mq.broker.settings import BrokerSettings
from attune_mq.topology.declarations import (
    BindingDeclaration,
    Declaration,
    declarations,
)
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import Topology
from attune_mq.topology.selection import needed_by, services
from attune_mq.topology_file import load_topology

logger = logging.getLogger(__name__)

MOST_CONNECTIONS = 8
ENOUGH = 100
"""Declarations that are worth a further connection."""


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
    report = SetupReport(tuple(_ensure_all(wanted, broker, verify_only=mode == "verify")))
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


def _ensure_all(
    wanted: Topology,
    broker: pika.BlockingConnection | BrokerSettings | str | None,
    *,
    verify_only: bool,
) -> list[Outcome]:
    """On several connections where it is much: the broker takes as long over each, and does more
    than one at a time. Bindings last, for what they bind has to be there."""
    every = list(declarations(wanted))
    objects = [one for one in every if not isinstance(one, BindingDeclaration)]
    bindings = [one for one in every if isinstance(one, BindingDeclaration)]
    with _Askers(broker, min(MOST_CONNECTIONS, 1 + len(every) // ENOUGH)) as askers:
        made: set[tuple[str, str]] = set()
        declarers = [
            Declarer(asker, wanted, made, verify_only=verify_only) for asker in askers.askers
        ]
        with our_errors(askers.settings):
            found = [*_side_by_side(declarers, objects), *_side_by_side(declarers, bindings)]
    by_declaration = dict(zip(map(id, [*objects, *bindings]), found, strict=True))
    return [by_declaration[id(one)] for one in every]


def _side_by_side(declarers: list[Declarer], wanted: Sequence[Declaration]) -> Iterator[Outcome]:
    if len(declarers) == 1:
        yield from declarers[0].ensure_all(wanted)
        return
    share = -(-len(wanted) // len(declarers))
    shares = [wanted[i * share : (i + 1) * share] for i in range(len(declarers))]
    with ThreadPoolExecutor(len(declarers), thread_name_prefix="attune_mq setup") as threads:
        for outcomes in threads.map(Declarer.ensure_all, declarers, shares):
            yield from outcomes


class _Askers(contextlib.ExitStack):
    """``count`` connections of our own, opened when they are needed; or the one that was given."""

    def __init__(
        self, broker: pika.BlockingConnection | BrokerSettings | str | None, count: int
    ) -> None:
        super().__init__()
        if isinstance(broker, pika.BlockingConnection):
            self.settings = BrokerSettings()
            self.askers = [Asker(broker, name="attune_mq setup")]
        else:
            settings = self.settings = BrokerSettings.of(broker)
            self.askers = [Asker(settings, name="attune_mq setup") for _ in range(count)]
        for asker in self.askers:
            self.callback(asker.close)
