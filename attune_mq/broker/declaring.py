"""Declaring what a topology wants, object by object, so that a refusal fails no others as well.

The broker is asked about many at once where that costs nothing if one is refused: objects that are
there, and bindings. It answers such a batch with silence, or with one refusal that does not say
whose it is; then each is asked about alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, MutableSet, Sequence
from dataclasses import dataclass, replace

from pika import spec
from pika.amqp_object import Method

import attune_mq.broker.replies as replies
import attune_mq.broker.report as outcomes
from attune_mq.amqp.channel_methods import ChannelMethods
from attune_mq.amqp.probe_channel import ProbeChannel, Refusal
from attune_mq.broker.observation import MIGRATION_MARK, Absent, Verdict, ingress_name
from attune_mq.topology.arguments import key_of
from attune_mq.topology.declaration import (
    BindingDeclaration,
    Declaration,
    ExchangeDeclaration,
    QueueDeclaration,
)
from attune_mq.topology.equivalence import uncompared_arguments
from attune_mq.topology.model import ExpandedTopology

logger = logging.getLogger(__name__)

BATCH = 50


@dataclass
class Declarer:
    """On one connection. ``made``: kind and name of what was created, shared by all that set one
    topology up. ``was_there``: whether a binding was, as far as is known."""

    asker: ProbeChannel
    topology: ExpandedTopology
    made: MutableSet[tuple[str, str]]
    was_there: Callable[[BindingDeclaration], Verdict]

    def __post_init__(self) -> None:
        self._migrations = Migrations(self.asker)

    def ensure_all(self, wanted: Sequence[Declaration]) -> list[outcomes.Outcome]:
        """One outcome for each, in order."""
        found: list[outcomes.Outcome] = []
        for start in range(0, len(wanted), BATCH):
            batch = wanted[start : start + BATCH]
            if self._are_there(batch):
                found += [self._agreed(declaration) for declaration in batch]
            else:
                found += [self._ensure(declaration) for declaration in batch]
        return found

    def _are_there(self, batch: Sequence[Declaration]) -> bool:
        """Whether the broker agreed to all of them, and had all but the bindings before."""
        if len(batch) == 1 or self._migrations.are_any:
            return False
        return self.asker.ask(lambda channel: _declare_existing(channel, batch)) is None

    def _agreed(self, declaration: Declaration) -> outcomes.Outcome:
        if isinstance(declaration, BindingDeclaration):
            return self._bound(declaration)
        _log_declared(declaration, logging.DEBUG)
        return self._compared(declaration)

    def _ensure(self, declaration: Declaration) -> outcomes.Outcome:
        if isinstance(declaration, BindingDeclaration):
            return self._ensure_binding(declaration)
        where = self.topology.where(*declaration.path)
        looked = self.asker.ask(lambda channel: declare(channel, declaration, passive=True))
        if isinstance(declaration, QueueDeclaration) and self._migrations.has(declaration.name):
            if looked is None:
                return outcomes.Unknown(
                    declaration, where, "it is being migrated, and was not compared"
                )
            return outcomes.Missing(
                declaration, where, "it is being migrated: `attune-mq migrate` makes it"
            )
        existed = _existed(looked)
        refusal = self.asker.ask(lambda channel: declare(channel, declaration))
        if refusal is not None:
            return self._refusal(declaration, refusal, exists=existed)
        # What every service says again at every start is not worth a line each.
        _log_declared(declaration, logging.DEBUG if existed else logging.INFO)
        if existed:
            return self._compared(declaration)
        if existed is None:
            return outcomes.Ensured(declaration, where)
        self.made.add((declaration.kind, declaration.name))
        return outcomes.Created(declaration, where)

    def _compared(self, declaration: ExchangeDeclaration | QueueDeclaration) -> outcomes.Outcome:
        """It was there, and the broker agreed to it."""
        where = self.topology.where(*declaration.path)
        if why := uncompared(declaration, self.asker.version):
            return outcomes.Unknown(declaration, where, why)
        return outcomes.Unchanged(declaration, where)

    def _ensure_binding(self, binding: BindingDeclaration) -> outcomes.Outcome:
        where = self.topology.where(*binding.path)
        if binding.destination_type == "queue" and self._migrations.has(binding.destination):
            return outcomes.Unknown(
                binding, where, "its queue is being migrated, and its bindings with it"
            )
        refusal = self.asker.ask(lambda channel: bind(channel, binding))
        if refusal is not None:
            return self._refusal(binding, refusal, exists=None)
        return self._bound(binding)

    def _bound(self, binding: BindingDeclaration) -> outcomes.Outcome:
        where = self.topology.where(*binding.path)
        ends = {("exchange", binding.source), (binding.destination_type, binding.destination)}
        is_new = ends & self.made or self.was_there(binding) == Absent()
        return outcomes.Created(binding, where) if is_new else outcomes.Ensured(binding, where)

    def _refusal(
        self, declaration: Declaration, refusal: Refusal, *, exists: bool | None
    ) -> outcomes.Outcome:
        where = self.topology.where(*declaration.path)
        match replies.parse_reply(*refusal):
            case replies.Different(field, expected, found):
                place = self.topology.where(*declaration.path, key_of(field) or field)
                if expected == replies.TRUNCATED:
                    expected = str(declaration.arguments.get(field, "none"))
                return outcomes.Conflict(declaration, place, field, expected, found)
            case replies.NotPermitted(permission, detail):
                needed = permission or _likely_permission(declaration, detail)
                return outcomes.Refused(declaration, where, needed, detail, exists)
            case replies.NotThere(kind, name):
                return outcomes.Missing(declaration, where, f"there is no {kind} '{name}'")
            case replies.Invalid(detail):
                return outcomes.Invalid(declaration, where, detail)


class Migrations:
    """Which queues a migration is working on just now, with their bindings."""

    def __init__(self, asker: ProbeChannel) -> None:
        self._asker = asker
        self._known: dict[str, bool] = {}

    @property
    def are_any(self) -> bool:
        return self._has_exchange(MIGRATION_MARK)

    def has(self, queue: str) -> bool:
        return self.are_any and self._has_exchange(ingress_name(queue))

    def _has_exchange(self, name: str) -> bool:
        """Asked once."""
        if name not in self._known:
            refusal = self._asker.ask(lambda channel: channel.exchange_declare(name, passive=True))
            self._known[name] = refusal is None
        return self._known[name]


def uncompared(declaration: ExchangeDeclaration | QueueDeclaration, version: str) -> str | None:
    """Why it is not known to be equal, though a broker of this version, which has it, agreed to its
    declaration."""
    names = ", ".join(uncompared_arguments(declaration, version))
    return f"it exists; RabbitMQ does not compare its {names}" if names else None


def _existed(looked: Refusal | None) -> bool | None:
    """What the answer to a passive declaration says; ``None``: nothing."""
    if looked is None:
        return True
    match replies.parse_reply(*looked):
        case replies.NotThere():
            return False
        case replies.Different():  # it belongs to another connection
            return True
        case replies.NotPermitted() | replies.Invalid():
            return None


def declare(
    channel: ChannelMethods,
    declaration: ExchangeDeclaration | QueueDeclaration,
    *,
    passive: bool = False,
) -> None:
    """``passive``: only asks whether it is there."""
    channel.ask(_method(declaration, passive=passive))


def _declare_existing(channel: ChannelMethods, batch: Sequence[Declaration]) -> None:
    """Pipelined. What is missing closes the channel, before it is declared."""
    methods: list[Method] = []
    for one in batch:
        if not isinstance(one, BindingDeclaration):
            methods.append(_method(one, passive=True))
        methods.append(_method(one))
    channel.ask_all(methods)


def declare_queue(channel: ChannelMethods, declaration: QueueDeclaration) -> str:
    """Declares one queue; returns its name, which the server chose where it was left empty."""
    return str(channel.ask(_method(declaration), spec.Queue.DeclareOk).queue)


def bind(
    channel: ChannelMethods, binding: BindingDeclaration, destination: str | None = None
) -> None:
    """``destination``: where its name is another one on the broker."""
    channel.ask(
        _method(binding if destination is None else replace(binding, destination=destination))
    )


def _method(declaration: Declaration, *, passive: bool = False) -> Method:
    arguments = dict(declaration.arguments)
    match declaration:
        case ExchangeDeclaration(name, kind, durable, auto_delete, internal):
            return spec.Exchange.Declare(
                0, name, kind, passive, durable, auto_delete, internal, False, arguments
            )
        case QueueDeclaration(name, durable, exclusive, auto_delete):
            return spec.Queue.Declare(
                0, name, passive, durable, exclusive, auto_delete, False, arguments
            )
        case BindingDeclaration(source, destination, "queue", key):
            return spec.Queue.Bind(0, destination, source, key, False, arguments)
        case BindingDeclaration(source, destination, _, key):
            return spec.Exchange.Bind(0, destination, source, key, False, arguments)


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
