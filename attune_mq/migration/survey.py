"""What is to be migrated, found over AMQP alone or by the HTTP API. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from attune_mq.amqp.probe_channel import ProbeChannel
from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.declaring import Migrations
from attune_mq.broker.management import ManagementClient
from attune_mq.broker.observation import (
    MIGRATION_MARK,
    Absent,
    Indeterminate,
    ingress_name,
    observe_by_management,
)
from attune_mq.broker.probing import Prober
from attune_mq.broker.replies import TRUNCATED
from attune_mq.migration.policies import DEATH_ARGUMENTS, is_quorum, refuses_when_full
from attune_mq.migration.report import Skipped
from attune_mq.topology.arguments import QUEUE_ARGUMENTS, Whole, YesOrNo
from attune_mq.topology.declaration import (
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
    declarations,
)
from attune_mq.topology.equivalence import (
    Difference,
    Equal,
    Inequivalent,
    SilentlyIgnored,
    answer_to_exchange,
    answer_to_queue,
    binding_identity,
    written,
)
from attune_mq.topology.model import ExpandedTopology

MOST_FIELDS = 20
"""A queue or exchange differs in fewer."""
_PROPERTIES = ("durable", "auto_delete", "internal", "type")


Declared = ExchangeDeclaration | QueueDeclaration
D = TypeVar("D", ExchangeDeclaration, QueueDeclaration)


@dataclass(frozen=True)
class _Job(Generic[D]):
    """``current``: ``None`` where it does not exist. ``unfinished``: an earlier migration of it was
    interrupted. ``bindings``: all that lead to it, or did; of an exchange also those from it."""

    wanted: D
    current: D | None
    differences: tuple[Difference, ...]
    unfinished: bool
    bindings: tuple[BindingDeclaration, ...] = ()

    @property
    def name(self) -> str:
        return self.wanted.name

    @property
    def needs_migration(self) -> bool:
        return bool(self.differences) or self.unfinished

    @property
    def is_replaced(self) -> bool:
        """Whether it is as it shall be, so that an earlier run was interrupted after that."""
        return self.current is not None and not self.differences


class ExchangeJob(_Job[ExchangeDeclaration]):
    pass


@dataclass(frozen=True)
class QueueJob(_Job[QueueDeclaration]):
    """``retries``: the queues that dead-letter straight to it."""

    retries: tuple[str, ...] = ()

    @property
    def is_replicated(self) -> bool:
        return is_quorum(self.wanted) or (self.current is not None and is_quorum(self.current))

    @property
    def is_mirrored(self) -> bool:
        """A queue that refuses what does not fit would invalidate the mirror queue."""
        return not refuses_when_full(self.wanted)

    @property
    def has_single_active_consumer(self) -> bool:
        return self.current is not None and bool(
            self.current.arguments.get("x-single-active-consumer")
        )


Job = ExchangeJob | QueueJob
Found = Job | Skipped
"""What cannot be migrated is skipped."""


class SurveyByManagement:
    def __init__(self, client: ManagementClient, vhost: str) -> None:
        self._seen = observe_by_management(client, vhost)
        self.queues = self._seen.queue_declarations

    def find(self, wanted: Declared) -> Found:
        """How it is on the broker; without bindings."""
        current: Declared | None
        if isinstance(wanted, QueueDeclaration):
            current = queue = self._seen.queue_declarations.get(wanted.name)
            answer = answer_to_queue(wanted, queue, self._seen.rules) if queue else Equal()
        else:
            current = exchange = self._seen.exchanges.get(wanted.name)
            answer = answer_to_exchange(wanted, exchange) if exchange else Equal()
        unfinished = _first_temporary(wanted) in self._seen.exchanges
        if not isinstance(answer, Inequivalent):
            return _job(wanted, wanted if current else None, (), unfinished)
        for difference in answer.differences:
            if why := _obstacle(difference):
                return _skipped(wanted, why)
        return _job(wanted, current, answer.differences, unfinished)

    def bindings_of(self, wanted: Declared) -> Iterator[BindingDeclaration]:
        """Those that lead to it on the broker, or did; of an exchange also those from it."""
        ends = ((wanted.kind, wanted.name), ("exchange", _first_temporary(wanted)))
        ours = ingress_name(wanted.name)
        for one in self._seen.bindings:
            leads_to_it = (one.destination_type, one.destination) in ends
            leads_from_it = wanted.kind == "exchange" and ("exchange", one.source) in ends
            is_ours = one.source in ("", MIGRATION_MARK) or one.source.startswith(ours)
            if leads_from_it and not leads_to_it:
                yield replace(one, source=wanted.name)
            elif leads_to_it and not leads_from_it and not is_ours:
                yield replace(one, destination=wanted.name, destination_type=wanted.kind)


class SurveyByAmqp:
    """The broker names one difference at a time: declared with that value, it names the next."""

    def __init__(self, asker: ProbeChannel) -> None:
        self._asker = asker
        self._prober = Prober(asker)
        self._migrations = Migrations(asker)
        self.queues: Mapping[str, QueueDeclaration] = {}  # AMQP does not list them

    def bindings_of(self, wanted: Declared) -> Sequence[BindingDeclaration]:
        """AMQP does not list them."""
        return ()

    def find(self, wanted: Declared) -> Found:
        unfinished = self._is_unfinished(wanted)
        current = wanted
        differences: list[Difference] = []
        for _ in range(MOST_FIELDS):
            match self._prober.verdict(current):
                case Equal() | SilentlyIgnored():
                    if differences and isinstance(current, QueueDeclaration):
                        current = self._with_type(current)
                    return _job(wanted, current, tuple(differences), unfinished)
                case Absent():
                    return _job(wanted, None, (), unfinished)
                case Indeterminate(why):
                    return _skipped(wanted, why)
                case Inequivalent((difference, *_)):
                    if obstacle := _obstacle(difference):
                        return _skipped(wanted, obstacle)
                    corrected = _corrected(current, difference)
                    if corrected == current:
                        break
                    differences.append(difference)
                    current = corrected
        return _skipped(wanted, "the broker's replies do not say how it is declared")

    def _with_type(self, queue: QueueDeclaration) -> QueueDeclaration:
        """A virtual host's default may have chosen it."""
        if "x-queue-type" in queue.arguments:
            return queue
        classic = replace(queue, arguments={**queue.arguments, "x-queue-type": "classic"})
        match self._prober.verdict(classic):
            case Inequivalent((Difference("x-queue-type") as difference, *_)):
                classic = _corrected(classic, difference)
        return classic

    def _is_unfinished(self, wanted: Declared) -> bool:
        if isinstance(wanted, QueueDeclaration):
            return self._migrations.has(wanted.name)
        stage = stage_name(wanted.name)
        refusal = self._asker.ask(lambda one: one.exchange_declare(stage, passive=True))
        return refusal is None


