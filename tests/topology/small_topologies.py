"""Hypothesis strategies for topologies small enough that everything in them meets everything else:
few words, few headers, many bindings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from attune_mq import Topology
from attune_mq.topology import REASONS, Binding, DeadLetterTo, Exchange, Queue, Reason

QUEUES = ("q0", "q1", "q2")
EXCHANGES = ("x0", "x1", "x2")
BUILT_IN = ("amq.topic", "amq.fanout", "amq.match")
LONG_MS = 600_000

words = st.sampled_from(["a", "b", "", "*", "#", "a*"])
any_keys = st.lists(words, max_size=3).map(".".join)
keys = st.sampled_from(["a", "b", "a.b", "q0", "q1"]) | any_keys
binding_keys = st.sampled_from(["a", "b", "a.b", "#", "a.*", "*.b", "a.#"]) | any_keys
values = st.sampled_from([1, 1, 2, "1", True, None, [1, "a"], {"a": 1}])
header_names = st.sampled_from(["h", "h", "i", "x-h"])


@dataclass(frozen=True)
class Message:
    exchange: str
    routing_key: str
    headers: Mapping[str, Any]


@dataclass(frozen=True)
class Dying:
    """A message with that key and those headers, which dies in that queue for that reason."""

    queue: str
    reason: Reason
    routing_key: str
    headers: Mapping[str, Any]


def _headers() -> st.SearchStrategy[dict[str, Any]]:
    own = st.dictionaries(header_names, values, max_size=2)
    some_keys = st.lists(keys | st.just(1), max_size=2)
    copies = st.dictionaries(st.sampled_from(["CC", "BCC"]), some_keys, max_size=2)
    return st.builds(lambda a, b: {**a, **b}, own, st.just({}) | copies)


def _binding_arguments() -> st.SearchStrategy[dict[str, Any]]:
    modes = ["all", "any", "all-with-x", "any-with-x"]
    of_dead_letters: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
        [
            {"x-death": None},
            {"x-first-death-queue": "q0"},
            {"x-first-death-reason": "expired"},
            {"BCC": None},
        ]
    )
    asked = st.dictionaries(header_names, values, max_size=2) | of_dead_letters
    mode: st.SearchStrategy[dict[str, Any]] = st.just({}) | st.sampled_from(modes).map(
        lambda mode: {"x-match": mode}
    )
    return st.builds(lambda a, b: {**a, **b}, mode, asked)


def _exchanges(draw: st.DrawFn, names: Sequence[str]) -> dict[str, Exchange]:
    alternates = st.none() | st.sampled_from([*names, *BUILT_IN, ""])
    exchange = st.fixed_dictionaries(
        {
            "type": st.sampled_from(["direct", "topic", "fanout", "headers"]),
            "internal": st.sampled_from([False, False, False, True]),
            "alternate_exchange": st.none() | alternates,
        }
    )
    return {name: Exchange(name=name, **draw(exchange)) for name in names}


def _bindings(draw: st.DrawFn, exchanges: Sequence[str], queues: Sequence[str]) -> Any:
    to_queue = st.tuples(st.just("queue"), st.sampled_from(queues))
    to_exchange = st.tuples(st.just("exchange"), st.sampled_from([*exchanges, *BUILT_IN]))
    binding = st.builds(
        lambda source, to, key, arguments: Binding(
            source=source,
            destination=to[1],
            destination_type=to[0],
            routing_key=key,
            arguments=arguments,
        ),
        st.sampled_from([*exchanges, *exchanges, *BUILT_IN]),
        to_queue | to_exchange,
        binding_keys,
        st.just({}) | _binding_arguments(),
    )
    return tuple(draw(st.lists(binding, min_size=4, max_size=12)))


def _dead_letter(draw: st.DrawFn, exchanges: Sequence[str]) -> dict[str, Any]:
    kind = draw(st.sampled_from(["to", "to", "to", "to", "no", "nowhere"]))
    if kind == "nowhere":
        return {"arguments": {"x-dead-letter-exchange": "nowhere"}}
    somewhere = st.sampled_from([*exchanges, *exchanges, "", *BUILT_IN])
    to = st.builds(DeadLetterTo, to=somewhere, routing_key=st.none() | keys)
    return {"dead_letter": draw(to) if kind == "to" else False}


def _queue(draw: st.DrawFn, name: str, exchanges: Sequence[str]) -> Queue:
    """A queue; where messages expire and go on they do so at once, elsewhere not in a test."""
    fields = _dead_letter(draw, exchanges)
    goes_on = isinstance(fields.get("dead_letter"), DeadLetterTo)
    if draw(st.booleans()):
        fields["ttl_ms"] = 0 if goes_on else LONG_MS
    return Queue(name=name, **fields)


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    exchanges = EXCHANGES[: draw(st.integers(1, len(EXCHANGES)))]
    queues = QUEUES[: draw(st.integers(1, len(QUEUES)))]
    return Topology(
        version=1,
        exchanges=_exchanges(draw, exchanges),
        queues={name: _queue(draw, name, exchanges) for name in queues},
        bindings=_bindings(draw, exchanges, queues),
    )


def without_ttl(topology: Topology) -> Topology:
    """The same with queues in which a message stays, so that it can be looked for there."""
    staying = {k: q.model_copy(update={"ttl_ms": None}) for k, q in topology.queues.items()}
    return topology.model_copy(update={"queues": staying})


def messages(topology: Topology) -> st.SearchStrategy[list[Message]]:
    """Messages to any exchange with any key, or, often, to one that has a binding with that key."""
    exchanges = [name for name, exchange in topology.exchanges.items() if not exchange.internal]
    ways = st.tuples(st.sampled_from([*exchanges, *BUILT_IN, ""]), keys)
    bound = [(b.source, b.routing_key) for b in topology.bindings if b.source in exchanges]
    if bound:
        ways |= st.sampled_from(bound)
    message = st.builds(lambda way, headers: Message(way[0], way[1], headers), ways, _headers())
    return st.lists(message, min_size=1, max_size=4)


def deaths(topology: Topology) -> st.SearchStrategy[Dying]:
    """A death in one of the queues; where messages expire at once they can die of nothing else."""
    return st.sampled_from(sorted(topology.queues)).flatmap(
        lambda name: st.builds(
            Dying,
            st.just(name),
            st.sampled_from(["expired"] if topology.queues[name].ttl_ms == 0 else REASONS),
            keys,
            _headers(),
        )
    )
