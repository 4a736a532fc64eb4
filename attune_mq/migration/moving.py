"""Moving messages from one queue to another, each confirmed before its original is acknowledged.

A batch is published to a fanout exchange that gives each copy to the new queue and to the witness.
When all are confirmed, the originals are acknowledged in one frame, and a record that closes the
batch goes to the witness. Whoever is killed in between leaves an open batch: what the witness has
of it is in the new queue and in the old one. The next to come reads the witness first, and what it
then meets in the old queue, and the witness has, it acknowledges without publishing it again.

What remains: between the acknowledgement and the record, two calls of a socket, a kill leaves a
batch open whose originals are gone. That is without effect, unless a message *equal* in body and
all properties, so without an id, is in the old queue and was delivered before: it is then taken
for the one that was moved. And where the broker itself is killed with a batch on its way, witness
and queue may have lost different messages of what was not confirmed.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import pika

from attune_mq.errors import PublishRefused
from attune_mq.messaging.delivery import Delivery
from attune_mq.messaging.outgoing import Outgoing, Receipt
from attune_mq.messaging.publisher import Publisher
from attune_mq.migration.copies import CLOSED, fingerprint, mark_of
from attune_mq.migration.intake import Intake

BATCH = 250
BATCH_BYTES = 8 * 1024 * 1024
PAUSE_S = 0.5
"""Between two attempts to publish what a queue had no room for."""


class CopyOf(Protocol):
    def __call__(self, delivery: Delivery, batch: str, exchange: str) -> Outgoing: ...


class Lane(NamedTuple):
    """From a queue through ``exchange``, which leads to another and to the witness."""

    exchange: str
    copy_of: CopyOf
    witnessed: bool = True
    """Not where the new queue refuses what it has no room for: the witness would lie."""


def open_batches(connection: pika.BlockingConnection, witness: str) -> Counter[str]:
    """How often the witness has which message, by fingerprint, of batches that were not closed.
    It keeps them all."""
    channel = connection.channel()
    seen: list[tuple[str, str]] = []
    closed: set[str] = set()
    while True:
        method, properties, _ = channel.basic_get(witness)
        if method is None or properties is None:
            break
        headers = dict(properties.headers or {})
        if CLOSED in headers:
            closed.add(str(headers[CLOSED]))
        elif mark := mark_of(headers):
            seen.append(mark)
    channel.close()
    return Counter(mark for batch, mark in seen if batch not in closed)


class Mover:
    """Moves what an intake gives. ``known``: what :func:`open_batches` says; it is used up.
    ``patience_s``: how long a queue may have no room."""

    def __init__(
        self, publisher: Publisher, witness: str, known: Counter[str], *, patience_s: float
    ) -> None:
        self._publisher = publisher
        self._witness = witness
        self._known = known
        self._patience_s = patience_s
        self.recognised = 0
        """How many were found to have been moved before."""

    def move(self, intake: Intake, deliveries: Sequence[Delivery], lane: Lane) -> int:
        """Returns how many were published. Raises :class:`~attune_mq.errors.PublishError`: then
        none of them is acknowledged."""
        if not deliveries:
            return 0
        batch = uuid.uuid4().hex
        fresh = [one for one in deliveries if not self._is_known(one)]
        self._publish([lane.copy_of(one, batch, lane.exchange) for one in fresh], batch, intake)
        intake.acknowledge(deliveries)
        if lane.witnessed and fresh:
            self._close(batch, intake)
        return len(fresh)

    def _publish(self, copies: Sequence[Outgoing], batch: str, intake: Intake) -> None:
        """What a queue has no room for is tried again; the others are not."""
        deadline = time.monotonic() + self._patience_s
        while copies:
            outcomes = self._publisher.send(copies)
            refused = [one for one in outcomes if isinstance(one, PublishRefused)]
            if refused:
                self._close(batch, intake)  # the witness has what the queue refused
            others = [one for one in outcomes if not isinstance(one, PublishRefused | Receipt)]
            if others or (refused and time.monotonic() > deadline):
                raise [*others, *refused][0]
            copies = [
                one
                for one, outcome in zip(copies, outcomes, strict=True)
                if isinstance(outcome, PublishRefused)
            ]
            if copies:
                intake.pause(PAUSE_S)

    def _close(self, batch: str, intake: Intake) -> None:
        intake.publish(self._witness, {CLOSED: batch})

    def _is_known(self, delivery: Delivery) -> bool:
        if not delivery.redelivered or not self._known:
            return False
        mark = fingerprint(delivery)
        if not self._known[mark]:
            return False
        self._known[mark] -= 1
        self.recognised += 1
        return True