Survey = SurveyByAmqp | SurveyByManagement


@contextmanager
def surveying(settings: BrokerSettings, client: ManagementClient | None) -> Iterator[Survey]:
    if client is not None:
        yield SurveyByManagement(client, virtual_host(settings.urls[0]))
        return
    with ProbeChannel(settings, name="attune_mq migrate") as asker:
        yield SurveyByAmqp(asker)


def find_jobs(
    topology: ExpandedTopology, wanted: Iterable[Declared], survey: Survey
) -> tuple[list[Found], list[Job]]:
    """How each of ``wanted`` is on the broker, and the jobs of those that need a migration, in the
    same order. Raises what asking the broker raises."""
    found = [survey.find(one) for one in wanted]
    needed = [one for one in found if not isinstance(one, Skipped) and one.needs_migration]
    if not needed:
        return found, []
    declared = declarations(topology)
    of_file = [one for one in declared if isinstance(one, BindingDeclaration)]
    queues = {one.name: one for one in declared if isinstance(one, QueueDeclaration)}
    queues |= survey.queues
    jobs: list[Job] = []
    for job in needed:
        mine = [one for one in of_file if _has_end(one, job.wanted)]
        job = replace(job, bindings=_distinct((*survey.bindings_of(job.wanted), *mine)))
        if isinstance(job, QueueJob):
            job = replace(job, retries=_dead_lettering_straight_to(job.name, queues.values()))
        jobs.append(job)
    return found, jobs


def _has_end(binding: BindingDeclaration, declared: Declared) -> bool:
    if (binding.destination_type, binding.destination) == (declared.kind, declared.name):
        return True
    return declared.kind == "exchange" and binding.source == declared.name


def _dead_lettering_straight_to(name: str, queues: Iterable[QueueDeclaration]) -> tuple[str, ...]:
    """By the default exchange, such as its retry queues."""
    straight = ("", name)
    return tuple(
        one.name
        for one in queues
        if one.name != name and tuple(one.arguments.get(key) for key in DEATH_ARGUMENTS) == straight
    )


def _distinct(bindings: Iterable[BindingDeclaration]) -> tuple[BindingDeclaration, ...]:
    return tuple({binding_identity(one): one for one in bindings}.values())


def stage_name(exchange: str) -> str:
    """Of the stand-in for an exchange until the new one is complete."""
    return f"{ingress_name(exchange)}.stage"


def _first_temporary(wanted: Declared) -> str:
    """The exchange that exists while the migration is not over."""
    is_queue = isinstance(wanted, QueueDeclaration)
    return ingress_name(wanted.name) if is_queue else stage_name(wanted.name)


def _job(
    wanted: Declared, current: Any, differences: tuple[Difference, ...], unfinished: bool
) -> Job:
    if isinstance(wanted, QueueDeclaration):
        return QueueJob(wanted, current, differences, unfinished)
    return ExchangeJob(wanted, current, differences, unfinished)


def _skipped(wanted: Declared, why: str) -> Skipped:
    return Skipped(wanted.kind, wanted.name, why)


def _obstacle(difference: Difference) -> str | None:
    if difference.field == "exclusive":
        return "it belongs to a connection, and goes when that is closed"
    if difference.field == "x-queue-type" and "stream" in (difference.expected, difference.found):
        return "a stream keeps what was read, so that nothing can be moved out of it or into it"
    if difference.found == TRUNCATED:
        return f"its {difference.field} is truncated in the broker's reply"
    return None


def _corrected(declared: Any, difference: Difference) -> Any:
    """With the value that the broker reports."""
    field, found = difference.field, difference.found
    text = None if found is None or found == "none" else written(found)
    value: Any = text
    if field in _PROPERTIES:
        property_: Any = text if field == "type" else text == "true"
        return replace(declared, **{field: property_})
    match QUEUE_ARGUMENTS[field].kind if field in QUEUE_ARGUMENTS and text is not None else None:
        case YesOrNo():
            value = text == "true"
        case Whole() if text and text.lstrip("-").isdecimal():
            value = int(text)
    arguments = {key: one for key, one in declared.arguments.items() if key != field}
    return replace(declared, arguments=arguments if value is None else arguments | {field: value})
