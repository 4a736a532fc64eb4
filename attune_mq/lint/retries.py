"""Rules about trying again: with a limit, and without the broker losing the message on the way."""

from __future__ import annotations

from collections.abc import Iterator

from attune_mq.lint.facts import Facts
from attune_mq.lint.rule import Fault, rule
from attune_mq.topology.arguments import (
    DEAD_LETTER_EXCHANGE as EXCHANGE,
    DEFAULT_DELIVERY_LIMIT,
    DELIVERY_LIMIT as LIMIT,
    LIMITS_DELIVERIES,
)
from attune_mq.topology.network import QueueNode


@rule("error")
def delivery_limit_lost_in_retry(facts: Facts) -> Iterator[Fault]:
    """A delivery limit whose dead letters come back through a retry queue.

    The usual way to delay a retry: a consumer rejects the message, it is dead-lettered to a queue
    with a TTL, expires there, and is dead-lettered back. A delivery limit on the working queue
    looks like the end of it, and loses the message instead: RabbitMQ drops a dead letter that comes
    back without having been *rejected* since, and a death of the delivery limit is none. (Measured
    on 3.10, 4.0 and 4.3.) From 4.0 on every quorum queue has a limit, 20 where it says nothing.

    Fix: Let the library retry (`retry: {attempts: …, backoff: […]}`), with a dead letter queue for
    what fails for good; or send the dead letters of the queue to a queue that does not lead back,
    and what is to be tried again to the retry queue by publishing it.
    """
    for fact in facts.queues:
        limit = _limit(facts, fact)
        if limit is None or (LIMIT not in fact.arguments and facts.version is None):
            continue
        deaths = facts.deaths_by_any_key(fact, "delivery_limit")
        if any(loss.why == "cycle" for death in deaths for loss in death.losses):
            argument = LIMIT if LIMIT in fact.arguments else EXCHANGE
            message = (
                f"a message that reaches the delivery limit ({limit}) of queue {fact.name} comes "
                "back to it in a dead-letter cycle, and RabbitMQ silently drops it"
            )
            yield Fault(facts.where_argument(fact, argument), message)


def _limit(facts: Facts, fact: QueueNode) -> int | None:
    """How often the broker takes a message back, where it may be an end to that."""
    if fact.type != "quorum":
        return None
    limit = fact.arguments.get(LIMIT)
    if isinstance(limit, int):
        return limit if limit >= 0 else None
    return DEFAULT_DELIVERY_LIMIT if LIMITS_DELIVERIES.may_be(facts.version) else None


@rule("warning")
def retry_without_limit(facts: Facts) -> Iterator[Fault]:
    """A retry without limit.

    Attune's consumers requeued what failed, at once and without a limit: a single message that
    could never succeed kept all of them busy. A `delivery_limit` of -1 takes away the limit that
    RabbitMQ sets against just that. And a limit of attempts is none where the message that used
    them up comes back: dead letters of the queue must not lead to it again.

    Fix: Leave `delivery_limit: -1` out; send the dead letters of a queue with `retry` to a queue
    that does not lead back to it.
    """
    for fact in facts.queues:
        unlimited = fact.type == "quorum" and fact.arguments.get(LIMIT) == -1
        if unlimited and LIMITS_DELIVERIES.may_be(facts.version):
            message = f"queue {fact.name} takes messages back without limit (delivery_limit: -1)"
            yield Fault(facts.where_argument(fact, LIMIT), message)
        retry = fact.queue.retry
        if retry is not None and any(
            fact.name in death.queues for death in facts.deaths_by_any_key(fact)
        ):
            message = (
                f"after {retry.attempts} attempts a message of queue {fact.name} is dead-lettered, "
                "and its dead letters come back to it: it is tried without end"
            )
            yield Fault(facts.where_argument(fact, EXCHANGE), message)


@rule("warning")
def attempts_cut_short(facts: Facts) -> Iterator[Fault]:
    """More attempts than the delivery limit leaves.

    RabbitMQ takes a message from a quorum queue when it was requeued more often than the delivery
    limit, whatever the file says of attempts. The consumers of this library count for themselves,
    and publish what is to be tried again anew; but an attempt that ends with a lost connection (a
    worker that is killed, a handler that crashes the process), and every attempt of a consumer
    that requeues messages, counts as a return. Such a message is dead-lettered as
    `delivery_limit`, with attempts left.

    Fix: Raise `delivery_limit` to at least the attempts less one, or lower `retry.attempts`.
    """
    for fact in facts.queues:
        limit = _limit(facts, fact)
        retry = fact.queue.retry
        if retry is not None and limit is not None and retry.attempts > limit + 1:
            stated = "" if LIMIT in fact.arguments else f", the default of {LIMITS_DELIVERIES}"
            message = (
                f"queue {fact.name}: {retry.attempts} attempts, but a delivery limit of {limit}"
                f"{stated} ends them after {limit + 1}"
            )
            yield Fault(facts.where(*fact.path, "retry", "attempts"), message)
