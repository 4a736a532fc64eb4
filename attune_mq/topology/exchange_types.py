"""What each type of exchange does with a message: one class a type, given all bindings of one
exchange, says which of them take a message.

Sources: https://www.rabbitmq.com/docs/exchanges and, where that is silent, a broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

from attune_mq.topology.fields import NO_ARGUMENTS
from attune_mq.topology.patterns import ANY_WORDS, ONE_WORD, words_of
from attune_mq.topology.source import Path

Headers = Mapping[str, Any]
Way = Literal["binding", "default exchange", "alternate exchange", "dead letter"]


class Hop(NamedTuple):
    """One step of a message, in the broker's names: from an exchange, or from the queue in which
    it died, to an exchange or a queue."""

    source: str
    destination: str
    destination_type: Literal["queue", "exchange"]
    via: Way
    routing_key: str = ""
    """The binding's key; of a dead letter, the key that the queue gives it."""
    arguments: Mapping[str, Any] = NO_ARGUMENTS
    path: Path = ()
    """Where in the expanded topology the binding, alternate exchange or dead letter rule stands."""


Hops = Sequence[Hop]


class BindingTable(Protocol):
    """The bindings of one exchange."""

    by_key_alone: bool
    """Whether the routing keys tell which bindings take a message."""
    is_simulated: bool
    """Whether it is known what the type does: not so for those of plugins."""

    def matched(self, keys: Sequence[str], headers: Headers) -> Hops:
        """The bindings that take a message with these keys (its own first, then CC and BCC)."""

    def possible(self, keys: Sequence[str]) -> Hops:
        """The bindings that may take a message with these keys and whatever headers."""


def binding_table(exchange_type: str, bindings: Iterable[Hop]) -> BindingTable:
    """The table that routes as an exchange of that type does; of an unknown type, none."""
    return _TABLES.get(exchange_type, PluginTable)(list(bindings))


class DirectTable:
    """Key and binding key are equal. Wildcards mean nothing here."""

    by_key_alone = True
    is_simulated = True

    def __init__(self, bindings: Hops) -> None:
        by_key: dict[str, list[Hop]] = {}
        for hop in bindings:
            by_key.setdefault(hop.routing_key, []).append(hop)
        self._by_key = {key: tuple(hops) for key, hops in by_key.items()}

    def matched(self, keys: Sequence[str], headers: Headers) -> Hops:
        return self.possible(keys)

    def possible(self, keys: Sequence[str]) -> Hops:
        if len(keys) == 1:
            return self._by_key.get(keys[0], ())
        return [hop for key in dict.fromkeys(keys) for hop in self._by_key.get(key, ())]


class FanoutTable:
    """Every binding takes every message."""

    by_key_alone = True
    is_simulated = True

    def __init__(self, bindings: Hops) -> None:
        self._all = tuple(bindings)

    def matched(self, keys: Sequence[str], headers: Headers) -> Hops:
        return self._all

    def possible(self, keys: Sequence[str]) -> Hops:
        return self._all


class _Node:
    """A node of the trie of patterns: the words so far lead here."""

    __slots__ = ("any_words", "hops", "one_word", "words")

    def __init__(self) -> None:
        self.words: dict[str, _Node] = {}
        self.one_word: _Node | None = None
        self.any_words: _Node | None = None
        self.hops: list[Hop] = []

    def child(self, word: str) -> _Node:
        if word == ONE_WORD:
            self.one_word = self.one_word or _Node()
            return self.one_word
        if word == ANY_WORDS:
            self.any_words = self.any_words or _Node()
            return self.any_words
        return self.words.setdefault(word, _Node())


class TopicTable:
    """Patterns as in :mod:`attune_mq.topology.patterns`, all of them matched in one walk."""

    by_key_alone = True
    is_simulated = True

    def __init__(self, bindings: Hops) -> None:
        self._root = _Node()
        for hop in bindings:
            node = self._root
            for word in words_of(hop.routing_key):
                node = node.child(word)
            node.hops.append(hop)

    def matched(self, keys: Sequence[str], headers: Headers) -> Hops:
        return self.possible(keys)

    def possible(self, keys: Sequence[str]) -> Hops:
        found: dict[int, list[Hop]] = {}
        for key in keys:
            _walk(self._root, words_of(key), 0, found)
        if len(found) == 1:
            return next(iter(found.values()))
        return [hop for hops in found.values() for hop in hops]


