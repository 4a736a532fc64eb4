"""What is to be migrated: found by looking, over AMQP alone or by the HTTP API. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from attune_mq.amqp.connecting import our_errors
from attune_mq.amqp.probe_channel import Asker
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.broker.management import ManagementClient
from attune_mq.broker.observation import (
    MIGRATION_MARK,
    Absent,
    Indeterminate,
    ManagementObservation,
    observe_by_management,
)
from attune_mq.broker.probing import Prober
from attune_mq.broker.replies import TRUNCATED
from attune_mq.migration.scaffold import Scaffold, stage_name
from attune_mq.topology.declarations import (
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
)
from attune_mq.topology.equivalence import (
    Answer,
    Difference,
    Equal,
    Inequivalent,
    SilentlyIgnored,
    answer_to_exchange,
    answer_to_queue,
    written,
)

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
_PROPERTIES = ("durable", "auto_delete", "internal", "type")
_BOOLEANS = ("durable", "auto_delete", "internal", "x-single-active-consumer")


D = TypeVar("D", ExchangeDeclaration, QueueDeclaration)


@dataclass(frozen=True)
class Found(Generic[D]):
    """``current``: ``None`` where it is not there. ``unfinished``: a migration of it was begun."""

    wanted: D
    current: D | None
    differences: tuple[Difference, ...]
    unfinished: bool

    @property
    def needs_migration(self) -> bool:
        return bool(self.differences) or self.unfinished


@dataclass(frozen=True)
class Obstacle(Generic[D]):
    """It differs, and nothing can be done about it here."""

    wanted: D
    why: str


class Survey(Protocol):
    def queue(
        self, wanted: QueueDeclaration
    ) -> Found[QueueDeclaration] | Obstacle[QueueDeclaration]: ...
    def exchange(
        self, wanted: ExchangeDeclaration
    ) -> Found[ExchangeDeclaration] | Obstacle[ExchangeDeclaration]: ...

    def queues(self) -> Mapping[str, QueueDeclaration]:
        """All of the broker by name, as far as can be seen."""
        ...

    def bindings_of_queue(self, name: str) -> tuple[BindingDeclaration, ...]:
        """Those that lead to it on the broker, or did, as far as can be seen."""
        ...

    def bindings_of_exchange(self, name: str) -> tuple[BindingDeclaration, ...]:
        """Those that lead to it on the broker or from it, or did, as far as can be seen."""
        ...

    def close(self) -> None: ...


class SurveyByManagement:
    def __init__(self, client: ManagementClient, vhost: str) -> None:
        self._seen: ManagementObservation = observe_by_management(client, vhost)

    def close(self) -> None:
        """It has no connection."""

    def queue(
        self, wanted: QueueDeclaration
    ) -> Found[QueueDeclaration] | Obstacle[QueueDeclaration]:
        current = self._seen.queue_declarations.get(wanted.name)
        answer = answer_to_queue(wanted, current, self._seen.rules) if current else Equal()
        return self._found(wanted, current, answer, Scaffold(wanted.name).ingress)

    def exchange(
        self, wanted: ExchangeDeclaration
    ) -> Found[ExchangeDeclaration] | Obstacle[ExchangeDeclaration]:
        current = self._seen.exchanges.get(wanted.name)
        answer = answer_to_exchange(wanted, current) if current else Equal()
        return self._found(wanted, current, answer, stage_name(wanted.name))

    def queues(self) -> Mapping[str, QueueDeclaration]:
        return self._seen.queue_declarations

    def bindings_of_queue(self, name: str) -> tuple[BindingDeclaration, ...]:
        ingress = Scaffold(name).ingress
        ends = (("queue", name), ("exchange", ingress))
        return tuple(
            replace(one, destination=name, destination_type="queue")
            for one in self._seen.bindings
            if (one.destination_type, one.destination) in ends
            and one.source not in ("", MIGRATION_MARK)
            and not one.source.startswith(ingress)
        )

    def bindings_of_exchange(self, name: str) -> tuple[BindingDeclaration, ...]:
        stage = stage_name(name)
        inner = (name, stage)
        found = []
        for one in self._seen.bindings:
            leads_here = one.destination_type == "exchange" and one.destination in inner
            if one.source in inner and not leads_here:
                found.append(replace(one, source=name))
            elif leads_here and one.source not in inner:
                found.append(replace(one, destination=name))
        return tuple(found)

    def _found(
        self, wanted: D, current: D | None, answer: Answer, scaffold: str
    ) -> Found[D] | Obstacle[D]:
        unfinished = scaffold in self._seen.exchanges
        if not isinstance(answer, Inequivalent):
            return Found(wanted, wanted if current else None, (), unfinished)
        for difference in answer.differences:
            if why := _obstacle(difference):
                return Obstacle(wanted, why)
        return Found(wanted, current, answer.differences, unfinished)


class SurveyByAmqp:
    """The broker names one difference at a time: with that one mended, it names the next."""

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._prober = Prober(settings)
        self._asker = Asker(settings, name="attune_mq migrate")
        self._some_unfinished: bool | None = None

    def close(self) -> None:
        self._asker.close()
        self._prober.__exit__(None, None, None)

    def queue(
        self, wanted: QueueDeclaration
    ) -> Found[QueueDeclaration] | Obstacle[QueueDeclaration]:
        found = self._find(wanted, unfinished=self._is_unfinished(wanted.name))
        if isinstance(found, Obstacle) or found.current is None or not found.differences:
            return found
        return replace(found, current=self._typed(found.current))

    def exchange(
        self, wanted: ExchangeDeclaration
    ) -> Found[ExchangeDeclaration] | Obstacle[ExchangeDeclaration]:
        return self._find(wanted, unfinished=self._has_exchange(stage_name(wanted.name)))

    def queues(self) -> Mapping[str, QueueDeclaration]:
        return {}

    def bindings_of_queue(self, name: str) -> tuple[BindingDeclaration, ...]:
        return ()

    def bindings_of_exchange(self, name: str) -> tuple[BindingDeclaration, ...]:
        return ()

    def _find(self, wanted: D, *, unfinished: bool) -> Found[D] | Obstacle[D]:
        there = wanted
        differences: list[Difference] = []
        for _ in range(MOST_FIELDS):
            match self._prober.verdict(there):
                case Equal() | SilentlyIgnored():
                    return Found(wanted, there, tuple(differences), unfinished)
                case Absent():
                    return Found(wanted, None, (), unfinished)
                case Indeterminate(why):
                    return Obstacle(wanted, why)
                case Inequivalent((difference, *_)):
                    if obstacle := _obstacle(difference):
                        return Obstacle(wanted, obstacle)
                    mended = _mended(there, difference.field, difference.found)
                    if mended == there:
                        break
                    differences.append(difference)
                    there = mended
        return Obstacle(wanted, "the broker's answers do not tell how it is")

    def _typed(self, there: QueueDeclaration) -> QueueDeclaration:
        """With the type of a queue, which a virtual host's default may have chosen."""
        if "x-queue-type" in there.arguments:
            return there
        classic = replace(there, arguments={**there.arguments, "x-queue-type": "classic"})
        match self._prober.verdict(classic):
            case Inequivalent((Difference("x-queue-type", _, found), *_)):
                return _mended(classic, "x-queue-type", found)
        return classic

    def _is_unfinished(self, name: str) -> bool:
        if self._some_unfinished is None:
            self._some_unfinished = self._has_exchange(MIGRATION_MARK)
        return self._some_unfinished and self._has_exchange(Scaffold(name).ingress)

    def _has_exchange(self, name: str) -> bool:
        with our_errors(self._settings):
            refusal = self._asker.ask(lambda channel: channel.exchange_declare(name, passive=True))
        return refusal is None


def _obstacle(difference: Difference) -> str | None:
    if difference.field == "exclusive":
        return "it belongs to a connection, and goes when that is closed"
    if difference.field == "x-queue-type" and "stream" in (difference.expected, difference.found):
        return "a stream keeps what was read, so that nothing can be moved out of it or into it"
    if difference.found == TRUNCATED:
        return f"its {difference.field} is truncated in the broker's reply"
    return None


def _mended(declared: D, field: str, found: Any) -> D:
    """As the broker says that it is."""
    text = None if found is None or found == "none" else written(found)
    value: Any = text
    if field in _BOOLEANS and text is not None:
        value = text == "true"
    elif field in _NUMBERS and text is not None:
        value = int(text) if text.lstrip("-").isdecimal() else text
    if field in _PROPERTIES:
        return replace(declared, **{field: value})
    arguments = {key: one for key, one in declared.arguments.items() if key != field}
    return replace(declared, arguments=arguments if value is None else arguments | {field: value})
