"""Finds what is to be migrated, over AMQP alone or by the HTTP API. Changes nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from attune_mq.amqp.connecting import our_errors
from attune_mq.amqp.probe_channel import Asker
from attune_mq.amqp.settings import BrokerSettings, virtual_host
from attune_mq.broker.management import ManagementClient
from attune_mq.broker.migration_marks import MARK, ingress_name
from attune_mq.broker.observation import observe_by_management
from attune_mq.broker.plan import Absent, Unseen
from attune_mq.broker.probing import Prober
from attune_mq.broker.replies import CUT_OFF
from attune_mq.migration.jobs import D, Declared, ExchangeJob, Job, QueueJob
from attune_mq.migration.temporary_topology import DEATH_ARGUMENTS, stage_name
from attune_mq.topology.declarations import (
    BindingDeclaration,
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
from attune_mq.topology.model import Topology

MOST_FIELDS = 20
"""A queue or exchange differs in fewer."""
_NUMBERS = (
    "x-message-ttl",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-delivery-limit",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-quorum-initial-group-size",
)


@dataclass(frozen=True)
class Obstacle:
    """It differs, and cannot be migrated."""

    wanted: Declared
    why: str


Found = Job | Obstacle


class Survey(ABC):
    """What AMQP does not tell is empty."""

    @abstractmethod
    def find(self, wanted: Declared) -> Found:
        """How it is on the broker; without bindings."""

    def queues(self) -> Mapping[str, QueueDeclaration]:
        """All of the virtual host by name."""
        return {}

    def bindings_of(self, wanted: Declared) -> tuple[BindingDeclaration, ...]:
        """Those that lead to it on the broker, or did; of an exchange also those from it."""
        return ()

    def close(self) -> None:
        """It may be used no longer."""
        return


def survey_of(settings: BrokerSettings, client: ManagementClient | None) -> Survey:
    if client is None:
        return SurveyByAmqp(settings)
    return SurveyByManagement(client, virtual_host(settings.urls[0]))


def find_jobs(
    topology: Topology, wanted: Iterable[Declared], survey: Survey
) -> tuple[list[Found], list[Job]]:
    """How each of ``wanted`` is on the broker, and the jobs of those that need a migration, in the
    same order. Raises what asking the broker raises."""
    found = [survey.find(one) for one in wanted]
    needed = [one for one in found if not isinstance(one, Obstacle) and one.needs_migration]
    if not needed:
        return found, []
    declared = declarations(topology)
    of_file = [one for one in declared if isinstance(one, BindingDeclaration)]
    queues = {one.name: one for one in declared if isinstance(one, QueueDeclaration)}
    queues |= survey.queues()
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


class SurveyByManagement(Survey):
    def __init__(self, client: ManagementClient, vhost: str) -> None:
        self._seen = observe_by_management(client, vhost)

    def find(self, wanted: Declared) -> Found:
        current: Declared | None
        if isinstance(wanted, QueueDeclaration):
            current = queue = self._seen.queues.get(wanted.name)
            answer = answer_to_queue(wanted, queue, self._seen.rules) if queue else Equal()
        else:
            current = exchange = self._seen.exchanges.get(wanted.name)
            answer = answer_to_exchange(wanted, exchange) if exchange else Equal()
        unfinished = _first_temporary(wanted) in self._seen.exchanges
        if not isinstance(answer, Inequivalent):
            return _job(wanted, wanted if current else None, (), unfinished)
        for difference in answer.differences:
            if why := _obstacle(difference):
                return Obstacle(wanted, why)
        return _job(wanted, current, answer.differences, unfinished)

    def queues(self) -> Mapping[str, QueueDeclaration]:
        return self._seen.queues

    def bindings_of(self, wanted: Declared) -> tuple[BindingDeclaration, ...]:
        if isinstance(wanted, QueueDeclaration):
            return tuple(self._of_queue(wanted.name))
        return tuple(self._of_exchange(wanted.name))

    def _of_queue(self, name: str) -> Iterable[BindingDeclaration]:
        ingress = ingress_name(name)
        ends = (("queue", name), ("exchange", ingress))
        for one in self._seen.bindings:
            is_ours = one.source in ("", MARK) or one.source.startswith(ingress)
            if (one.destination_type, one.destination) in ends and not is_ours:
                yield replace(one, destination=name, destination_type="queue")

    def _of_exchange(self, name: str) -> Iterable[BindingDeclaration]:
        both = (name, stage_name(name))
        for one in self._seen.bindings:
            leads_here = one.destination_type == "exchange" and one.destination in both
            if one.source in both and not leads_here:
                yield replace(one, source=name)
            elif leads_here and one.source not in both:
                yield replace(one, destination=name)


class SurveyByAmqp(Survey):
    """The broker names one difference at a time: declared with that value, it names the next."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._asker = Asker(settings, name="attune_mq migrate")
        self._prober = Prober(settings, self._asker)
        self._some_unfinished: bool | None = None

    def close(self) -> None:
        self._asker.close()

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
                case Unseen(why):
                    return Obstacle(wanted, why)
                case Inequivalent((difference, *_)):
                    if obstacle := _obstacle(difference):
                        return Obstacle(wanted, obstacle)
                    corrected = _corrected(current, difference)
                    if corrected == current:
                        break
                    differences.append(difference)
                    current = corrected
        return Obstacle(wanted, "the broker's answers do not tell how it is")

    def _with_type(self, queue: QueueDeclaration) -> QueueDeclaration:
        """A virtual host's default may have chosen it."""
        if "x-queue-type" in queue.arguments:
            return queue
        classic = replace(queue, arguments={**queue.arguments, "x-queue-type": "classic"})
        match self._prober.verdict(classic):
            case Inequivalent((Difference("x-queue-type") as difference, *_)):
                return _corrected(classic, difference)
        return classic

    def _is_unfinished(self, wanted: Declared) -> bool:
        if isinstance(wanted, QueueDeclaration):
            if self._some_unfinished is None:
                self._some_unfinished = self._has_exchange(MARK)
            if not self._some_unfinished:
                return False
        return self._has_exchange(_first_temporary(wanted))

    def _has_exchange(self, name: str) -> bool:
        with our_errors(self._settings):
            refusal = self._asker.ask(lambda channel: channel.exchange_declare(name, passive=True))
        return refusal is None


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


def _obstacle(difference: Difference) -> str | None:
    if difference.field == "exclusive":
        return "it belongs to a connection, and goes when that is closed"
    if difference.field == "x-queue-type" and "stream" in (difference.expected, difference.found):
        return "a stream keeps what was read, so that nothing can be moved out of it or into it"
    if difference.found == CUT_OFF:
        return f"the value of {difference.field} is truncated in the broker's answer"
    return None


def _corrected(declared: D, difference: Difference) -> D:
    """With the value that the broker reports."""
    field, found = difference.field, difference.found
    text = None if found is None or found == "none" else written(found)
    if hasattr(declared, field):
        is_flag = isinstance(getattr(declared, field), bool)
        return replace(declared, **{field: text == "true" if is_flag else text})
    arguments: dict[str, Any] = {**declared.arguments, field: text}
    if text is None:
        del arguments[field]
    elif field in _NUMBERS and text.lstrip("-").isdecimal():
        arguments[field] = int(text)
    elif field == "x-single-active-consumer":
        arguments[field] = text == "true"
    return replace(declared, arguments=arguments)
