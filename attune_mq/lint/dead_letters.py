"""Rules about dead letters: each has one resting place, which keeps it for a stated time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attune_mq.lint.facts import Facts
from attune_mq.lint.rule import Fault, rule
from attune_mq.topology.arguments import (
    DEAD_LETTER_EXCHANGE as EXCHANGE,
    DEAD_LETTER_ROUTING_KEY as ROUTING_KEY,
    DEAD_LETTER_STRATEGY as STRATEGY,
    MESSAGE_TTL,
    OVERFLOW,
)
from attune_mq.topology.dead_lettering import Death, Reason
from attune_mq.topology.network import HopPath, QueueNode
from attune_mq.topology.objects import EXCHANGE_TYPES
from attune_mq.topology.reachability import grouped, reachable


@rule("error")
def dead_letter_exchange_missing(facts: Facts) -> Iterator[Fault]:
    """Dead letters to an exchange that does not exist.

    RabbitMQ accepts a queue whose dead letter exchange does not exist, and drops every dead letter
    of it, silently: no listing shows it until a failed message is searched for.

    Fix: Declare the exchange in `exchanges`, and name it by its key in `dead_letter`.
    """
    for fact in facts.queues:
        exchange = fact.arguments.get(EXCHANGE)
        if isinstance(exchange, str) and exchange not in facts.exchange_types:
            message = f"the dead letter exchange {exchange!r} of queue {fact.name} does not exist"
            yield Fault(facts.where_argument(fact, EXCHANGE), message)


@rule("error")
def dead_letter_key_without_exchange(facts: Facts) -> Iterator[Fault]:
    """A routing key for dead letters, and no exchange for them.

    RabbitMQ refuses a queue with `x-dead-letter-routing-key` and without `x-dead-letter-exchange`,
    with 406 PRECONDITION_FAILED.

    Fix: Say the exchange too: `dead_letter: {to: …, routing_key: …}`; or take the key out.
    """
    for fact in facts.queues:
        if ROUTING_KEY in fact.arguments and EXCHANGE not in fact.arguments:
            where = facts.where_argument(fact, ROUTING_KEY)
            yield Fault(where, f"queue {fact.name} has {ROUTING_KEY} and no {EXCHANGE}")


@rule("error")
def dead_letter_exchange_internal(facts: Facts) -> Iterator[Fault]:
    """Dead letters to an internal exchange, of a queue that the file has consumers for.

    RabbitMQ itself dead-letters to an internal exchange. A consumer of this library publishes what
    fails for good to the dead letter exchange, with the error and where it came from, and no client
    can publish to an internal exchange: the answer is 403 ACCESS_REFUSED, and the message goes back
    to its queue instead.

    Fix: Leave `internal: true` out of the dead letter exchange.
    """
    internal = {each.name for each in facts.whole.exchanges.values() if each.internal}
    for fact in facts.queues:
        if fact.path in facts.consumers_of and fact.arguments.get(EXCHANGE) in internal:
            message = (
                f"consumers of queue {fact.name} cannot publish dead letters to "
                f"{fact.arguments[EXCHANGE]}: it is internal"
            )
            yield Fault(facts.where_argument(fact, EXCHANGE), message)


@rule("error")
def dead_letter_unroutable(facts: Facts) -> Iterator[Fault]:
    """Dead letters that no binding takes.

    The dead letter exchange is there, and nothing is bound to it with the key that dead letters
    have: the key of the queue, or without one the key that they were published with. So they
    vanish. Attune lost all of its dead letters so for weeks. Where the queue dead-letters at least
    once it is worse: it keeps what it cannot get rid of, unseen, until it is full.

    Fix: Bind a queue to the dead letter exchange with that key, or leave it all to the library:
    `dead_letter: {exchange: …}` gives each queue a dead letter queue of its own.
    """
    said: set[str] = set()
    for fact in facts.queues:
        deaths = facts.deaths(fact)
        lost = {loss for death in deaths for loss in death.losses if loss.why == "unroutable"}
        for loss in sorted(lost):
            if loss.queue not in said:
                said.add(loss.queue)
                keys = [death.routing_key for death in deaths if loss in death.losses]
                yield _unroutable(facts, facts.network.queues[loss.queue], keys, held=loss.held)
        if not deaths and _leads_nowhere(facts, fact.arguments.get(EXCHANGE)):
            yield _unroutable(facts, fact, (), held=False)


def _leads_nowhere(facts: Facts, exchange: Any) -> bool:
    return exchange in facts.exchange_types and exchange not in facts.exchanges_leading_on


def _unroutable(facts: Facts, fact: QueueNode, keys: Sequence[str], *, held: bool) -> Fault:
    exchange = _shown_exchange(fact)
    given = fact.arguments.get(ROUTING_KEY)
    if given is not None:
        keyed = f" with the key {given!r}"
    elif keys:
        keyed = f" with the key {keys[0]!r}" + (f" and {len(keys) - 1} more" if keys[1:] else "")
    else:
        keyed = ""
    fate = "stay in it, unseen, and fill it" if held else "are lost"
    message = f"dead letters of queue {fact.name}{keyed} reach no queue by {exchange} and {fate}"
    return Fault(facts.where_argument(fact, EXCHANGE), message)


def _shown_exchange(fact: QueueNode) -> str:
    name = fact.arguments[EXCHANGE]
    return f"exchange {name}" if name else "the default exchange"


@rule("warning")
def dead_letter_copied(facts: Facts) -> Iterator[Fault]:
    """A dead letter that is copied to several queues.

    A fanout exchange copies a message to every queue bound to it. With one dead letter exchange for
    all and a dead letter queue for each queue, each dead letter lands in all of them: a replay of
    one queue replays the failures of the others too. The cure that keeps the fanout exchange: a
    routing key for the dead letters of each queue, which survives it, and a direct exchange behind
    it.

    Fix: Leave it to the library (`dead_letter: {exchange: …}` does the above), or make the dead
    letter exchange direct and give each queue a dead letter routing key of its own.
    """
    for fact in facts.queues:
        for death in facts.deaths_by_any_key(fact):
            names = _surely_reached(facts, death)
            if len(names) > 1:
                some = ", ".join(names[:4]) + (", …" if names[4:] else "")
                message = f"a dead letter of queue {fact.name} is copied to {len(names)}: {some}"
                yield Fault(facts.where_argument(fact, EXCHANGE), message)
                break


def _surely_reached(facts: Facts, death: Death) -> list[str]:
    """Without the queues that only some headers, or an exchange of a plugin, lead to."""
    return sorted({path[-1].destination for path in death.paths if _is_sure(facts, path)})


def _is_sure(facts: Facts, path: HopPath) -> bool:
    types = (facts.exchange_types.get(hop.source) for hop in path if hop.via != "dead letter")
    return all(kind in EXCHANGE_TYPES and kind != "headers" for kind in types)


@rule("error")
def dead_letter_cycle(facts: Facts) -> Iterator[Fault]:
    """Dead letters that come back to the queue in which they died.

    Two things can happen to such a message, and neither is meant. Where it died of its TTL or of
    the length of the queue, RabbitMQ detects the dead-letter cycle, and silently drops it. Where a
    consumer rejected it, it comes back at once, is rejected again, and so on without end or pause:
    the hot loop that Attune had. (A cycle through a queue with a TTL, in which a rejected message
    waits for its next try, is no fault, and not reported.)

    Fix: Send the dead letters to a queue of their own; for another try after a while, use `retry`
    with a `backoff`.
    """
    for fact in facts.queues:
        for reason, how in _own_deaths(fact):
            if any(_cycles(death) for death in facts.deaths_by_any_key(fact, reason)):
                message = (
                    f"messages that {how} queue {fact.name} are dropped: a dead-letter cycle leads "
                    "back to it"
                )
                yield Fault(facts.where_argument(fact, EXCHANGE), message)
                break
    for members in _closed_cycles(_at_once(facts)):
        path = " -> ".join((*members, members[0]))
        message = f"a dead-letter cycle of rejected messages, at once and without end: {path}"
        fact = facts.network.queues[members[0]]
        yield Fault(facts.where_argument(fact, EXCHANGE), message)


def _own_deaths(fact: QueueNode) -> Iterator[tuple[Reason, str]]:
    """The reasons for which messages die without the doing of a consumer."""
    if MESSAGE_TTL in fact.arguments:
        yield "expired", "expire in"
    limited = "x-max-length" in fact.arguments or "x-max-length-bytes" in fact.arguments
    if limited and fact.arguments.get(OVERFLOW) != "reject-publish":
        yield "maxlen", "overflow"


def _cycles(death: Death) -> bool:
    return any(loss.why == "cycle" for loss in death.losses)


def _closed_cycles(edges: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """The sets of queues that lead to each other, each in the order in which one was come to from
    another; a queue that leads to itself alone is one."""
    feeding = grouped((target, source) for source, targets in edges.items() for target in targets)
    found: set[str] = set()
    for name in edges:
        if name in found or name not in feeding:
            continue
        before = set(reachable([name], feeding.__getitem__))
        members = [
            each for each in reachable([name], lambda each: edges.get(each, ())) if each in before
        ]
        found.update(members)
        if len(members) > 1 or name in edges[name]:
            yield members


def _at_once(facts: Facts) -> dict[str, list[str]]:
    """From each queue to those in which a rejected message lies next, without a wait between.
    Where the file says who consumes, only a queue with a consumer rejects."""
    rejecting = [f for f in facts.queues if not facts.consumers or f.path in facts.consumers_of]
    return {
        fact.name: sorted(
            {name for death in facts.deaths_by_any_key(fact) for name in _next(death)}
        )
        for fact in rejecting
    }


def _next(death: Death) -> list[str]:
    return [path[-1].destination for path in death.paths if _direct(path)]


def _direct(path: HopPath) -> bool:
    return sum(hop.via == "dead letter" for hop in path) == 1


@rule("warning")
def dead_letter_never_expires(facts: Facts) -> Iterator[Fault]:
    """A queue that keeps dead letters for ever.

    Attune's configuration gave dead letters 24 hours, and no queue was ever declared with it. What
    nobody consumes and nothing expires is kept until the disk is full, and then the broker stops
    all publishers.

    Fix: Give the queue a `ttl`, or a consumer in the file; the dead letter queues that the library
    makes have a `ttl` of 24 h unless the file says otherwise.
    """
    for name, sources in facts.resting_places.items():
        fact = facts.network.queues[name]
        kept = MESSAGE_TTL in fact.arguments or fact.type == "stream"
        emptied = fact.path in facts.consumers_of or fact.path in facts.published_to
        if not kept and not emptied:
            of = f"queue {sources[0].name}" if len(sources) == 1 else f"{len(sources)} queues"
            message = f"dead letters of {of} rest in {name}, which has no ttl and no consumer"
            yield Fault(facts.where(*fact.path), message)


@rule("warning")
def ttl_without_dead_letter(facts: Facts) -> Iterator[Fault]:
    """A TTL whose expired messages vanish.

    A message that expires in a queue without a dead letter exchange is gone. Attune's workers had
    queues in which dispatches went on waiting after the worker had died; a TTL alone would have
    made those executions hang for ever, and the TTL with a dead letter exchange fails them. A
    public project has a queue with a TTL beside a dead letter queue that nothing leads to.

    Fix: Say where expired messages go: `dead_letter: {to: …}`. Where they may vanish, because they
    are of no use by then, suppress the finding with that reason.
    """
    for fact in facts.queues:
        has_ttl = MESSAGE_TTL in fact.arguments and EXCHANGE not in fact.arguments
        is_last = fact.queue.purpose == "dead_letter" or fact.name in facts.resting_places
        if has_ttl and fact.is_shared and not is_last:
            message = f"messages that expire in queue {fact.name} are lost: it has no dead_letter"
            yield Fault(facts.where_argument(fact, MESSAGE_TTL), message)


@rule("error")
def at_least_once_without_reject_publish(facts: Facts) -> Iterator[Fault]:
    """At-least-once dead-lettering of a queue that does not reject what it cannot hold.

    A quorum queue dead-letters at least once only together with `x-overflow: reject-publish`.
    Without it RabbitMQ accepts the declaration and dead-letters at most once, as if nothing had
    been said: dead letters can be lost on the way when a node fails.

    Fix: Add `overflow: reject-publish` to the queue, or leave the strategy out.
    """
    for fact in facts.queues:
        asked = fact.arguments.get(STRATEGY) == "at-least-once"
        if asked and fact.arguments.get(OVERFLOW) != "reject-publish":
            message = f"queue {fact.name} dead-letters at most once: overflow is not reject-publish"
            yield Fault(facts.where_argument(fact, STRATEGY), message)
