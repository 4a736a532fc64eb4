"""``setup_infrastructure``: what every service calls when it starts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, MutableSet, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, TypeVar

import pika

import attune_mq.broker.observation as observation
import attune_mq.broker.report as outcomes
from attune_mq.amqp.connection import Connection
from attune_mq.amqp.probe_channel import ProbeChannel
from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.declaring import Declarer, Migrations
from attune_mq.broker.management import ManagementClient, management_client
from attune_mq.broker.planning import steps_of, wanted_by
from attune_mq.broker.probing import HIDDEN, Prober
from attune_mq.errors import InvalidInput
from attune_mq.topology.declaration import (
    BindingDeclaration,
    Declaration,
    ExchangeDeclaration,
    QueueDeclaration,
    declarations,
)
from attune_mq.topology.equivalence import Equal, binding_identity
from attune_mq.topology.model import ExpandedTopology
from attune_mq.topology.selection import needed_by, services
from attune_mq.topology_file import TopologySource

logger: logging.Logger = logging.getLogger(__name__)

MOST_CONNECTIONS = 8
ENOUGH = 100
"""Declarations that are worth a further connection."""
ANSWERED_WITHIN_S = 30.0
"""How long the broker may take over one question, or over some that are there already."""


Broker = Connection | pika.BlockingConnection | BrokerSettings | str | None


def setup_infrastructure(
    topology: TopologySource = None,
    broker: Broker = None,
    *,
    service: str | None = None,
    required_by: str | None = None,
    mode: Literal["create", "verify"] = "create",
    on_conflict: Literal["warn", "fail"] = "warn",
    management_url: str | None = None,
) -> outcomes.SetupReport:
    """Makes what the topology says and the broker lacks; changes nothing that is there.

    ``topology``: a topology, the path of a file, or nothing for the default file. One instance of
    a family is set up as ``instantiate(topology, "worker", worker_id=7)``.
    ``broker``: an open connection (which stays open, unless the broker does not answer on it for
    :data:`ANSWERED_WITHIN_S`; used from the thread that owns it), a URL, settings, or nothing for
    what the environment says.
    ``service``: only what that service needs, see :func:`~attune_mq.topology.selection.needed_by`.
    ``required_by``: everything is set up, but of what cannot be made only that counts as missing
    which this service needs; the rest is a warning. So a service can run with the permissions that
    it needs itself. A name that the file does not have needs everything.
    ``mode="verify"`` creates nothing, ever: it compares, which takes the permission configure, and
    without it knows only that something is there.
    ``on_conflict="fail"`` raises on an object that exists with other properties; otherwise it is
    a warning, as is a missing permission to declare what exists, and start goes on.
    ``management_url``: of RabbitMQ's HTTP API, which lists the bindings that there are; ``broker``
    is a URL or settings then. Without it a binding that was declared is ``ensured``, not
    ``unchanged`` or ``created``, and one that was stored with wider integers than AMQP sends (by an
    import of definitions) gets a second one beside it.

    Calling it again, or from many services at once, does no harm: a second run finds everything
    there. No message is touched by it. A queue that is being migrated, and its bindings, are left
    to the migration.

    Raises :class:`~attune_mq.broker.report.MissingInfrastructure` where something that is needed
    does not exist and cannot be made, naming each; with ``on_conflict="fail"``
    :class:`~attune_mq.broker.report.ConflictingInfrastructure`; ``BrokerUnavailable``,
    ``PermissionRefused``; and ``InvalidInput`` for a file or URL that is wrong.
    All objects are tried before anything is raised, and the error carries the report.
    """
    whole = wanted_by(service, topology)
    logger.info("Setting up RabbitMQ infrastructure")
    report = outcomes.SetupReport(tuple(_outcomes(whole, broker, mode, management_url)))
    _log(report)
    if on_conflict == "fail" and report.conflicts:
        raise outcomes.ConflictingInfrastructure(report)
    absent = {(one.declaration.kind, one.declaration.name): one for one in report.absent}
    if absent.keys() & _required(whole, required_by):
        raise outcomes.MissingInfrastructure(report)
    for one in absent.values():
        logger.warning("Only other services need this: %s", one)
    return report


def _required(wanted: ExpandedTopology, service: str | None) -> set[tuple[str, str]]:
    """Kind and name of each object that has to be there."""
    if service is not None and service in services(wanted):
        wanted = needed_by(wanted, service)
    return {(one.kind, one.name) for one in declarations(wanted)}


def _log(report: outcomes.SetupReport) -> None:
    for conflict in report.conflicts:
        logger.warning("Conflict: %s", conflict)
    for refused in report.refused:
        logger.warning("Refused: %s", refused)
    logger.info(
        "RabbitMQ infrastructure: %d created, %d unchanged, %d ensured",
        len(report.created),
        len(report.unchanged),
        len(report.ensured),
    )


Work = Callable[[Sequence[Declaration]], list[outcomes.Outcome]]
"""What is done to some of the objects, on one connection."""

B = TypeVar("B", bound=Declaration)


def _outcomes(
    wanted: ExpandedTopology,
    broker: Broker,
    mode: Literal["create", "verify"],
    management_url: str | None,
) -> list[outcomes.Outcome]:
    """On several connections where it is much: the broker takes as long over each, and does more
    than one at a time. Bindings last, for what they bind has to be there."""
    every = list(declarations(wanted))
    objects = [one for one in every if not isinstance(one, BindingDeclaration)]
    bindings = [one for one in every if isinstance(one, BindingDeclaration)]
    bound = _Bound(broker, management_url)
    known: set[tuple[str, str]] = set()  # what was created, or is missing
    with ExitStack() as stack:
        works: list[Work] = []
        for asker in _askers(broker, min(MOST_CONNECTIONS, 1 + len(every) // ENOUGH)):
            of_asker = stack.enter_context(asker), wanted, known, bound.verdict
            verifies = mode == "verify"
            works.append(_Verifier(*of_asker).all if verifies else Declarer(*of_asker).ensure_all)
        found = _by_identity(objects, _side_by_side(works, objects))
        bound.look()
        listed = [one for one in bindings if bound.verdict(one) == Equal()]
        there = [outcomes.Unchanged(one, wanted.where(*one.path)) for one in listed]
        found |= _by_identity(listed, there)
        others = [one for one in bindings if id(one) not in found]
        found |= _by_identity(others, _side_by_side(works, others))
    return [found[id(one)] for one in every]


def _by_identity(
    wanted: Sequence[B], found: Iterable[outcomes.Outcome]
) -> dict[int, outcomes.Outcome]:
    return dict(zip(map(id, wanted), found, strict=True))


def _side_by_side(
    works: Sequence[Work], wanted: Sequence[Declaration]
) -> Iterator[outcomes.Outcome]:
    if len(works) == 1:
        yield from works[0](wanted)
        return
    share = -(-len(wanted) // len(works))
    shares = [wanted[i * share : (i + 1) * share] for i in range(len(works))]
    with ThreadPoolExecutor(len(works), thread_name_prefix="attune_mq setup") as threads:
        for found in threads.map(lambda work, part: work(part), works, shares):
            yield from found


class _Bound:
    """Which bindings there were before any was made, where the HTTP API tells."""

    def __init__(self, broker: Broker, management_url: str | None) -> None:
        self._identities: frozenset[Hashable] | None = None
        self._client: ManagementClient | None = None
        if management_url is not None:
            if isinstance(broker, Connection | pika.BlockingConnection):
                raise InvalidInput(
                    "management_url: expected the broker as a URL or settings beside it, got an "
                    "open connection"
                )
            settings = BrokerSettings.of(broker)
            self._vhost = virtual_host(settings.urls[0])
            self._client = management_client(management_url, settings)

    def look(self) -> None:
        if self._client is not None:
            listed = observation.listed_bindings(self._client, self._vhost)
            self._identities = frozenset(binding_identity(one) for one in listed)

    def verdict(self, binding: BindingDeclaration) -> observation.Verdict:
        if self._identities is None:
            return observation.BINDINGS_NOT_LISTED
        return observation.listed_binding(binding, self._identities)


def _askers(broker: Broker, count: int) -> Iterator[ProbeChannel]:
    """``count`` connections of our own, opened when they are needed; or the one that was given."""
    if isinstance(broker, Connection | pika.BlockingConnection):
        count = 1
    else:
        broker = BrokerSettings.of(broker)
    for _ in range(count):
        yield ProbeChannel(broker, name="attune_mq setup", answer_within_s=ANSWERED_WITHIN_S)


@dataclass
class _Verifier:
    """On one connection. ``missing``: kind and name of what is not there, shared by all that verify
    one topology. ``is_there``: whether a binding is, as far as is known.

    Makes nothing, not even in a race. Each exchange that is there costs a line in the broker's log,
    see :mod:`~attune_mq.broker.probing`.
    """

    asker: ProbeChannel
    topology: ExpandedTopology
    missing: MutableSet[tuple[str, str]]
    is_there: Callable[[BindingDeclaration], observation.Verdict]

    def __post_init__(self) -> None:
        self._prober = Prober(self.asker)
        self._migrations = Migrations(self.asker)

    def all(self, wanted: Sequence[Declaration]) -> list[outcomes.Outcome]:
        """One outcome for each, in order."""
        return [self._outcome(one, self._verdict(one)) for one in wanted]

    def _verdict(self, wanted: Declaration) -> observation.Verdict:
        match wanted:
            case BindingDeclaration(source, destination, destination_type):
                if destination_type == "queue" and self._migrations.has(destination):
                    return observation.Indeterminate(
                        "its queue is being migrated, and its bindings with it"
                    )
                ends = {("exchange", source), (destination_type, destination)}
                return observation.Absent() if ends & self.missing else self.is_there(wanted)
            case ExchangeDeclaration() | QueueDeclaration():
                verdict = self._prober.seen(wanted)
                if verdict == observation.Absent():
                    self.missing.add((wanted.kind, wanted.name))
                elif isinstance(wanted, QueueDeclaration) and self._migrations.has(wanted.name):
                    return observation.Indeterminate("it is being migrated, and was not compared")
                return verdict

    def _outcome(self, wanted: Declaration, verdict: observation.Verdict) -> outcomes.Outcome:
        if verdict == HIDDEN:
            where = self.topology.where(*wanted.path)
            return outcomes.Refused(wanted, where, "some", HIDDEN.detail, exists=None)
        match next(steps_of(self.topology, wanted, verdict)):
            case outcomes.Create(declaration, where):
                return outcomes.Missing(declaration, where, "nothing was created, as asked")
            case outcomes.Ignored():
                raise AssertionError("what is ignored follows what is unchanged")
            case step:
                return step
