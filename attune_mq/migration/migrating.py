"""``migrate``: changes in place what RabbitMQ does not change in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing

from attune_mq.amqp.connection import Connection
from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.broker.inspection import QueueCounts
from attune_mq.broker.management import management_client
from attune_mq.broker.report import MissingInfrastructure
from attune_mq.message.synchronous import check_synchronous
from attune_mq.migration.context import MigrationContext, MigrationTimeouts
from attune_mq.migration.control import Control, StepRefused
from attune_mq.migration.exchange_migration import migrate_exchange
from attune_mq.migration.queue_migration import QueueMigration
from attune_mq.migration.report import (
    Migrated,
    Migration,
    NotMigrated,
    Planned,
    Progress,
    Skipped,
)
from attune_mq.migration.survey import (
    Declared,
    ExchangeJob,
    Found,
    Job,
    QueueJob,
    find_jobs,
    surveying,
)
from attune_mq.migration.temporary_topology import TemporaryNames
from attune_mq.publishing.publisher import Publisher
from attune_mq.topology.declaration import BindingDeclaration, declarations
from attune_mq.topology.expansion import expand
from attune_mq.topology.model import ExpandedTopology, UnknownName
from attune_mq.topology_file import TopologySource, topology_from

DEFAULT_TIMEOUTS = MigrationTimeouts()
_NAME = "attune_mq migrate"


def migrate(
    topology: TopologySource = None,
    broker: BrokerSettings | str | None = None,
    *,
    names: Sequence[str] = (),
    management_url: str | None = None,
    dry_run: bool = False,
    timeouts: MigrationTimeouts = DEFAULT_TIMEOUTS,
    accept_loss: bool = False,
    on_plan: Callable[[tuple[Planned, ...]], None] = lambda _: None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Migration:
    """Redeclares queues and exchanges that exist with other properties than the topology says,
    while publishers go on publishing and consumers go on consuming.

    ``names``: of queues and exchanges, on the broker or their keys in the file; all of the file
    unless given. ``management_url``: of RabbitMQ's HTTP API, which says how many messages are
    unacknowledged, which bindings the broker has beside those of the file, and which policies
    apply: a queue is skipped where one of them would lose messages. Without it policies are not
    seen; a queue that has consumers is skipped, unless ``timeouts.settle_s`` says after how long
    they hold no message any more; and bindings that are not in the file are lost with the old queue
    or exchange. ``accept_loss``: continue where an earlier call stopped since messages are missing,
    and accept their loss. ``on_plan`` is called with the whole plan before anything is changed.

    What is missing is set up first. Exchanges come before queues, one after the other. A call that
    was interrupted, killed included, is continued by the next, from any process; two at once
    exclude each other. Each message is confirmed in its new queue, and counted there by the broker,
    before it is acknowledged in its old one; all are counted again before a queue is deleted.
    A message could be lost in these cases: a consumer holds one for longer than ``settle_s`` and
    then dies; a service that is stopping has cancelled its consumer, still holds one, and dies,
    with neither ``management_url`` nor ``settle_s``; a program that seldom publishes straight to a
    queue, by the default exchange, does so in the milliseconds of its deletion; one ignores the 404
    of an exchange that does not exist for a moment; the broker is killed at that moment.
    ``docs/migrating.md`` has all of them, and what of a message is kept.

    Raises :class:`~attune_mq.migration.report.CountMismatch` where messages are missing: then the
    temporary queues are kept, and a further call raises it again. Raises ``InvalidInput``
    (:class:`~attune_mq.topology.model.UnknownName` for a name that the file does not have),
    ``BrokerUnavailable``, ``PermissionRefused``, ``PublishError``, and
    :class:`~attune_mq.broker.report.MissingInfrastructure` for what cannot be set up. A migration
    that had begun is then unfinished, and no message is lost.
    """
    check_synchronous(on_plan, "on_plan")
    check_synchronous(on_progress, "on_progress")
    wanted = expand(topology_from(topology))
    selected = _selected(wanted, names)
    settings = BrokerSettings.of(broker)
    client = management_client(management_url, settings) if management_url is not None else None
    with closing(Connection.open(settings, name=_NAME)) as connection:
        control = Control(connection)
        with surveying(settings, client) as survey:
            found, jobs = find_jobs(wanted, selected, survey)
        planned = tuple(_planned(job, control) for job in jobs)
        on_plan(planned)
        migrated: list[Migrated] = []
        skipped = list(_skipped(found, are_named=bool(names)))
        if jobs and not dry_run:
            _set_up(wanted, settings, jobs)
            with Publisher(wanted, settings, source_service=_NAME) as publisher:
                context = MigrationContext(
                    connection, control, publisher, client, virtual_host(settings.urls[0]),
                    timeouts, accept_loss, on_progress,
                )  # fmt: skip
                for job in jobs:
                    outcome = _migrate_if_free(wanted, settings, job, context)
                    if isinstance(outcome, Skipped):
                        skipped.append(outcome)
                    else:
                        migrated.append(outcome)
    return Migration(planned, tuple(migrated), tuple(skipped))


def _selected(wanted: ExpandedTopology, names: Sequence[str]) -> tuple[Declared, ...]:
    """In the order of the file."""
    declared = [one for one in declarations(wanted) if not isinstance(one, BindingDeclaration)]
    known = {one.name for one in declared} | {str(one.path[-1]) for one in declared}
    for name in names:
        if name not in known:
            raise UnknownName(
                f"{wanted.sources.file}: expected a queue or an exchange, by its name on the "
                f"broker or its key in the file, got {name!r}; there are: "
                f"{', '.join(one.name for one in declared)}"
            )
    if not names:
        return tuple(declared)
    return tuple(one for one in declared if one.name in names or one.path[-1] in names)


def _planned(job: Job, control: Control) -> Planned:
    if isinstance(job, ExchangeJob):
        return Planned("exchange", job.name, job.differences, job.unfinished)
    counts = control.counts(job.name) or QueueCounts(0, 0)
    return Planned("queue", job.name, job.differences, job.unfinished, *counts)


def _skipped(found: Iterable[Found], *, are_named: bool) -> Iterator[Skipped]:
    for one in found:
        if isinstance(one, Skipped):
            yield one
        elif are_named and not one.needs_migration:
            state = "it is as the file says" if one.current else "it does not exist"
            why = f"nothing to do: {state}"
            yield Skipped(one.wanted.kind, one.name, why, differs=False)


def _set_up(wanted: ExpandedTopology, settings: BrokerSettings, jobs: Iterable[Job]) -> None:
    """What is missing, such as a new dead letter exchange. What is missing because its migration
    was interrupted is declared by that."""
    try:
        setup_infrastructure(wanted, settings)
    except MissingInfrastructure as error:
        absent = {one.declaration.name for one in error.report.absent}
        if not absent <= {job.name for job in jobs}:
            raise


def _migrate_if_free(
    wanted: ExpandedTopology, settings: BrokerSettings, job: Job, context: MigrationContext
) -> Migrated | Skipped:
    kind, name, names = job.wanted.kind, job.name, TemporaryNames(job.name)
    if names.are_too_long:
        return Skipped(kind, name, "its name is too long for those of the temporary exchanges")
    if not context.control.lock(names.lock_queue):
        return Skipped(kind, name, "another process is migrating it")
    try:
        with surveying(settings, context.management) as survey:
            [found], jobs = find_jobs(wanted, [job.wanted], survey)
        if isinstance(found, Skipped):
            return found
        match jobs:
            case [ExchangeJob() as exchange]:
                return migrate_exchange(exchange, context)
            case [QueueJob() as queue]:
                return QueueMigration(queue, context).run()
        return Skipped(kind, name, "another process did", differs=False)  # before the lock was ours
    except (NotMigrated, StepRefused) as error:
        return Skipped(kind, name, str(error))
    finally:
        if context.connection.is_open:
            context.control.delete_queue(names.lock_queue)
