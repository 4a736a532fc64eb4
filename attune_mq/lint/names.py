"""Rules about names: those of the file, and those that the library makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from attune_mq.lint.facts import Facts
from attune_mq.lint.rule import Fault, rule
from attune_mq.topology.expansion import dead_letter_queue_name, retry_queue_name
from attune_mq.topology.fields import MAX_NAME_BYTES
from attune_mq.topology.model import Topology
from attune_mq.topology.objects import (
    BUILT_IN_EXCHANGES,
    RESERVED_PREFIX,
    DeadLetterQueue,
    Exchange,
    OwnDeadLetterQueue,
    Queue,
)
from attune_mq.topology.source import Path, Where


@rule("error")
def name_too_long(facts: Facts) -> Iterator[Fault]:
    """A name that AMQP cannot carry.

    Names and consumer tags are sent as short strings: 255 bytes at most, in UTF-8. Of names in a
    file, the file's own checks say so, also with what the library adds to them; of a tag, and of a
    topology that was made in code, this rule does. No other rule is checked until it is corrected.

    Fix: Shorten the name.
    """
    for where, name in _names(facts.written):
        size_bytes = len(name.encode("utf-8", "surrogatepass"))
        if size_bytes > MAX_NAME_BYTES:
            message = f"{name[:40]}…{name[-20:]} has {size_bytes} bytes, {MAX_NAME_BYTES} at most"
            yield Fault(where, message)


def _names(topology: Topology) -> Iterator[tuple[Where, str]]:
    """Names that the file's own checks do not see: tags, and what the library makes of others."""
    for at, block in topology.blocks():
        for tag in block.consumers:
            yield topology.where(*at, "consumers", tag), tag
        for key, queue in block.queues.items():
            for name in _made_of(topology, queue):
                yield topology.where(*at, "queues", key, "name"), name


def _made_of(topology: Topology, queue: Queue) -> Iterator[str]:
    own, general = queue.dead_letter, topology.dead_letter
    inherits = own is None and queue.purpose == "main" and not queue.belongs_to_a_connection
    if isinstance(own, OwnDeadLetterQueue) or (inherits and isinstance(general, DeadLetterQueue)):
        yield dead_letter_queue_name(queue.name)
    for delay_ms in queue.retry.backoff_ms if queue.retry and queue.type != "stream" else ():
        yield retry_queue_name(queue.name, delay_ms)


@rule("error")
def name_reserved(facts: Facts) -> Iterator[Fault]:
    """A name that begins with `amq.`, which RabbitMQ keeps to itself.

    RabbitMQ refuses to make a queue or an exchange whose name begins with `amq.`, with 403
    ACCESS_REFUSED. Exchanges that are there without being declared (`amq.topic` and its like) can
    be bound to and published to by their name, and need no entry in the file.

    Fix: Choose another name. A built-in exchange is referred to by its name, without an entry.
    """
    for key, exchange in facts.whole.exchanges.items():
        if exchange.name.startswith(RESERVED_PREFIX) and not _is_built_in(exchange):
            path = (
                ("exchanges", key, "name") if key in facts.written.exchanges else ("dead_letter",)
            )
            yield _reserved(facts.where(*path), f"exchange {exchange.name}")
    for fact in facts.queues:
        if fact.queue.name.startswith(RESERVED_PREFIX):
            yield _reserved(facts.where(*fact.path, "name"), f"queue {fact.name}")


def _is_built_in(exchange: Exchange) -> bool:
    """Declared as it is, which RabbitMQ takes."""
    same = BUILT_IN_EXCHANGES.get(exchange.name) == exchange.type and exchange.durable
    return same and not exchange.auto_delete and not exchange.internal


def _reserved(where: Where, owner: str) -> Fault:
    return Fault(where, f"{owner}: names that begin with {RESERVED_PREFIX!r} are refused (403)")


@rule("error")
def name_taken(facts: Facts) -> Iterator[Fault]:
    """A name that the library needs for something that it adds.

    The dead letter queue of `Q` is named `Q.dlq`, and so on. Where the file has a queue of that
    name too, with other arguments, whichever is declared second is refused with 406
    PRECONDITION_FAILED, and dead letters of one lie among the messages of the other.

    Fix: Rename the queue or exchange; or take it out, where it is what the library makes anyway.
    """
    named = [(f"queue {fact.name}", fact.path) for fact in facts.queues if fact.queue.name]
    named += [(f"exchange {e.name}", ("exchanges", k)) for k, e in facts.whole.exchanges.items()]
    yield from _twice(facts, named)


def _twice(facts: Facts, named: list[tuple[str, Path]]) -> Iterator[Fault]:
    first: dict[str, Path] = {}
    for owner, path in named:
        other = first.setdefault(owner, path)
        if other != path:
            added, written = (other, path) if _is_written(facts.written, path) else (path, other)
            made_for = facts.where(*added)
            message = f"{owner} is also made for {made_for.path} in line {made_for.line}"
            yield Fault(facts.where(*written), message)


def _is_written(topology: Topology, path: Path) -> bool:
    *at, section, key = path
    objects: Mapping[str, object] = getattr(dict(topology.blocks())[tuple(at)], str(section))
    return key in objects
