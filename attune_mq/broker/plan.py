"""Desired and observed, compared: what set-up would do, and what else differs. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from attune_mq.broker.report import Conflict, Unchanged, Unknown, Why
from attune_mq.topology.arguments import key_of
from attune_mq.topology.declarations import (
    BindingDeclaration,
    Declaration,
    ExchangeDeclaration,
    QueueDeclaration,
    declarations,
)
from attune_mq.topology.equivalence import (
    Answer,
    BrokerRules,
    Difference,
    Equal,
    Inequivalent,
    SilentlyIgnored,
    answer_to_exchange,
    answer_to_queue,
    binding_identity,
    written,
)
from attune_mq.topology.expansion import expand
from attune_mq.topology.families import name_pattern
from attune_mq.topology.model import ExpandedTopology, Topology
from attune_mq.topology.objects import RESERVED_PREFIX
from attune_mq.topology.source import Where

Source = Literal["amqp", "management"]
"""Where an observation comes from: AMQP alone, or the HTTP API of the management plugin."""


@dataclass(frozen=True)
class Absent:
    """There is nothing of this name."""


@dataclass(frozen=True)
class Unseen:
    """The source cannot tell; ``detail`` says to people why not."""

    detail: str
    why: Why = "amqp"


Verdict = Answer | Absent | Unseen

BINDING_UNSEEN = Unseen("AMQP cannot list bindings")


@dataclass(frozen=True)
class ManagementObservation:
    """All that a virtual host has, as the HTTP API lists it."""

    rules: BrokerRules
    exchanges: Mapping[str, ExchangeDeclaration]
    queues: Mapping[str, QueueDeclaration]
    bindings: tuple[BindingDeclaration, ...]

    source: Source = field(default="management", init=False)


@dataclass(frozen=True)
class AmqpObservation:
    """What the broker said to each exchange and queue that it was asked about, by kind and name."""

    verdicts: Mapping[tuple[str, str], Verdict]

    source: Source = field(default="amqp", init=False)


Observation = ManagementObservation | AmqpObservation


@dataclass(frozen=True)
class Create:
    """It is not there, so set-up declares it. Whether the broker takes it shows only then."""

    declaration: Declaration
    where: Where


@dataclass(frozen=True)
class Ignored:
    """It is there, without an argument that the file gives it or with another value, and the
    broker will not say so: it does not know this argument for this type, and ignores it."""

    declaration: Declaration
    where: Where
    field: str
    expected: str
    found: str


@dataclass(frozen=True)
class Extra:
    """It is there and the file does not have it. Set-up lets it be."""

    declaration: Declaration


@dataclass(frozen=True)
class Plan:
    """What set-up would do (``create``), and how else broker and file differ. Each holds exchanges,
    then queues, then bindings, in the order of the file; ``extra`` by name.

    ``conflicts`` has an entry for each field that differs, ``unchanged`` an object of which some
    argument is ``ignored`` too. Over AMQP a conflict names the first field only, since the broker
    names no more, and ``extra`` is always empty, since AMQP lists nothing.
    """

    source: Source
    create: tuple[Create, ...]
    unchanged: tuple[Unchanged, ...]
    conflicts: tuple[Conflict, ...]
    ignored: tuple[Ignored, ...]
    extra: tuple[Extra, ...]
    unknown: tuple[Unknown, ...]

    @property
    def has_differences(self) -> bool:
        """Whether the broker is known not to be as the file says."""
        return bool(self.create or self.conflicts or self.extra)


Step = Create | Unchanged | Conflict | Ignored | Unknown


def make_plan(topology: Topology, observation: Observation) -> Plan:
    """Compares a topology with what was observed, by the broker's own rules of equivalence.

    What belongs to the broker, to a connection or to an instance of a family is never ``extra``.
    """
    whole = expand(topology)
    wanted = declarations(whole)
    verdict_on = _verdicts(observation)
    steps = [step for one in wanted for step in steps_of(whole, one, verdict_on(one))]
    extra: tuple[Extra, ...] = ()
    if isinstance(observation, ManagementObservation):
        extra = tuple(Extra(one) for one in _unasked(whole, wanted, observation))
    return Plan(
        source=observation.source,
        create=tuple(step for step in steps if isinstance(step, Create)),
        unchanged=tuple(step for step in steps if isinstance(step, Unchanged)),
        conflicts=tuple(step for step in steps if isinstance(step, Conflict)),
        ignored=tuple(step for step in steps if isinstance(step, Ignored)),
        extra=extra,
        unknown=tuple(step for step in steps if isinstance(step, Unknown)),
    )


def remedy(conflict: Conflict) -> str:
    """How a conflict is resolved: by a command to type, where one does it."""
    if conflict.field == "exclusive":
        return "the queue goes when the connection that it belongs to is closed"
    if conflict.field == "x-queue-type" and "stream" in (conflict.expected, conflict.found):
        return (
            "give the queue another name: a stream keeps what was read, so nothing can be moved "
            "out of it or into it"
        )
    return f"`attune-mq migrate {shlex.quote(conflict.declaration.name)}`"


def steps_of(whole: ExpandedTopology, declaration: Declaration, verdict: Verdict) -> Iterator[Step]:
    """One step, or one for each field that differs; of what is ignored they follow the object's."""
    where = whole.where(*declaration.path)
    match verdict:
        case Absent():
            yield Create(declaration, where)
        case Unseen(detail, why):
            yield Unknown(declaration, where, detail, why)
        case Equal():
            yield Unchanged(declaration, where)
        case SilentlyIgnored(differences):
            yield Unchanged(declaration, where)
            for one in differences:
                expected, found = _written(one)
                place = _place(whole, declaration, one.field)
                yield Ignored(declaration, place, one.field, expected, found)
        case Inequivalent(differences):
            for one in differences:
                expected, found = _written(one)
                place = _place(whole, declaration, one.field)
                yield Conflict(declaration, place, one.field, expected, found)


