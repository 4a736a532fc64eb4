"""Rules about messages: what is published arrives, and at a consumer that handles it."""

from __future__ import annotations

from collections.abc import Iterator

from attune_mq.lint.facts import Facts
from attune_mq.lint.rule import Fault, rule
from attune_mq.topology.reachability import grouped

ANY_TYPE = "*"


@rule("error")
def message_unroutable(facts: Facts) -> Iterator[Fault]:
    """A message that reaches no queue.

    Attune published `inquiry.created`, and no queue was bound to it. RabbitMQ drops what it cannot
    route, and confirms it as if all were well unless it was published as mandatory. The inquiries
    were never answered; no log said why.

    Fix: Bind a queue to the exchange with that key, or publish to where one is bound. A broadcast
    that may have no subscriber says so with `mandatory: false`.
    """
    for each in facts.flow.publications:
        if not each.queues and facts.contract(each).mandatory:
            message = (
                f"{each.message_type}, published to {each.exchange or 'the default exchange'} with "
                f"key {each.routing_key!r}, reaches no queue"
            )
            yield Fault(facts.where(*each.path), message)


@rule("error")
def message_to_internal_exchange(facts: Facts) -> Iterator[Fault]:
    """A message published to an internal exchange.

    Clients cannot publish to an internal exchange: RabbitMQ answers with 403 ACCESS_REFUSED and
    closes the channel, with everything else that is in flight on it.

    Fix: Leave `internal: true` out, or publish to the exchange that feeds this one.
    """
    internal = {each.name for each in facts.whole.exchanges.values() if each.internal}
    for each in facts.flow.publications:
        if each.exchange in internal:
            message = f"{each.message_type} is published to {each.exchange}, which is internal"
            yield Fault(facts.where(*each.path), message)


@rule("error")
def message_unhandled(facts: Facts) -> Iterator[Fault]:
    """A consumer that does not handle a type that can arrive in its queue.

    Three consumers of Attune's executor shared one queue, and each could read one type of payload.
    RabbitMQ gives a message to whichever of them is free: two of three messages came to one that
    could not read them, and were dead-lettered. A consumer of a queue has to handle every type that
    can arrive in it, those that come back as dead letters included.

    Fix: Let the consumer handle the type too (`handles`), or give the type a queue of its own.
    """
    for consumer in facts.consumers:
        handled = set(consumer.spec.handles)
        if handled and ANY_TYPE not in handled:
            missing = sorted(facts.flow.arrivals[consumer.queue.path] - handled)
            if missing:
                message = (
                    f"{', '.join(missing)} can arrive in {consumer.queue.name}, and consumer "
                    f"{consumer.tag} does not handle {'it' if len(missing) == 1 else 'them'}"
                )
                yield Fault(facts.where(*consumer.path, "handles"), message)


@rule("error")
def message_misses_handler(facts: Facts) -> Iterator[Fault]:
    """A message that never comes to a consumer that handles it.

    Attune published `EnforcementCreated` to the exchange for events, and its consumer's queue hangs
    on the exchange for executions. It was routed, and confirmed, and lay in a queue; executions
    were never created. Publisher and consumer were each right in themselves.

    Fix: Publish it to the exchange, and with the key, that the queue of its consumer is bound to;
    or bind that queue to where it is published.
    """
    handlers = grouped((handled, one) for one in facts.consumers for handled in one.spec.handles)
    reached = _reached(facts)
    for each in facts.flow.publications:
        waiting = handlers.get(each.message_type)
        if waiting and each.queues and each.message_type not in reached:
            names = sorted(facts.network.queue_at[path].name for path in each.queues)
            message = (
                f"{each.message_type} arrives in {', '.join(names)}, but consumer "
                f"{waiting[0].tag}, which handles it, consumes {waiting[0].queue.name}"
            )
            yield Fault(facts.where(*each.path), message)


@rule("warning")
def handler_never_called(facts: Facts) -> Iterator[Fault]:
    """A consumer that handles a type which never arrives in its queue.

    The handler is written, tested and named in the file, and is never called, since the type is
    published to another queue only. Either it is left over, or the queue lacks a binding and the
    messages go to another consumer alone.

    Fix: Take the type out of `handles`, or bind the consumer's queue to where it is published.
    """
    reached = _reached(facts)
    for consumer in facts.consumers:
        here = facts.flow.arrivals[consumer.queue.path]
        for index, handled in enumerate(consumer.spec.handles):
            if handled in reached and handled not in here:
                where = facts.where(*consumer.path, "handles", index)
                message = f"{handled} never arrives in {consumer.queue.name}, where {consumer.tag}"
                yield Fault(where, f"{message} is to handle it")


def _reached(facts: Facts) -> set[str]:
    """The types that come to some consumer which handles them."""
    return {
        handled
        for consumer in facts.consumers
        for handled in set(consumer.spec.handles) & facts.flow.arrivals[consumer.queue.path]
    }
