"""Going through a queue from its head, leaving in it whatever is not taken out.

Each message is fetched with ``basic.get`` and kept unacknowledged, so that the next fetch gives the
next message; at the end all that were kept are requeued by one ``basic.nack``. Measured:

* a classic queue (RabbitMQ 3.10 to 4.3) puts them back where they were, even if others were added
  or taken meanwhile, and marks them as redelivered; a queue that expires counts it as use;
* a quorum queue of 4.0 and later puts them before those that were never fetched, and behind those
  that were requeued before; on 3.10 they go behind all. Among each other they keep their order;
* a quorum queue counts, and drops a message, or dead-letters it, beyond its delivery limit: 20 by
  default on 4.x. On 4.0 every return counts. On 4.3 a ``basic.nack`` does not, but the count
  that a message brings along from the quorum queue in which it died is held against it: one that
  died of ``delivery_limit`` is dropped at its *first* return. So a message that has come half-way
  to the limit is not requeued: a copy of it is published to the tail of the queue, confirmed,
  and then the original is acknowledged. Its count, and its TTL, begin anew.

If the process is killed, all that was fetched is requeued. A message could be lost in one case: on
a quorum queue, when it is beyond the limit as it is fetched (or a policy, which AMQP does not show,
sets a limit below twice its count), and its copy is not confirmed: we are killed just then, or the
broker is out of memory or disk.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import pika

from attune_mq import errors
from attune_mq.amqp.channel_methods import Refused
from attune_mq.amqp.connection import Channel, Connection
from attune_mq.amqp.settings import BrokerSettings
from attune_mq.message.delivery import BROKERS_COUNTS, Delivery
from attune_mq.message.outgoing import Outgoing
from attune_mq.publishing.publisher import Publisher
from attune_mq.topology.expansion import DEFAULT_EXCHANGE

DEFAULT_DELIVERY_LIMIT = 20
"""Of quorum queues from RabbitMQ 4.0 on."""
NOT_FOUND, ACCESS_REFUSED = 404, 403
NOT_IMPLEMENTED = 540
"""What a broker says, closing the connection, to ``basic.get`` on a stream."""
_LEFT_OUT = (*BROKERS_COUNTS, "CC", "BCC")
"""Of the headers of a copy: the broker's counts, and what would send it to other queues too."""


class Browser:
    """A look through one queue; a context manager, of one thread.

    ``publisher`` publishes the copies of what must not be requeued; the caller closes it.
    ``delivery_limit``: of the queue, as the file says it.

    Raises, on entering and while going through, :class:`~attune_mq.errors.InfrastructureError`
    where there is no such queue, ``PermissionRefused``, ``BrokerUnavailable``, ``LoginRefused``,
    ``VirtualHostRefused``, ``InvalidInput`` for a stream, and ``PublishError`` where a copy is not
    confirmed. Nothing is taken out of the queue then.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        queue: str,
        publisher: Publisher,
        *,
        delivery_limit: int | None = None,
    ) -> None:
        self.queue = queue
        self.count = 0
        """How many messages were ready at the start."""
        self._settings = settings
        self._publisher = publisher
        limits = [DEFAULT_DELIVERY_LIMIT, *([] if delivery_limit is None else [delivery_limit])]
        self._worn_at = max(0, min(limits)) // 2
        self._connection: Connection | None = None
        self._channel: Channel
        self._fetched: Delivery | None = None
        self._is_unread = False
        """Whether what was fetched last is still to be delivered to the caller."""

    def __enter__(self) -> Self:
        self._connection = Connection.open(self._settings, name="attune_mq dead letters")
        try:
            with queue_errors(self.queue):
                self._channel = self._connection.channel()
                self._fetched = self._fetch()
                declared = self._channel.queue_declare(self.queue, passive=True)
        except BaseException:
            self._connection.close()
            raise
        # Fetched first: a queue is quick to count, while it still takes in what was requeued.
        self._is_unread = self._fetched is not None
        self.count = int(declared.message_count or 0) + int(self._is_unread)
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._connection is not None
        try:
            if error is None:
                self.requeue()
            elif isinstance(error, Exception):
                with contextlib.suppress(errors.AttuneError):
                    self.requeue()
        finally:
            self._connection.close()

    def messages(self, at_most: int | None = None) -> Iterator[Delivery]:
        """The messages from the head on, of those that were there at the start. What is not taken
        out until the next one is asked for stays in the queue."""
        for _ in range(self.count if at_most is None else min(at_most, self.count)):
            if not self._is_unread:
                self._keep_fetched()
                self._fetched = self._fetch()
            self._is_unread = False
            if self._fetched is None:
                return
            yield self._fetched

    def take_out(self, delivery: Delivery) -> None:
        """It leaves the queue for good: it is acknowledged at once, and the broker has done that
        when the next message comes."""
        with queue_errors(self.queue):
            self._channel.basic_ack(delivery.delivery_tag)
        self._fetched = None

    def requeue(self) -> None:
        """All that was fetched and not taken out, so that one can go through the queue again."""
        self._is_unread = False
        self._keep_fetched()
        with queue_errors(self.queue):
            self._channel.basic_nack(0, multiple=True)

    def _fetch(self) -> Delivery | None:
        with queue_errors(self.queue):
            found = self._channel.basic_get(self.queue)
        return None if found is None else Delivery.of(found, queue=self.queue)

    def _keep_fetched(self) -> None:
        """Nothing to do but for a message that may exceed its delivery limit if requeued."""
        delivery, self._fetched = self._fetched, None
        if delivery is None or not delivery.counted_by_broker:
            return
        if delivery.redeliveries >= self._worn_at:
            outcome = self._publisher.send([_copy(delivery)])[0]
            if isinstance(outcome, errors.PublishError):
                raise outcome
            self.take_out(delivery)


@contextlib.contextmanager
def queue_errors(queue: str) -> Iterator[None]:
    """What the broker answers to a question about one queue, as errors of ours."""
    try:
        yield
    except Refused as error:
        if error.is_connection and error.code != NOT_IMPLEMENTED:
            raise errors.BrokerUnavailable(f"the broker closed the connection: {error}") from error
        raise _refusal(queue, error.code, error.text) from error


def _refusal(queue: str, code: int, text: str) -> Exception:
    if code == NOT_FOUND:
        return errors.InfrastructureError(
            f"there is no queue '{queue}' on the broker; `attune-mq setup` makes those of the file"
        )
    if code == ACCESS_REFUSED:
        return errors.PermissionRefused(f"queue '{queue}' needs the permission read: {code} {text}")
    if "timed out" in text:  # the broker's consumer_timeout, 30 minutes by default
        return errors.BrokerUnavailable(
            f"queue '{queue}': messages were kept for too long, and are back in it: {code} {text}"
        )
    return errors.InvalidInput(f"queue '{queue}' cannot be looked into: {code} {text}")


def _copy(delivery: Delivery) -> Outgoing:
    properties = copy.copy(delivery.properties)
    kept = {name: value for name, value in delivery.headers.items() if name not in _LEFT_OUT}
    properties.headers = kept or None
    properties.user_id = None  # the broker would check it against ours
    properties.delivery_mode = pika.DeliveryMode.Persistent.value
    return Outgoing(DEFAULT_EXCHANGE, delivery.queue, delivery.body, properties)