def _written(difference: Difference) -> tuple[str, str]:
    expected, found = written(difference.expected), written(difference.found)
    if expected == found:  # 1000 and "1000"
        expected += f" ({type(difference.expected).__name__})"
        found += " (of another type)"
    return expected, found


def _place(whole: ExpandedTopology, declaration: Declaration, name: str) -> Where:
    """Where the file says what the broker calls ``name``."""
    kind, key = declaration.path
    declared = getattr(whole, str(kind))[key]
    if name in declared.arguments:
        return whole.where(*declaration.path, "arguments", name)
    place = whole.where(*declaration.path, key_of(name) or name)
    says_nothing = place[1:3] == whole.where(*declaration.path)[1:3]
    if says_nothing and name.startswith("x-dead-letter") and declared.purpose == "main":
        return whole.where("dead_letter")  # the rule for all queues
    return place


def _verdicts(observation: Observation) -> Callable[[Declaration], Verdict]:
    match observation:
        case AmqpObservation(verdicts):
            return lambda declaration: _heard(declaration, verdicts)
        case ManagementObservation(bindings=bindings):
            bound = {binding_identity(binding) for binding in bindings}
            return lambda declaration: _listed(declaration, observation, bound)


def _heard(declaration: Declaration, verdicts: Mapping[tuple[str, str], Verdict]) -> Verdict:
    if not isinstance(declaration, BindingDeclaration):
        return verdicts[declaration.kind, declaration.name]
    source = ("exchange", declaration.source)
    destination = (declaration.destination_type, declaration.destination)
    if Absent() in (verdicts.get(source), verdicts.get(destination)):
        return Absent()
    return BINDING_UNSEEN


def _listed(
    declaration: Declaration, observation: ManagementObservation, bound: set[Hashable]
) -> Verdict:
    match declaration:
        case ExchangeDeclaration(name):
            exchange = observation.exchanges.get(name)
            return answer_to_exchange(declaration, exchange) if exchange else Absent()
        case QueueDeclaration(name):
            queue = observation.queues.get(name)
            return answer_to_queue(declaration, queue, observation.rules) if queue else Absent()
        case BindingDeclaration():
            return listed_binding(declaration, bound)


def listed_binding(wanted: BindingDeclaration, bound: Container[Hashable]) -> Verdict:
    """Whether a binding is among those that the HTTP API lists, given by their identities.

    The API does not tell 32-bit and 64-bit integers apart, and AMQP declares a second binding where
    they differ. Where both mean the same to the exchange, the one that is there is the one that is
    wanted; inside of an array or a table they do not.
    """
    if binding_identity(wanted) not in bound:
        return Absent()
    if any(_holds_a_number(value) for value in wanted.arguments.values()):
        return Unseen("the HTTP API does not tell how wide a number in an array or a table is")
    return Equal()


def _holds_a_number(value: Any) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value
    if isinstance(inner, str | bytes) or not isinstance(inner, Iterable):
        return False
    return any(type(one) is int or _holds_a_number(one) for one in inner)


def _unasked(
    whole: ExpandedTopology, wanted: Iterable[Declaration], observation: ManagementObservation
) -> Iterator[Declaration]:
    """What is there for no reason that we know of."""
    names = {(one.kind, one.name) for one in wanted}
    instances = _names_in_families(whole)
    others = {
        name
        for name, queue in observation.queues.items()
        if queue.exclusive or name.startswith(RESERVED_PREFIX) or instances.fullmatch(name)
    }
    for name, exchange in sorted(observation.exchanges.items()):
        is_built_in = not name or name.startswith(RESERVED_PREFIX)
        if not is_built_in and ("exchange", name) not in names:
            yield exchange
    for name, queue in sorted(observation.queues.items()):
        if name not in others and ("queue", name) not in names:
            yield queue
    asked = {binding_identity(one) for one in wanted if isinstance(one, BindingDeclaration)}
    for binding in sorted(observation.bindings, key=lambda one: one.name):
        identity = binding_identity(binding)
        to_another = binding.destination_type == "queue" and binding.destination in others
        if binding.source and not to_another and identity not in asked:
            yield binding
        asked.discard(identity)  # a second of the same identity differs in the width of a number


def _names_in_families(whole: ExpandedTopology) -> re.Pattern[str]:
    names = [
        name_pattern(queue.name, family)
        for family in whole.families.values()
        for queue in family.queues.values()
    ]
    return re.compile("|".join(names) or r"(?!)")
