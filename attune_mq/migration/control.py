"""Declaring, binding and deleting, a step at a time: each can be repeated without harm."""

from __future__ import annotations

from collections.abc import Callable

from attune_mq.amqp.channel_methods import ChannelMethods
from attune_mq.amqp.connection import Connection
from attune_mq.amqp.probe_channel import ProbeChannel, Refusal
from attune_mq.broker.declaring import bind, declare
from attune_mq.broker.inspection import QueueCounts
from attune_mq.broker.replies import Different, NotPermitted, NotThere, Reply, parse_reply
from attune_mq.errors import InfrastructureError, PermissionRefused
from attune_mq.topology.declaration import (
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
)


class StepRefused(InfrastructureError):
    """The broker does not do what a migration asks of it. ``reply``: why."""

    def __init__(self, what: str, refusal: Refusal) -> None:
        super().__init__(f"the broker refuses to {what}: {refusal.code} {refusal.text}")
        self.reply: Reply = parse_reply(*refusal)


class Control:
    """On one connection. What is refused raises :class:`StepRefused`, for want of a permission
    :class:`~attune_mq.errors.PermissionRefused`."""

    def __init__(self, connection: Connection) -> None:
        self._asker = ProbeChannel(connection, name="")

    def declare(self, wanted: ExchangeDeclaration | QueueDeclaration) -> None:
        self._do(f"declare {wanted.kind} '{wanted.name}'", lambda channel: declare(channel, wanted))

    def has_exchange(self, name: str) -> bool:
        return self._do(
            f"inspect exchange '{name}'",
            lambda channel: channel.exchange_declare(name, passive=True),
            unless=NotThere,
        )

    def counts(self, queue: str) -> QueueCounts | None:
        """``None`` where there is no such queue."""
        found: list[QueueCounts] = []

        def look(channel: ChannelMethods) -> None:
            declared = channel.queue_declare(queue, passive=True)
            found.append(QueueCounts(declared.message_count or 0, declared.consumer_count or 0))

        self._do(f"inspect queue '{queue}'", look, unless=NotThere)
        return found[0] if found else None

    def bind(self, binding: BindingDeclaration) -> None:
        self._do(f"bind {binding.name}", lambda channel: bind(channel, binding))

    def unbind(self, binding: BindingDeclaration) -> None:
        """Also where it is not bound, or one of its two ends does not exist."""

        def ask(channel: ChannelMethods) -> None:
            to_queue = binding.destination_type == "queue"
            unbind = channel.queue_unbind if to_queue else channel.exchange_unbind
            ends = binding.destination, binding.source
            unbind(*ends, binding.routing_key, dict(binding.arguments))

        self._do(f"unbind {binding.name}", ask, unless=NotThere)

    def delete_exchange(self, name: str) -> None:
        self._do(f"delete exchange '{name}'", lambda channel: channel.exchange_delete(name))

    def delete_queue(self, name: str, *, if_empty: bool = False) -> None:
        """``if_empty`` is for classic queues: for others it would end the connection."""
        self._do(
            f"delete queue '{name}'",
            lambda channel: channel.queue_delete(name, if_empty=if_empty),
        )

    def lock(self, name: str) -> bool:
        """Declares a queue that is exclusive to this connection; whether no other has it."""
        return self._do(
            f"declare queue '{name}'",
            lambda channel: channel.queue_declare(name, exclusive=True, auto_delete=True),
            unless=Different,  # 405: it is exclusive to another
        )

    def _do(
        self,
        what: str,
        question: Callable[[ChannelMethods], object],
        *,
        unless: type[Reply] | None = None,
    ) -> bool:
        """Whether the broker did it. Raises, ``unless`` its reply is of that kind."""
        refusal = self._asker.ask(question)
        if refusal is None:
            return True
        reply = parse_reply(*refusal)
        if unless is not None and isinstance(reply, unless):
            return False
        if isinstance(reply, NotPermitted):
            raise PermissionRefused(f"the broker refuses to {what}: {refusal.text}")
        raise StepRefused(what, refusal)
