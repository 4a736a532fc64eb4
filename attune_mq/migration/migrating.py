"""``migrate``: changes in place what RabbitMQ does not change in place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import closing
from dataclasses import dataclass

import pika

from attune_mq.broker.amqp import close_quietly, open_connection, our_errors
from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.broker.inspection import QueueCounts
from attune_mq.broker.management import ManagementClient, management_client
from attune_mq.broker.report import MissingInfrastructure
from attune_mq.broker.settings import BrokerSettings, virtual_host
from attune_mq.messaging.publisher import Publisher
from attune_mq.migration.control import Control, StepRefused
from attune_mq.migration.held import (
    DEFAULT_STATISTICS_AGE_S,
    ByManagement,
    BySettling,
    Held,
)
from attune_mq.migration.queue_migration import (
    Job,
    Migrated,
    NotMigrated,
    Progress,
    QueueMigration,
)
from attune_mq.migration.scaffold import Scaffold
from attune_mq.migration.survey import (
    Found,
    Obstacle,
    Survey,
    SurveyByAmqp,
    SurveyByManagement,
)
from attune_mq.topology.declarations import (
    BindingDeclaration,
    QueueDeclaration,
    declarations,
)
from attune_mq.topology.equivalence import Difference, binding_identity
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import Topology, UnknownName
from attune_mq.topology_file import load_topology

DEFAULT_PATIENCE_S = 600.0


@dataclass(frozen=True)
class Planned:
    """What is to be done about one queue. ``unfinished``: it was begun before, and goes on."""

    queue: str
    differences: tuple[Difference, ...]
    messages: int
    consumers: int
    unfinished: bool


@dataclass(frozen=True)
class Skipped:
    """``differs``: it is not as the topology says, and stays so."""

    queue: str
    why: str
    differs: bool = True


@dataclass(frozen=True)
class Migration:
    """``planned`` is what was to be done before anything was; each of it is in ``migrated`` or in
    ``skipped`` afterwards, unless it was a dry run."""

    planned: tuple[Planned, ...]
    migrated: tuple[Migrated, ...]
    skipped: tuple[Skipped, ...]

    @property
    def unresolved(self) -> bool:
        """Whether some queue still differs after it."""
        return any(one.differs for one in self.skipped)


@dataclass(frozen=True)
class Patience:
    """``settle_s``: no consumer holds a message for longer than this, somebody promises; it counts
    where there is no HTTP API. ``limit_s``: how long one queue may fail to get empty.
    ``statistics_age_s``: how late the HTTP API may be."""

    settle_s: float | None = None
    limit_s: float = DEFAULT_PATIENCE_S
    statistics_age_s: float = DEFAULT_STATISTICS_AGE_S


def migrate(
    topology: Topology | str | os.PathLike[str] | None = None,
    broker: BrokerSettings | str | None = None,
    *,
    queues: Sequence[str] = (),
    management_url: str | None = None,
    dry_run: bool = False,
    patience: Patience = Patience(),
    on_plan: Callable[[tuple[Planned, ...]], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Migration:
    """Makes queues that are there with other properties as the topology says, while publishers go
    on publishing and consumers go on consuming.

    ``queues``: by their names on the broker or their keys in the file; all of the file unless
    given. ``management_url``: of RabbitMQ's HTTP API, which tells what consumers hold and which
    bindings there are that the file does not have. Without it a queue that has consumers is
    skipped, unless ``patience.settle_s`` says after how long they hold nothing any more, and
    bindings that are not in the file are gone with the old queue.

    What is missing is set up first. Queues are migrated one after the other. A call that ended
    early, killed included, is taken up by the next, from any process; two at once exclude each
    other. Each message is confirmed where it goes before it is acknowledged where it was.
    ``docs/migrating.md`` says what survives, and in which cases a message can be lost or doubled:
    a consumer that holds one for longer than ``settle_s`` and then dies; a program that publishes
    straight to the queue, not mandatory, in the moment in which there is none.

    Raises ``InvalidInput`` (:class:`~attune_mq.topology.model.UnknownName` for a queue that the
    file does not have), ``BrokerUnavailable``, ``PermissionRefused``, ``PublishError``, and
    :class:`~attune_mq.broker.report.MissingInfrastructure` for what cannot be set up. What was
    begun is then unfinished, and no message is lost.
    """
    wanted = expand(topology if isinstance(topology, Topology) else load_topology(topology))
    settings = BrokerSettings.of(broker)
    return _Migrating(wanted, settings, management_url, patience, on_progress).run(
        _selected(wanted, queues), named=bool(queues), dry_run=dry_run, on_plan=on_plan
    )


def _selected(wanted: Topology, names: Sequence[str]) -> tuple[QueueDeclaration, ...]:
    """In the order of the file."""
    queues = [one for one in declarations(wanted) if isinstance(one, QueueDeclaration)]
    if not names:
        return tuple(queues)
    known = {one.name for one in queues} | {str(one.path[-1]) for one in queues}
    for name in names:
        if name not in known:
            raise UnknownName(
                f"{wanted.sources.file} queues: expected {name!r}, by its name on the broker or "
                f"its key in the file, found only: {', '.join(one.name for one in queues)}"
            )
    return tuple(one for one in queues if one.name in names or one.path[-1] in names)


class _Migrating:
    def __init__(
        self,
        wanted: Topology,
        settings: BrokerSettings,
        management_url: str | None,
        patience: Patience,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._wanted = wanted
        self._settings = settings
        self._vhost = virtual_host(settings.urls[0])
        self._client: ManagementClient | None = None
        if management_url is not None:
            self._client = management_client(management_url, settings)
        self._patience = patience
        self._on_progress = on_progress

    def run(
        self,
        queues: Iterable[QueueDeclaration],
        *,
        named: bool,
        dry_run: bool,
        on_plan: Callable[[tuple[Planned, ...]], None],
    ) -> Migration:
        """``named``: what needs nothing is to be mentioned."""
        connection = open_connection(self._settings, name="attune_mq migrate")
        try:
            with our_errors(self._settings), closing(self._survey()) as survey:
                found = [survey.find(queue) for queue in queues]
                skipped = tuple(_skipped(found, named=named))
                jobs = [
                    self._job(one, survey)
                    for one in found
                    if isinstance(one, Found) and _needs_migration(one)
                ]
                planned = tuple(_planned(job, Control(connection)) for job in jobs)
                on_plan(planned)
                outcomes = () if dry_run else tuple(self._each(jobs, connection))
        finally:
            close_quietly(connection)
        return Migration(
            planned,
            tuple(one for one in outcomes if isinstance(one, Migrated)),
            skipped + tuple(one for one in outcomes if isinstance(one, Skipped)),
        )

    def _survey(self) -> Survey:
        if self._client is None:
            return SurveyByAmqp(self._settings)
        return SurveyByManagement(self._client, self._vhost)

    def _job(self, found: Found, survey: Survey) -> Job:
        of_file = [
            one
            for one in declarations(self._wanted)
            if isinstance(one, BindingDeclaration)
            and (one.destination_type, one.destination) == ("queue", found.wanted.name)
        ]
        bindings = {
            binding_identity(one): one for one in (*survey.bindings(found.wanted.name), *of_file)
        }
        return Job(
            found.wanted,
            found.current,
            tuple(bindings.values()),
            found.differences,
            unfinished=found.unfinished,
        )

    def _each(
        self, jobs: Sequence[Job], connection: pika.BlockingConnection
    ) -> Iterator[Migrated | Skipped]:
        if not jobs:
            return
        self._set_up({job.name for job in jobs})
        with Publisher(self._wanted, self._settings, source_service="attune_mq migrate") as sender:
            for job in jobs:
                yield self._one(job, connection, sender)

    def _set_up(self, migrated: Set[str]) -> None:
        """What is missing, such as a new dead letter exchange. A queue whose migration was ended
        while it was not there is made by that."""
        try:
            setup_infrastructure(self._wanted, self._settings)
        except MissingInfrastructure as error:
            missing = {one.declaration.name for one in error.report.missing}
            if not missing <= migrated:
                raise

    def _one(
        self, job: Job, connection: pika.BlockingConnection, publisher: Publisher
    ) -> Migrated | Skipped:
        control, scaffold = Control(connection), Scaffold(job.name)
        if not control.lock(scaffold.lock):
            return Skipped(job.name, "another process is migrating it")
        migration = QueueMigration(
            job,
            connection,
            publisher,
            held_by=lambda consumers: self._held(job.name, consumers),
            patience_s=self._patience.limit_s,
            on_progress=self._on_progress,
        )
        try:
            return migration.run()
        except (NotMigrated, StepRefused) as error:
            return Skipped(job.name, str(error))
        finally:
            if connection.is_open:
                control.unlock(scaffold.lock)

    def _held(self, queue: str, consumers: int) -> Held | None:
        """What tells what consumers hold; ``None`` where nobody holds anything."""
        if self._client is not None:
            if not consumers and not self._client.unacknowledged(self._vhost, queue):
                return None
            return ByManagement(self._client, self._vhost, queue, self._patience.statistics_age_s)
        if not consumers:
            return None
        if self._patience.settle_s is None:
            raise NotMigrated(
                f"it has {consumers} consumers, and AMQP does not tell which messages they hold, "
                f"which would be gone with it: give --management-url; or stop them first; or say "
                f"with --settle how long they hold one at most"
            )
        return BySettling(self._patience.settle_s)


def _needs_migration(found: Found) -> bool:
    return bool(found.differences) or found.unfinished


def _skipped(found: Iterable[Found | Obstacle], *, named: bool) -> Iterator[Skipped]:
    for one in found:
        if isinstance(one, Obstacle):
            yield Skipped(one.wanted.name, one.why)
        elif named and not _needs_migration(one):
            there = "it is as the file says" if one.current else "it is not there"
            yield Skipped(one.wanted.name, f"nothing to do: {there}", differs=False)


def _planned(job: Job, control: Control) -> Planned:
    counts = control.counts(job.name) or QueueCounts(0, 0)
    return Planned(
        job.name, job.differences, counts.messages, counts.consumers, unfinished=job.unfinished
    )
