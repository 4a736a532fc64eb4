"""Hypothesis strategies for topologies that a file can say, with whatever names people think of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from attune_mq import Topology
from attune_mq.topology import (
    MAX_DURATION_MS,
    Binding,
    BrokerExpectation,
    ConsumerSpec,
    DeadLetterQueue,
    DeadLetterTo,
    Defaults,
    Exchange,
    Family,
    MessageContract,
    OwnDeadLetterQueue,
    Queue,
    QueueDefaults,
    Retry,
)

_WORDS = (
    "events", "no", "on", "null", "true", "24:00", "010", "1.5", "0x1f", "12", "2026-09-03", "#",
    "*.created", "- x", "? y", "a: b", "a #b", "{a}", "[a]", "${HOME}", "$${HOME}", "${A:-${B}",
    "~", "=", "<<", "!x", "&x", "%x", "@x", "`x", "'", '"', "\\", " padded ", "line\nbreak", "\x00",
    "\x85", "\u2028", "\ufeff", "naïve", "日本", "🐇", ".inf", "-", "--- ", "...",
)  # fmt: skip
texts = st.sampled_from(_WORDS) | st.text(max_size=40).filter(lambda text: len(text.encode()) < 200)
names = texts.filter(bool)
plain_names = names.filter(lambda text: not set(text) & set("{}"))
durations = st.integers(0, MAX_DURATION_MS) | st.sampled_from([0, 1_000, 300_000, 86_400_000])
counts = st.integers(0, 2**63 - 1)
argument_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
arguments = st.dictionaries(
    texts.filter(lambda text: not text.startswith("x-")), argument_values, max_size=3
)


def _optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def _exchanges(keys: Sequence[str]) -> st.SearchStrategy[dict[str, Exchange]]:
    exchange = st.builds(
        Exchange,
        name=names,
        type=st.sampled_from(["direct", "topic", "fanout", "x-random"]),
        durable=st.booleans(),
        auto_delete=st.booleans(),
        internal=st.booleans(),
        alternate_exchange=_optional(st.sampled_from(keys)) if keys else st.none(),
        arguments=arguments,
    )
    return _one_each(keys, exchange)


def _one_each(keys: Iterable[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value for each key; values of equal names are not wanted."""
    number = len(list(keys))
    lists = st.lists(values, min_size=number, max_size=number, unique_by=lambda each: each.name)
    return lists.map(lambda drawn: dict(zip(keys, drawn, strict=True)))


def _dead_letters(exchanges: Sequence[str], own: type[Any]) -> st.SearchStrategy[Any]:
    strategies = _optional(st.sampled_from(["at-most-once", "at-least-once"]))
    somewhere = st.sampled_from(["", "amq.topic", *exchanges])
    exchange = somewhere if own is DeadLetterQueue else _optional(somewhere)
    ttl = durations if own is DeadLetterQueue else _optional(durations)
    to = st.builds(DeadLetterTo, to=somewhere, routing_key=_optional(texts), strategy=strategies)
    return st.just(False) | to | st.builds(own, exchange=exchange, ttl_ms=ttl, strategy=strategies)


def _queues(keys: Sequence[str], exchanges: Sequence[str], suffix: str) -> Any:
    retry = st.builds(
        Retry, attempts=st.integers(1, 9), backoff_ms=st.lists(durations, max_size=3).map(tuple)
    )
    queue = st.builds(
        Queue,
        name=(plain_names.map(lambda name: name + suffix) if suffix else texts),
        type=_optional(st.sampled_from(["classic", "quorum", "stream"])),
        durable=st.booleans(),
        exclusive=st.booleans(),
        auto_delete=st.booleans(),
        ttl_ms=_optional(durations),
        expires_ms=_optional(durations),
        max_length=_optional(counts),
        max_length_bytes=_optional(counts),
        overflow=_optional(st.sampled_from(["drop-head", "reject-publish"])),
        delivery_limit=_optional(st.integers(-1, 99)),
        max_priority=_optional(st.integers(0, 255)),
        single_active_consumer=_optional(st.booleans()),
        dead_letter=_optional(_dead_letters(exchanges, OwnDeadLetterQueue)),
        retry=_optional(retry),
        purpose=st.sampled_from(["main", "dead_letter", "retry"]),
        arguments=arguments,
    )
    return _one_each(keys, queue.map(_that_can_come_back))


def _that_can_come_back(queue: Queue) -> Queue:
    """Nothing leads back from a retry queue to a queue that the server names."""
    if queue.name or queue.retry is None:
        return queue
    return queue.model_copy(update={"retry": queue.retry.model_copy(update={"backoff_ms": ()})})


