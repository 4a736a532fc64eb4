"""``migrate``: changes in place what RabbitMQ does not change in place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import dataclass

import pika

from attune_mq.amqp.connecting import close_quietly, open_connection, our_errors
from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.broker.inspection import QueueCounts
from attune_mq.broker.management import ManagementClient, management_client
from attune_mq.broker.report import MissingInfrastructure
from attune_mq.message.synchronous import check_synchronous
from attune_mq.migration.control import Control, StepRefused
from attune_mq.migration.exchange_migration import ExchangeJob, ExchangeMigration
from attune_mq.migration.held import DEFAULT_STATISTICS_AGE_S, ByManagement, BySettling, Held
from attune_mq.migration.jobs import Job, Look, Shape, look_for_jobs
from attune_mq.migration.policies import Policies, read_policies
from attune_mq.migration.progress import Progress
from attune_mq.migration.queue_job import NotMigrated
from attune_mq.migration.queue_migration import QueueMigration
from attune_mq.migration.report import Migrated, Migration, Planned, Skipped
from attune_mq.migration.scaffold import Scaffold
from attune_mq.migration.survey import Obstacle, Survey, SurveyByAmqp, SurveyByManagement
from attune_mq.publishing.publisher import Publisher
from attune_mq.topology.declarations import BindingDeclaration, declarations
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import ExpandedTopology, Topology, UnknownName
from attune_mq.topology_file import load_topology

DEFAULT_PATIENCE_S = 600.0


@dataclass(frozen=True)
class Patience:
    """``settle_s``: no consumer holds a message for longer than this, somebody promises; it counts
    where there is no HTTP API. ``limit_s``: how long one queue may fail to get empty.
    ``statistics_age_s``: how late the HTTP API may be."""

    settle_s: float | None = None
    limit_s: float = DEFAULT_PATIENCE_S
    statistics_age_s: float = DEFAULT_STATISTICS_AGE_S


DEFAULT_PATIENCE = Patience()


def migrate(
    topology: Topology | str | os.PathLike[str] | None = None,
    broker: BrokerSettings | str | None = None,
    *,
    names: Sequence[str] = (),
    management_url: str | None = None,
    dry_run: bool = False,
    patience: Patience = DEFAULT_PATIENCE,
    accept_loss: bool = False,
    on_plan: Callable[[tuple[Planned, ...]], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Migration:
    """Makes queues and exchanges that are there with other properties as the topology says, while
    publishers go on publishing and consumers go on consuming.

    ``names``: of queues and exchanges, on the broker or their keys in the file; all of the file
    unless given. ``management_url``: of RabbitMQ's HTTP API, which tells what consumers hold, which
    bindings there are that the file does not have, and which policies hold: a queue is skipped
    where one of them would cost messages. Without it policies are not seen; a queue that has
    consumers is skipped, unless ``patience.settle_s`` says after how long they hold nothing any
    more; and bindings that are not in the file are gone with the old queue or exchange.
    ``accept_loss``: go on where an earlier call stopped since messages are missing, and take them
    for lost. ``on_plan`` is called with all that is to be done before anything is.

    What is missing is set up first. Exchanges come before queues, one after the other. A call that
    ended early, killed included, is taken up by the next, from any process; two at once exclude
    each other. Each message is confirmed where it goes, and counted there by the broker, before it
    is acknowledged where it was; all are counted again before a queue is deleted.
    A message could be lost in these cases: a consumer holds one for longer than ``settle_s`` and
    then dies; a service that is stopping has cancelled its consumer, still holds one, and dies,
    with neither ``management_url`` nor ``settle_s``; a program that seldom publishes straight to a
    queue, by the default exchange, does so in the milliseconds of its deletion; one ignores the 404
    of an exchange that is not there for a moment; the broker is killed just then.
    ``docs/migrating.md`` has all of them, and what of a message survives.

    Raises :class:`~attune_mq.migration.conservation.CountMismatch` where messages are missing: then
    what was set aside is kept, and a further call raises it again. Raises ``InvalidInput``
    (:class:`~attune_mq.topology.model.UnknownName` for a name that the file does not have),
    ``BrokerUnavailable``, ``PermissionRefused``, ``PublishError``, and
    :class:`~attune_mq.broker.report.MissingInfrastructure` for what cannot be set up. What was
    begun is then unfinished, and no message is lost.
    """
    check_synchronous(on_plan, "on_plan")
    check_synchronous(on_progress, "on_progress")
    wanted = expand(topology if isinstance(topology, Topology) else load_topology(topology))
    shapes = _selected(wanted, names)
    settings = BrokerSettings.of(broker)
    client = management_client(management_url, settings) if management_url is not None else None
    migrating = _Migrating(wanted, settings, client, patience, on_progress, accept_loss=accept_loss)
    with _connected(settings) as connection:
        with closing(_survey(settings, client)) as survey:
            found, jobs = look_for_jobs(wanted, shapes, survey)
        planned = tuple(_planned(job, Control(connection)) for job in jobs)
        on_plan(planned)
        outcomes = [] if dry_run else list(migrating.each(jobs, connection))
    return Migration.of(planned, [*_skipped(found, are_named=bool(names)), *outcomes])


def _selected(wanted: ExpandedTopology, names: Sequence[str]) -> tuple[Shape, ...]:
    """In the order of the file."""
    shapes = [one for one in declarations(wanted) if not isinstance(one, BindingDeclaration)]
    known = {one.name for one in shapes} | {str(one.path[-1]) for one in shapes}
    for name in names:
        if name not in known:
            raise UnknownName(
                f"{wanted.sources.file}: expected a queue or an exchange, by its name on the "
                f"broker or its key in the file, got {name!r}; there are: "
                f"{', '.join(one.name for one in shapes)}"
            )
    if not names:
        return tuple(shapes)
    return tuple(one for one in shapes if one.name in names or one.path[-1] in names)


@contextmanager
def _connected(settings: BrokerSettings) -> Iterator[pika.BlockingConnection]:
    connection = open_connection(settings, name="attune_mq migrate")
    try:
        with our_errors(settings):
            yield connection
    finally:
        close_quietly(connection)


def _survey(settings: BrokerSettings, client: ManagementClient | None) -> Survey:
    if client is None:
        return SurveyByAmqp(settings)
    return SurveyByManagement(client, virtual_host(settings.urls[0]))


def _planned(job: Job, control: Control) -> Planned:
    if isinstance(job, ExchangeJob):
        return Planned("exchange", job.name, job.differences, job.unfinished)
    counts = control.counts(job.name) or QueueCounts(0, 0)
    return Planned("queue", job.name, job.differences, job.unfinished, *counts)


def _skipped(found: Iterable[Look], *, are_named: bool) -> Iterator[Skipped]:
    for one in found:
        if isinstance(one, Obstacle):
            yield Skipped(one.wanted.kind, one.wanted.name, one.why)
        elif are_named and not one.needs_migration:
            there = "it is as the file says" if one.current else "it is not there"
            why = f"nothing to do: {there}"
            yield Skipped(one.wanted.kind, one.wanted.name, why, differs=False)


class _Migrating:
    def __init__(
        self,
        wanted: ExpandedTopology,
        settings: BrokerSettings,
        client: ManagementClient | None,
        patience: Patience,
        on_progress: Callable[[Progress], None],
        *,
        accept_loss: bool,
    ) -> None:
        self._accept_loss = accept_loss
        self._vhost = virtual_host(settings.urls[0])
        self._wanted = wanted
        self._settings = settings
        self._client = client
        self._patience = patience
        self._on_progress = on_progress

    def each(
        self, jobs: Sequence[Job], connection: pika.BlockingConnection
    ) -> Iterator[Migrated | Skipped]:
        if not jobs:
            return
        self._set_up({job.name for job in jobs})
        with Publisher(self._wanted, self._settings, source_service="attune_mq migrate") as sender:
            for job in jobs:
                yield self._locked(job, connection, sender)

    def _set_up(self, names: Set[str]) -> None:
        """What is missing, such as a new dead letter exchange. What is missing because its
        migration was ended just then is made by that."""
        try:
            setup_infrastructure(self._wanted, self._settings)
        except MissingInfrastructure as error:
            if not {one.declaration.name for one in error.report.absent} <= names:
                raise

    def _locked(
        self, job: Job, connection: pika.BlockingConnection, publisher: Publisher
    ) -> Migrated | Skipped:
        scaffold = Scaffold(job.name)
        if scaffold.is_too_long:
            return Skipped(
                job.wanted.kind, job.name, "its name is too long for a scaffold beside it"
            )
        control = Control(connection)
        if not control.lock(scaffold.lock):
            return Skipped(job.wanted.kind, job.name, "another process is migrating it")
        try:
            fresh = self._look_again(job)
            if isinstance(fresh, Skipped):
                return fresh
            return self._migrate(fresh, connection, publisher)
        except (NotMigrated, StepRefused) as error:
            return Skipped(job.wanted.kind, job.name, str(error))
        finally:
            if connection.is_open:
                control.unlock(scaffold.lock)

    def _look_again(self, job: Job) -> Job | Skipped:
        """Another process may have migrated it before the lock was ours."""
        with closing(_survey(self._settings, self._client)) as survey:
            [found], jobs = look_for_jobs(self._wanted, [job.wanted], survey)
        if jobs:
            return jobs[0]
        if isinstance(found, Obstacle):
            return Skipped(job.wanted.kind, job.name, found.why)
        return Skipped(job.wanted.kind, job.name, "another process did", differs=False)

    def _migrate(
        self, job: Job, connection: pika.BlockingConnection, publisher: Publisher
    ) -> Migrated:
        if isinstance(job, ExchangeJob):
            return ExchangeMigration(job, connection, on_progress=self._on_progress).run()
        return QueueMigration(
            job,
            connection,
            publisher,
            held_by=lambda consumers: self._held(job.name, consumers),
            policies=self._policies,
            patience_s=self._patience.limit_s,
            accept_loss=self._accept_loss,
            on_progress=self._on_progress,
        ).run()

    def _policies(self) -> Policies | None:
        return None if self._client is None else read_policies(self._client, self._vhost)

    def _held(self, queue: str, consumers: int) -> Held | None:
        """What tells what consumers hold, those included that have cancelled and still work;
        ``None`` where nothing does, and there are no consumers."""
        if self._client is not None:
            return ByManagement(self._client, self._vhost, queue, self._patience.statistics_age_s)
        if self._patience.settle_s is not None:
            return BySettling(self._patience.settle_s)
        if consumers:
            raise NotMigrated(
                f"it has consumers ({consumers}), and AMQP does not tell which messages they hold, "
                f"which would be gone with it: give --management-url; or stop them; or say with "
                f"--settle how long they hold a message at most"
            )
        return None
