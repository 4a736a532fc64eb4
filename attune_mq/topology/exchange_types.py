"""What each type of exchange does with a message: one class a type, given all bindings of one
exchange, says which of them take a message.

Sources: https://www.rabbitmq.com/docs/exchanges and, where that is silent, a broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from attune_mq.topology.fields import NO_ARGUMENTS
from attune_mq.topology.reachability import grouped
from attune_mq.topology.source import Path

Headers = Mapping[str, Any]
HopKind = Literal["binding", "default exchange", "alternate exchange", "dead letter"]


class Hop(NamedTuple):
    """One step of a message, in the broker's names: from an exchange, or from the queue in which
    it died, to an exchange or a queue."""

    source: str
    destination: str
    destination_type: Literal["queue", "exchange"]
    via: HopKind
    routing_key: str = ""
    """The binding's key; of a dead letter, the key that the queue gives it."""
    arguments: Mapping[str, Any] = NO_ARGUMENTS
    path: Path = ()
    """Where in the topology the binding, alternate exchange or dead letter rule stands."""

    @property
    def name(self) -> str:
        """A binding's."""
        return f"{self.source} -> {self.destination} [{self.routing_key}]"


Hops = Sequence[Hop]


class BindingTable:
    """The bindings of one exchange, of a type that gives every message to each of them (fanout)."""

    by_key_alone = True
    """Whether the routing keys tell which bindings take a message."""
    is_simulated = True
    """Whether it is known what the type does: not so for those of plugins."""

    def __init__(self, bindings: Hops) -> None:
        self._all = tuple(bindings)

    def matched(self, keys: Sequence[str], headers: Headers) -> Hops:
        """The bindings that take a message with these keys (its own first, then CC and BCC)."""
        return self.possible(keys)

    def possible(self, keys: Sequence[str]) -> Hops:
        """The bindings that may take a message with these keys and whatever headers."""
        return self._all


def binding_table(exchange_type: str, bindings: Iterable[Hop]) -> BindingTable:
    """The table that routes as an exchange of that type does."""
    return _TABLES.get(exchange_type, PluginTable)(list(bindings))


class DirectTable(BindingTable):
    """Key and binding key are equal. Wildcards mean nothing here."""

    def __init__(self, bindings: Hops) -> None:
        self._by_key = dict(grouped((hop.routing_key, hop) for hop in bindings))

    def possible(self, keys: Sequence[str]) -> Hops:
        if len(keys) == 1:
            return self._by_key.get(keys[0], ())
        return [hop for key in dict.fromkeys(keys) for hop in self._by_key.get(key, ())]


ONE_WORD = "*"
ANY_WORDS = "#"


def _words(key: str) -> list[str]:
    """The words of a routing key or pattern; the empty key has none."""
    return key.split(".") if key else []


def is_wildcard(pattern: str) -> bool:
    """Whether a topic exchange takes anything in ``pattern`` other than literally."""
    return any(word in (ONE_WORD, ANY_WORDS) for word in _words(pattern))


class _Node:
    """A node of the trie of patterns: the words so far lead here."""

    __slots__ = ("any_words", "hops", "loops", "one_word", "reach", "words")

    def __init__(self, *, loops: bool = False) -> None:
        self.words: dict[str, _Node] = {}
        self.one_word: _Node | None = None
        self.any_words: _Node | None = None
        self.loops = loops
        """Whether it is the end of a ``#``, which further words do not leave."""
        self.hops: list[Hop] = []
        self.reach: tuple[_Node, ...] = (self,)
        """The node itself and those that are one ``#`` away, which may stand for no word."""

    def child(self, word: str) -> _Node:
        if word == ANY_WORDS:
            self.any_words = self.any_words or _Node(loops=True)
            return self.any_words
        if word == ONE_WORD:
            self.one_word = self.one_word or _Node()
            return self.one_word
        return self.words.setdefault(word, _Node())

    def seal(self) -> None:
        """Work ``reach`` out, once all patterns are in."""
        waiting = [self]
        while waiting:
            node = waiting.pop()
            waiting += [*node.words.values(), *filter(None, (node.one_word, node.any_words))]
            reach, last = [node], node.any_words
            while last is not None:
                reach.append(last)
                last = last.any_words
            node.reach = tuple(reach)


