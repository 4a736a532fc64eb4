"""Every key that a file refers to must exist; every name must be given once.

Works on the plain values of a document, so that a wrong reference is reported together with
whatever else is wrong in the file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from attune_mq.topology.arguments import QUEUE_ARGUMENTS, has_key
from attune_mq.topology.contracts import STORED
from attune_mq.topology.document import Document
from attune_mq.topology.expansion import DEFAULT_EXCHANGE, RETRY_INFIX, dead_letter_queue_name
from attune_mq.topology.fields import MAX_NAME_BYTES
from attune_mq.topology.objects import BUILT_IN_EXCHANGES, RESERVED_PREFIX
from attune_mq.topology.source import Path, Problem, SourceMap
from attune_mq.topology.validation import nearest, shown

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def reference_problems(document: Document) -> list[Problem]:
    """All references to nothing, names given twice and misused placeholders of a document."""
    top = _mapping(document.data)
    scope = _Scope(document.sources, top)
    problems = list(scope.exchange_references(top))
    problems += scope.block(top, (), _mapping(top.get("queues")))
    for key, family in _mapping(top.get("families")).items():
        path: Path = ("families", key)
        problems += scope.block(_mapping(family), path, _mapping(_mapping(family).get("queues")))
        problems += scope.placeholders(_mapping(family), path)
    return problems


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


class _Scope:
    """What names mean in one file: its exchanges and message types hold for its families too."""

    def __init__(self, sources: SourceMap, top: Mapping[str, Any]) -> None:
        self.sources = sources
        self.exchanges = _mapping(top.get("exchanges"))
        self.exchange_keys = self.exchanges.keys() | BUILT_IN_EXCHANGES.keys()
        self.messages = _mapping(top.get("messages"))
        self.dead_letter = top.get("dead_letter")
        self.default_type = _mapping(_mapping(top.get("defaults")).get("queue")).get("type")
        self.names = {str(_mapping(each).get("name")) for each in self.exchanges.values()}

    def exchange_references(self, top: Mapping[str, Any]) -> Iterator[Problem]:
        """What stands above or beside the queues: exchanges and the file's dead letter rule."""
        for key, exchange in self.exchanges.items():
            alternate = _mapping(exchange).get("alternate_exchange")
            yield from self._exchange(alternate, ("exchanges", key, "alternate_exchange"))
        yield from self._names_once("exchanges", self.exchanges, ())
        yield from self._dead_letter(top.get("dead_letter"), ("dead_letter",))

    def block(
        self, block: Mapping[str, Any], path: Path, queues: Mapping[str, Any]
    ) -> Iterator[Problem]:
        """Queues, bindings, messages and consumers: of the file, or of one family."""
        yield from self._names_once("queues", queues, path)
        for key, queue in queues.items():
            at = (*path, "queues", key)
            yield from self._dead_letter(_mapping(queue).get("dead_letter"), (*at, "dead_letter"))
            yield from self._has_own_key(_mapping(queue), at)
            yield from self._room_for_additions(_mapping(queue), at)
        for index, binding in enumerate(_items(block.get("bindings"))):
            yield from self._binding(_mapping(binding), (*path, "bindings", index), queues)
        for key, message in _mapping(block.get("messages")).items():
            at = (*path, "messages", key, "exchange")
            exchange: Any = _mapping(message).get("exchange")
            if exchange != DEFAULT_EXCHANGE:  # by which a message goes straight to a queue
                yield from self._exchange(exchange, at)
        types = {*self.messages, *_mapping(block.get("messages")), "*"}
        for key, consumer in _mapping(block.get("consumers")).items():
            at = (*path, "consumers", key)
            spec = _mapping(consumer)
            yield from self._known(spec.get("queue"), (*at, "queue"), queues, "the key of a queue")
            yield from self._offset(spec, at, _mapping(queues.get(str(spec.get("queue")))))
            for index, handled in enumerate(_items(spec.get("handles"))):
                where = (*at, "handles", index)
                yield from self._known(handled, where, types, "a message type of the file")

    def _offset(
        self, consumer: Mapping[str, Any], at: Path, queue: Mapping[str, Any]
    ) -> Iterator[Problem]:
        """``offset`` is for streams; ``stored`` is the last of what was handled one by one."""
        offset = consumer.get("offset")
        if offset is not None and queue and queue.get("type", self.default_type) != "stream":
            expected = f"no offset: queue {consumer.get('queue')!r} is no stream"
            yield Problem(self.sources.where(*at, "offset"), expected, shown(offset))
        concurrency: Any = consumer.get("concurrency", 1)
        if offset == STORED and concurrency != 1:
            expected = "1 beside `offset: stored`: one position holds for messages in their order"
            yield Problem(self.sources.where(*at, "concurrency"), expected, shown(concurrency))

    def placeholders(self, family: Mapping[str, Any], path: Path) -> Iterator[Problem]:
        """Each ``{name}`` is a parameter; each queue and tag has them all, or two would be one."""
        parameters = [str(name) for name in _items(family.get("parameters"))]
        for at, text in _texts(family, path):
            for name in _PLACEHOLDER.findall(text):
                yield from self._known(name, at, parameters, "a parameter of the family")
        named = [
            ((*path, "queues", key, "name"), _mapping(queue).get("name"))
            for key, queue in _mapping(family.get("queues")).items()
        ]
        named += [((*path, "consumers", tag), tag) for tag in _mapping(family.get("consumers"))]
        for place, text_or_tag in named:
            missing = [name for name in parameters if f"{{{name}}}" not in str(text_or_tag)]
            if text_or_tag and missing:
                where = self.sources.where(*place)
                yield Problem(where, f"a name with {{{missing[0]}}} in it", shown(text_or_tag))

    def _binding(
        self, binding: Mapping[str, Any], at: Path, queues: Mapping[str, Any]
    ) -> Iterator[Problem]:
        yield from self._exchange(binding.get("source"), (*at, "source"))
        destination, where = binding.get("destination"), (*at, "destination")
        if binding.get("destination_type", "queue") == "exchange":
            yield from self._exchange(destination, where)
        else:
            yield from self._known(destination, where, queues, "the key of a queue")
        if "routing_key" in binding and "routing_keys" in binding:
            place = self.sources.where(*at, "routing_keys")
            yield Problem(place, "routing_key or routing_keys", "both")

    def _dead_letter(self, rule: Any, at: Path) -> Iterator[Problem]:
        for key in ("exchange", "to"):
            name: Any = _mapping(rule).get(key)
            if name == "":
                continue
            yield from self._exchange(name, (*at, key))
            kind = _mapping(self.exchanges.get(str(name))).get("type")
            if key == "exchange" and kind in ("headers",):
                expected = "a fanout, direct or topic exchange, which route dead letters by key"
                yield Problem(self.sources.where(*at, key), expected, f"a {kind} exchange")

    def _has_own_key(self, queue: Mapping[str, Any], at: Path) -> Iterator[Problem]:
        """An argument beside or instead of its key. What no key can express may stand."""
        arguments = _mapping(queue.get("arguments"))
        for argument in arguments:
            row = QUEUE_ARGUMENTS.get(argument)
            if row is None or row.key is None:
                continue
            if self._says(queue, row.key) or has_key(argument, arguments, self.names):
                where = self.sources.where(*at, "arguments", argument)
                yield Problem(where, f"the queue's own key {row.key!r}", f"the argument {argument}")

    def _says(self, queue: Mapping[str, Any], field: str) -> bool:
        if field == "dead_letter":
            return isinstance(queue.get(field, self.dead_letter), Mapping)
        return queue.get(field) is not None

    def _room_for_additions(self, queue: Mapping[str, Any], at: Path) -> Iterator[Problem]:
        """The names of what the library adds for a queue begin with the name of the queue."""
        name: Any = queue.get("name")
        backoff = _items(_mapping(queue.get("retry")).get("backoff"))
        if name == "" and backoff:
            expected = "no backoff for a queue that the server names: nothing can lead back to it"
            yield Problem(self.sources.where(*at, "retry", "backoff"), expected, shown(backoff))
        added = [dead_letter_queue_name(""), *(f"{RETRY_INFIX}{delay}" for delay in backoff)]
        longest = max(added, key=len)
        limit = MAX_NAME_BYTES - len(longest)
        if isinstance(name, str) and limit < len(name.encode()) <= MAX_NAME_BYTES:
            expected = f"a name of at most {limit} bytes, to which {longest!r} can be added"
            yield Problem(self.sources.where(*at, "name"), expected, f"{len(name.encode())} bytes")

    def _exchange(self, name: Any, at: Path) -> Iterator[Problem]:
        yield from self._known(name, at, self.exchange_keys, "the key of an exchange")

    def _known(
        self, name: Any, at: Path, valid: Collection[str], expected: str
    ) -> Iterator[Problem]:
        if not isinstance(name, str) or name in valid:
            return
        some = ", ".join(sorted(key for key in valid if not key.startswith(RESERVED_PREFIX))[:8])
        listed = f"{expected} ({some})" if some else f"{expected} (there is none)"
        yield Problem(self.sources.where(*at), listed, shown(name), nearest(name, valid))

    def _names_once(self, kind: str, objects: Mapping[str, Any], path: Path) -> Iterator[Problem]:
        seen: dict[str, str] = {}
        for key, value in objects.items():
            name: Any = _mapping(value).get("name")
            if not isinstance(name, str) or not name:
                continue
            if name in seen:
                where = self.sources.where(*path, kind, key, "name")
                yield Problem(
                    where, "a name of its own", f"{name!r}, as {kind}.{seen[name]} has it"
                )
            seen.setdefault(name, key)


def _texts(value: Any, at: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*at, index))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield (*at, key), key
            yield from _texts(item, (*at, key))
