"""Rules about queues: something comes in, something takes it out, and nothing grows for ever."""

from __future__ import annotations

from collections.abc import Iterator

from attune_mq.lint.facts import Facts
from attune_mq.lint.rule import Fault, rule
from attune_mq.topology.network import QueueNode

_LIMITS = ("x-message-ttl", "x-max-length", "x-max-length-bytes", "x-expires")


@rule("warning")
def queue_without_binding(facts: Facts) -> Iterator[Fault]:
    """A queue to which no path leads.

    Attune's executor waited on a queue without a binding. No error, no message, no log: a queue
    that stays empty looks like one that is worked off well. (A queue that messages of the file, or
    dead letters, are sent to by its name needs no binding, and is not reported; nor is any queue
    while the file names no messages.)

    Fix: Bind the queue, or take it out.
    """
    if not facts.flow.publications:
        return
    reached = set(facts.bindings_to) | {
        str(fact.arguments.get("x-dead-letter-routing-key"))
        for fact in facts.queues
        if fact.arguments.get("x-dead-letter-exchange") == ""
    }
    for fact in facts.queues:
        awaited = fact.queue.purpose == "main" and not fact.queue.belongs_to_a_connection
        if awaited and fact.name not in reached and not facts.flow.arrivals[fact.path]:
            message = f"nothing is bound to queue {fact.name}, and no message is sent to it by name"
            yield Fault(facts.where(*fact.path), message)


@rule("warning")
def queue_without_consumer(facts: Facts) -> Iterator[Fault]:
    """A queue that grows without a consumer or a limit.

    Attune had a queue that caught all events with `#`, for later use, and nothing consumed it. It
    grew until the broker ran into its disk limit, and RabbitMQ then stops *all* publishers, not
    only those of that queue.

    Fix: Name the consumer in `consumers`, or give the queue a limit (`ttl`, `max_length`), or take
    it out. Where something consumes it that the file does not know, suppress the finding and say
    what.
    """
    growing = [fact for fact in facts.queues if _grows(facts, fact)]
    if facts.consumers or facts.flow.publications or len(growing) < 2:
        for fact in growing:
            message = f"queue {fact.name} has no consumer in this file, and no limit"
            yield Fault(facts.where(*fact.path), message)
        return
    # A file that names neither messages nor consumers, as one that was imported, is reported once.
    some = ", ".join(fact.name for fact in growing[:4]) + (", …" if growing[4:] else "")
    message = f"this file names no consumers for {len(growing)} queues ({some})"
    yield Fault(facts.where(*growing[0].path), message)


def _grows(facts: Facts, fact: QueueNode) -> bool:
    if fact.queue.purpose != "main" or not fact.is_shared or fact.type == "stream":
        return False
    if fact.path in facts.consumers_of or any(limit in fact.arguments for limit in _LIMITS):
        return False
    if fact.path in facts.published_to:
        return True
    filled = not facts.flow.publications or bool(facts.flow.arrivals[fact.path])
    return filled and fact.name not in facts.resting_places  # of those another rule speaks


@rule("warning")
def stream_without_retention(facts: Facts) -> Iterator[Fault]:
    """A stream that keeps everything.

    Consuming takes nothing out of a stream: it keeps all messages until its retention drops the
    oldest. Without a retention that is never, and it grows until the disk is full.

    Fix: Give it `max_length_bytes`, or `x-max-age` (such as `7D`) in its `arguments`.
    """
    for fact in facts.queues:
        limited = "x-max-age" in fact.arguments or "x-max-length-bytes" in fact.arguments
        if fact.type == "stream" and not limited:
            yield Fault(facts.where(*fact.path), f"stream {fact.name} has no retention")


@rule("warning")
def family_queue_without_limit(facts: Facts) -> Iterator[Fault]:
    """A queue of a family that goes on filling when its instance is gone.

    Each worker of Attune has queues of its own, made when it registers. A worker that stopped left
    them behind, bound and durable, and they took on work for it: executions were sent to dead
    workers, and waited for ever. Every queue of a family outlives its instance some day.

    Fix: Give it a `ttl`, with a `dead_letter` for what must not be lost, or `expires`, so that it
    goes when it is no longer used.
    """
    for fact in facts.queues:
        lasting = fact.is_of_family and fact.is_shared and fact.queue.purpose == "main"
        consumed = fact.path in facts.consumers_of
        if lasting and consumed and not any(limit in fact.arguments for limit in _LIMITS):
            message = f"queue {fact.name} goes on filling when its instance is gone"
            yield Fault(facts.where(*fact.path), message)