class TopicTable(BindingTable):
    """A key is a list of words between dots. In a pattern ``*`` stands for exactly one word and
    ``#`` for any number of words, none included; within a longer word both are ordinary characters.
    A word may be empty: ``a..b`` has three words. The empty key has no word at all, so ``#`` takes
    it and ``*`` does not (measured on brokers).

    All patterns are matched at once: word by word from one set of nodes of their trie to the next.
    """

    def __init__(self, bindings: Hops) -> None:
        self._root = _Node()
        for hop in bindings:
            node = self._root
            for word in _words(hop.routing_key):
                node = node.child(word)
            node.hops.append(hop)
        self._root.seal()

    def possible(self, keys: Sequence[str]) -> Hops:
        if len(keys) == 1:
            ends = self._ends(keys[0])
        else:
            ends = dict.fromkeys(node for key in keys for node in self._ends(key))
        return [hop for node in ends for hop in node.hops]

    def _ends(self, key: str) -> Iterable[_Node]:
        """The nodes at which the patterns that match ``key`` end, each once."""
        nodes: Iterable[_Node] = self._root.reach
        for word in _words(key):
            following: dict[_Node, None] = {}
            for node in nodes:
                if node.loops:
                    following[node] = None
                for child in (node.words.get(word), node.one_word):
                    if child is not None:
                        for reached in child.reach:
                            following[reached] = None
            nodes = following
        return nodes


X_MATCH = "x-match"


class _HeadersMatch:
    """What one binding of a headers exchange asks of a message's headers."""

    def __init__(self, hop: Hop) -> None:
        mode = hop.arguments.get(X_MATCH, "all")
        self.hop = hop
        self.needs_all = mode not in ("any", "any-with-x")
        with_x = mode in ("all-with-x", "any-with-x")
        self.wanted = {
            name: _header_value(value)
            for name, value in hop.arguments.items()
            if name != X_MATCH and (with_x or not name.startswith("x-"))
        }

    def takes(self, headers: Mapping[str, Any]) -> bool:
        for name, value in self.wanted.items():
            if name in headers and (value is None or headers[name] == value):
                if not self.needs_all:
                    return True
            elif self.needs_all:
                return False
        return self.needs_all


class HeadersTable(BindingTable):
    """Bindings ask for headers, by name and value, or by name alone where the value is void
    (``null`` in a file). Arguments that begin with ``x-`` count in the modes ``…-with-x`` only.
    """

    by_key_alone = False

    def __init__(self, bindings: Hops) -> None:
        super().__init__(bindings)
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
        given = {name: _header_value(value) for name, value in headers.items()}
        candidates = dict.fromkeys(self._unconditional)
        for header in given.items():
            for match in self._by_value.get(header, ()):
                candidates[match] = None
            for match in self._by_name.get(header[0], ()):
                candidates[match] = None
        return [match.hop for match in candidates if match.takes(given)]


def _header_value(value: Any) -> Any:
    """A header's value such that two are equal when the broker thinks so: ``1`` is not ``true``,
    but bytes are a text, a time is its seconds, and integers of all widths are alike."""
    if value is None or type(value) in (str, int):
        return value
    if isinstance(value, bool):
        return "boolean", value
    if isinstance(value, datetime):
        return int(value.timestamp())
    if isinstance(value, bytes):
        return value.decode(errors="surrogateescape")
    if isinstance(value, Mapping):
        return "table", tuple((name, _header_value(item)) for name, item in value.items())
    if isinstance(value, list | tuple):
        return "array", tuple(_header_value(item) for item in value)
    return value


class PluginTable(BindingTable):
    """An exchange type that a plugin brings: how it routes is not known here."""

    by_key_alone = False
    is_simulated = False


_TABLES: Mapping[str, type[BindingTable]] = {
    "direct": DirectTable,
    "fanout": BindingTable,
    "topic": TopicTable,
    "headers": HeadersTable,
}