def _walk(node: _Node, words: tuple[str, ...], at: int, found: dict[int, list[Hop]]) -> None:
    """Collect what is bound at the nodes to which ``words`` from ``at`` on lead, each node once."""
    if node.any_words is not None:
        for following in range(at, len(words) + 1):
            _walk(node.any_words, words, following, found)
    if at == len(words):
        if node.hops:
            found[id(node)] = node.hops
        return
    literal = node.words.get(words[at])
    if literal is not None:
        _walk(literal, words, at + 1, found)
    if node.one_word is not None:
        _walk(node.one_word, words, at + 1, found)


X_MATCH = "x-match"


class _HeadersMatch:
    """What one binding of a headers exchange asks of a message's headers."""

    def __init__(self, hop: Hop) -> None:
        mode = hop.arguments.get(X_MATCH, "all")
        self.hop = hop
        self.needs_all = mode not in ("any", "any-with-x")
        with_x = mode in ("all-with-x", "any-with-x")
        self.wanted = {
            name: comparable(value)
            for name, value in hop.arguments.items()
            if name != X_MATCH and (with_x or not name.startswith("x-"))
        }

    def takes(self, headers: Mapping[str, Any]) -> bool:
        agreed = (
            name in headers and (value is None or headers[name] == value)
            for name, value in self.wanted.items()
        )
        return all(agreed) if self.needs_all else any(agreed)


class HeadersTable:
    """Bindings ask for headers, by name and value, or by name alone where the value is void
    (``null`` in a file). Arguments that begin with ``x-`` count in the modes ``…-with-x`` only.
    """

    by_key_alone = False
    is_simulated = True

    def __init__(self, bindings: Hops) -> None:
        self._all = tuple(bindings)
        self._unconditional: list[_HeadersMatch] = []
        self._by_name: dict[str, list[_HeadersMatch]] = {}
        self._by_value: dict[tuple[str, Any], list[_HeadersMatch]] = {}
        for hop in bindings:
            self._file(_HeadersMatch(hop))

    def _file(self, match: _HeadersMatch) -> None:
        """Under one header that it cannot do without, or under each that suffices."""
        if match.needs_all and not match.wanted:
            self._unconditional.append(match)
        for name, value in match.wanted.items():
            if value is None:
                self._by_name.setdefault(name, []).append(match)
            else:
                self._by_value.setdefault((name, value), []).append(match)
            if match.needs_all:
                break

    def matched(self, keys: Sequence[str], headers: Headers) -> Hops:
        given = {name: comparable(value) for name, value in headers.items()}
        candidates = dict.fromkeys(self._unconditional)
        for name, value in given.items():
            candidates.update(dict.fromkeys(self._by_name.get(name, ())))
            candidates.update(dict.fromkeys(self._by_value.get((name, value), ())))
        return [match.hop for match in candidates if match.takes(given)]

    def possible(self, keys: Sequence[str]) -> Hops:
        return self._all


def comparable(value: Any) -> Any:
    """A header's value such that two are equal when the broker thinks so: ``1`` is not ``true``,
    a text is no number, integers of all widths are alike. ``None`` is void."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, datetime):
        return "number", int(value.timestamp())
    if isinstance(value, str | bytes):
        return "text", value.encode() if isinstance(value, str) else value
    if isinstance(value, Mapping):
        return "table", tuple((name, comparable(item)) for name, item in value.items())
    if isinstance(value, list | tuple):
        return "array", tuple(comparable(item) for item in value)
    return "number", value


class PluginTable:
    """An exchange type that a plugin brings: how it routes is not known here."""

    by_key_alone = False
    is_simulated = False

    def __init__(self, bindings: Hops) -> None:
        self._all = tuple(bindings)

    def matched(self, keys: Sequence[str], headers: Headers) -> Hops:
        return ()

    def possible(self, keys: Sequence[str]) -> Hops:
        return self._all


_TABLES: Mapping[str, type[DirectTable | FanoutTable | TopicTable | HeadersTable]] = {
    "direct": DirectTable,
    "fanout": FanoutTable,
    "topic": TopicTable,
    "headers": HeadersTable,
}
