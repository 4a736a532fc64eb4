"""Rules about what one version of RabbitMQ does and another does not.

``broker: {version: "4.3"}`` in the file says which it is. Without it a rule speaks of every version
for which there is something to say, and says which these are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from attune_mq.lint.facts import Facts
from attune_mq.lint.rule import Fault, rule
from attune_mq.topology.arguments import (
    DEFAULT_DELIVERY_LIMIT,
    DELIVERY_LIMIT,
    QUEUE_ARGUMENTS,
    Versions,
)

TRANSIENT_QUEUES_GO = Versions(since=(4, 3))


@rule("error")
def argument_refused_by_version(facts: Facts) -> Iterator[Fault]:
    """An argument that this version of RabbitMQ refuses.

    RabbitMQ drops features with time, and a declaration that asks for one is refused, or closes the
    connection: on 4.3 `x-queue-version: 1` is answered with 406, and `x-queue-master-locator` ends
    the connection with 541, and with it every other channel of the service. The upgrade goes well;
    the next start of the service does not.

    Fix: Take the argument out, or say in `broker: {version: …}` which RabbitMQ the file is for.
    """
    yield from _changes(facts, "refuses")


@rule("warning")
def argument_ignored_by_version(facts: Facts) -> Iterator[Fault]:
    """An argument that this version of RabbitMQ ignores.

    The argument meant something once, or will mean something after an upgrade. This version accepts
    it and does nothing with it, so a reader of the file believes in a behaviour that is not there:
    a lazy queue that is like any other, a limit of memory that does not limit.

    Fix: Take the argument out, or say in `broker: {version: …}` which RabbitMQ the file is for.
    """
    yield from _changes(facts, "ignores")
    for fact in facts.queues:
        for argument in fact.queue.arguments:
            known = QUEUE_ARGUMENTS.get(argument)
            before = Versions(before=known.since) if known and known.since else None
            if before is not None and before.may_be(facts.version):
                where = facts.where_argument(fact, argument)
                yield Fault(where, f"queue {fact.name}: {before} ignores {argument}")


def _changes(facts: Facts, effect: Literal["refuses", "ignores"]) -> Iterator[Fault]:
    for fact in facts.queues:
        for name, value in fact.arguments.items():
            row = QUEUE_ARGUMENTS.get(name)
            for change in row.changes if row else ():
                applies = change.effect == effect and change.versions.may_be(facts.version)
                if applies and change.concerns(fact.type, value):
                    what = f"{change.versions} {effect} {name}: {change.why}"
                    yield Fault(facts.where_argument(fact, name), f"queue {fact.name}: {what}")


@rule("warning")
def transient_queue(facts: Facts) -> Iterator[Fault]:
    """A transient queue that is not exclusive.

    Queues that are neither durable nor exclusive are a deprecated feature of RabbitMQ. On 4.3 they
    are refused (541 INTERNAL_ERROR, which closes the connection) unless the node permits them, and
    where it permits them it warns in its log. On every version such a queue, and every message in
    it, is gone when its node restarts.

    Fix: Leave `durable: false` out, and give a queue that should not outlive its use `expires`; or
    make it `exclusive`, when it belongs to one connection.
    """
    if not TRANSIENT_QUEUES_GO.may_be(facts.version):
        return
    for fact in facts.queues:
        if not fact.queue.durable and not fact.queue.exclusive:
            where = facts.where(*fact.path, "durable")
            message = (
                f"queue {fact.name} is transient and not exclusive: {TRANSIENT_QUEUES_GO} refuses "
                "such queues unless the node permits them"
            )
            yield Fault(where, message)


@rule("warning")
def delivery_limit_differs(facts: Facts) -> Iterator[Fault]:
    """A delivery limit that is not the same on every version of RabbitMQ.

    A quorum queue that says nothing of a delivery limit has none before RabbitMQ 4.0, and one of 20
    from then on: a message that was requeued for the 21st time is dead-lettered, or dropped where
    there is no dead letter exchange. `-1` means no limit on 4.x; on 3.10 the message is gone after
    its *first* return. So an upgrade silently changes how often a message is tried.

    Fix: Give the queue a `delivery_limit` of 0 or more, or say in `broker: {version: …}` which
    RabbitMQ the file is for.
    """
    for fact in facts.queues:
        if fact.type != "quorum" or fact.queue.purpose != "main":
            continue
        limit = fact.arguments.get(DELIVERY_LIMIT)
        if limit is None and facts.version is None:
            message = (
                f"quorum queue {fact.name} has no delivery_limit: none before RabbitMQ 4.0, "
                f"{DEFAULT_DELIVERY_LIMIT} from then on"
            )
            yield Fault(facts.where(*fact.path), message)
        if limit == -1 and Versions(before=(4, 0)).may_be(facts.version):
            where = facts.where_argument(fact, DELIVERY_LIMIT)
            message = (
                f"quorum queue {fact.name} has delivery_limit -1: RabbitMQ 3.10 drops a message "
                "when it is requeued for the first time; 4.0 and later has no limit then"
            )
            yield Fault(where, message)