def _bindings(queues: Sequence[str], exchanges: Sequence[str]) -> Any:
    sources = st.sampled_from(["amq.direct", *exchanges])
    keys = st.fixed_dictionaries({"routing_key": texts}) | st.fixed_dictionaries(
        {"routing_keys": st.lists(texts, max_size=30).map(tuple)}
    )
    common = {"source": sources, "arguments": arguments}
    to_exchange = st.fixed_dictionaries(
        {**common, "destination": sources, "destination_type": st.just("exchange")}
    )
    ways = to_exchange
    if queues:
        ways |= st.fixed_dictionaries({**common, "destination": st.sampled_from(queues)})
    one = st.builds(lambda way, key: Binding(**way, **key), ways, keys)
    return st.lists(one, max_size=4).map(tuple)


def _messages(exchanges: Sequence[str], texts: st.SearchStrategy[str]) -> Any:
    contract = st.builds(
        MessageContract,
        exchange=st.sampled_from(["amq.fanout", *exchanges]),
        routing_key=texts,
        publishers=st.lists(names, max_size=3).map(tuple),
        mandatory=st.booleans(),
    )
    return st.dictionaries(plain_names, contract, max_size=4)


_offsets = st.integers(0, 2**63 - 1) | st.sampled_from(
    ["first", "last", "next", "stored", "2026-09-03T12:00:00+02:00"]
)


def _consumers(
    queues: Mapping[str, Queue], types: Sequence[str], tags: st.SearchStrategy[str]
) -> Any:
    if not queues:
        return st.just({})
    spec = st.builds(
        ConsumerSpec,
        service=names,
        queue=st.sampled_from([*queues]),
        prefetch=st.integers(0, 65_535) | st.just("concurrency + 2"),
        concurrency=st.integers(1, 1_000),
        handles=st.lists(st.sampled_from(["*", *types]), max_size=12).map(tuple),
        deadline_ms=_optional(durations),
        offset=_optional(_offsets),
    ).map(lambda each: _with_fitting_offset(each, queues))
    return st.dictionaries(tags, spec, max_size=3)


def _with_fitting_offset(spec: ConsumerSpec, queues: Mapping[str, Queue]) -> ConsumerSpec:
    if queues[spec.queue].type != "stream":
        return spec.model_copy(update={"offset": None})
    return spec.model_copy(update={"concurrency": 1}) if spec.offset == "stored" else spec


@st.composite
def _families(draw: Any, exchanges: Sequence[str], types: Sequence[str]) -> Family:
    queues = draw(_queues(draw(st.lists(plain_names, max_size=2, unique=True)), (), "{id}"))
    inner = st.builds(Binding, source=st.just("amq.topic"), destination=st.sampled_from([*queues]))
    tags = plain_names.map(lambda tag: f"{tag}-{{id}}")
    return Family(
        parameters=("id",),
        queues={key: queue.model_copy(update=_NO_TEXTS) for key, queue in queues.items()},
        bindings=tuple(draw(st.lists(inner, max_size=2))) if queues else (),
        messages=draw(_messages(exchanges, st.just("key.{id}"))),
        consumers=draw(_consumers(queues, types, tags)),
    )


_NO_TEXTS: dict[str, Any] = {"arguments": {}}
"""In a family every text is a template, and braces in it would name parameters."""


@st.composite
def topologies(draw: Any) -> Topology:
    """Topologies whose references lead somewhere and whose names are unique, as a file's are."""
    exchange_keys = draw(st.lists(plain_names, max_size=3, unique=True))
    queue_keys = draw(st.lists(plain_names, max_size=4, unique=True))
    messages = draw(_messages(exchange_keys, texts))
    types = sorted(messages)
    safe = [key for key in exchange_keys if key]
    queue_type = _optional(st.sampled_from(["classic", "quorum"]))
    family = _families(safe, types).filter(lambda each: not _has_templates(each))
    queues = draw(_queues(queue_keys, safe, ""))
    return Topology(
        version=1,
        broker=draw(_optional(st.builds(BrokerExpectation, version=st.just("4.3")))),
        defaults=Defaults(queue=QueueDefaults(type=draw(queue_type))),
        dead_letter=draw(_dead_letters(safe, DeadLetterQueue)),
        exchanges=draw(_exchanges(exchange_keys)),
        queues=queues,
        bindings=draw(_bindings(queue_keys, safe)),
        messages=messages,
        consumers=draw(_consumers(queues, types, names)),
        families=draw(st.dictionaries(names, family, max_size=1)),
    )


def _has_templates(family: Family) -> bool:
    """Whether texts drawn at random name a parameter that the family does not have."""
    texts = [
        rule.routing_key or ""
        for queue in family.queues.values()
        if isinstance(rule := queue.dead_letter, DeadLetterTo)
    ]
    texts += [name for message in family.messages.values() for name in message.publishers]
    texts += [spec.service for spec in family.consumers.values()]
    return any("{" in text or "}" in text for text in texts)
