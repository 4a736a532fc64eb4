"""Rules about consumers: how much they take at once, and how long they may."""

from __future__ import annotations

from collections.abc import Iterator

from attune_mq.lint.facts import ConsumerFact, Facts
from attune_mq.lint.rule import Fault, rule
from attune_mq.topology.arguments import Versions
from attune_mq.topology.durations import format_duration

DEFAULT_CONSUMER_TIMEOUT_MS = 30 * 60 * 1000
CLASSIC_QUEUES_TIME_OUT = Versions(before=(4, 3))


@rule("warning")
def prefetch_without_bound(facts: Facts) -> Iterator[Fault]:
    """A consumer without a bound on what it takes at once.

    A prefetch of 0 is no limit: RabbitMQ sends a consumer all that is in the queue. The first of
    several consumers gets everything and the others idle; its memory fills; and what it held goes
    back at once, all of it, when its connection is lost. From a stream RabbitMQ refuses such a
    consumer.

    Fix: Give the consumer a `prefetch` of 1 or more; without one it has 10.
    """
    for consumer in facts.consumers:
        if consumer.spec.prefetch_count == 0:
            message = f"consumer {consumer.tag} takes all of {consumer.queue.name} at once"
            yield Fault(facts.where(*consumer.path, "prefetch"), message)


@rule("warning")
def deadline_beyond_consumer_timeout(facts: Facts) -> Iterator[Fault]:
    """A handler that may take longer than RabbitMQ waits for an acknowledgement.

    RabbitMQ waits 30 minutes, by default, for the acknowledgement of a delivery; then it closes the
    channel, or from 4.3 on cancels the consumer, and gives the message to the next one, while the
    first is still at work: the work is done twice, and the acknowledgement fails. The clock runs
    from the delivery on, so a message that waits among prefetched ones has less. From 4.3 on
    classic queues have no such timeout.

    Fix: Lower `deadline` or `prefetch`, raise `concurrency`, or give the queue more time with the
    argument `x-consumer-timeout` (in milliseconds; RabbitMQ 3.12 and later).
    """
    for consumer in facts.consumers:
        timeout_ms = _timeout_ms(facts, consumer)
        deadline_ms = consumer.spec.deadline_ms
        if deadline_ms is None or timeout_ms is None:
            continue
        rounds = max(1, -(-consumer.spec.prefetch_count // consumer.spec.concurrency))
        if deadline_ms * rounds > timeout_ms:
            took = f"a handler of {consumer.tag} may take {format_duration(deadline_ms)}"
            if rounds > 1:
                took += f", so the last of {consumer.spec.prefetch_count} prefetched messages waits"
                took += f" up to {format_duration(deadline_ms * rounds)}"
            message = f"{took}; RabbitMQ waits {format_duration(timeout_ms)}"
            yield Fault(facts.where(*consumer.path, "deadline"), message)


@rule("note")
def consumer_without_deadline(facts: Facts) -> Iterator[Fault]:
    """Consumers whose handlers may take any time.

    A handler that hangs, on a lock or on a socket without a timeout, holds its message and its
    thread, and Python cannot end it. When all handlers of a consumer hang, its connection is as
    well as ever, the broker counts a consumer, and the queue grows. Without a `deadline` a handler
    that hangs looks like one that is slow: readiness stays green for 15 minutes, with a line in
    `warnings` after one.

    Fix: Give each consumer a `deadline` that its slowest handler keeps, such as 1m: then readiness
    is red as soon as all of them are over it, and the log names each that is.
    """
    without = [one for one in facts.consumers if one.spec.deadline_ms is None]
    if without:
        tags = ", ".join(one.tag for one in without)
        yield Fault(
            facts.where(*without[0].path), f"no deadline is given to the handlers of {tags}"
        )


def _timeout_ms(facts: Facts, consumer: ConsumerFact) -> int | None:
    """How long the broker waits for the acknowledgement; ``None``: for ever."""
    queue = consumer.queue
    if queue.type == "stream":
        return None
    if queue.type == "classic" and not CLASSIC_QUEUES_TIME_OUT.may_be(facts.version):
        return None
    stated = queue.arguments.get("x-consumer-timeout")
    return stated if isinstance(stated, int) else DEFAULT_CONSUMER_TIMEOUT_MS


@rule("error")
def stream_without_offset(facts: Facts) -> Iterator[Fault]:
    """A consumer of a stream that does not say where it begins.

    RabbitMQ begins at `next` unless it is given an offset: what was published before the consumer
    came, and whatever is published while it is not connected, is never delivered to it. Nothing is
    refused, returned or logged, and the stream looks well: its messages are all there, unread. Over
    AMQP 0-9-1 RabbitMQ keeps no offsets either: nobody remembers how far a consumer had come,
    unless it does so itself.

    Fix: Give the consumer an `offset`: `stored` where it is to go on after what it handled last,
    which its own database keeps (`attune_mq.transactional.StreamPositions`); `first` where each
    start reads all that the stream still has; `next` where what it misses is of no use to it.
    """
    for consumer in facts.consumers:
        if consumer.queue.type == "stream" and consumer.spec.offset is None:
            message = (
                f"consumer {consumer.tag} of stream {consumer.queue.name} has no offset: what is "
                f"published while it is not connected is never read"
            )
            yield Fault(facts.where(*consumer.path), message)
