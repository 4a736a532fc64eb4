"""RabbitMQ's definitions as what they declare in one virtual host.

Files that people keep are seldom what a broker wrote: a missing ``durable`` is true, missing
``arguments`` are none, a queue may be there twice. What is there and is no part of a topology is
named, see :attr:`Definitions.not_imported`.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from attune_mq.definitions.entries import (
    Entry,
    choose_vhost,
    objects_of_other_vhosts,
    unsayable,
    vhost_of,
)
from attune_mq.definitions.json_text import SECTIONS, InvalidDefinitions, read_object
from attune_mq.definitions.not_imported import Leftovers, rest_of_cluster, rest_of_vhost
from attune_mq.topology.arguments import QUEUE_TYPE
from attune_mq.topology.declaration import (
    BindingDeclaration,
    Declaration,
    ExchangeDeclaration,
    QueueDeclaration,
)
from attune_mq.topology.equivalence import binding_identity
from attune_mq.topology.objects import BUILT_IN_EXCHANGES, EXCHANGE_TYPES
from attune_mq.topology.source import Path, Problem, Where, path_text
from attune_mq.topology.validation import shown

_ENDS = {"source", "destination", "destination_type", "routing_key", "properties_key"}
_FIELDS = {
    "exchanges": {"name", "type", "durable", "auto_delete", "internal"},
    "queues": {"name", "type", "durable", "auto_delete", "exclusive"},
    "bindings": _ENDS,
}
_ALWAYS = {"vhost", "arguments", "description"}
D = TypeVar("D", ExchangeDeclaration, QueueDeclaration)
_Objects = tuple[
    tuple[ExchangeDeclaration, ...], tuple[QueueDeclaration, ...], tuple[BindingDeclaration, ...]
]


@dataclass(frozen=True)
class Definitions:
    """What a definitions file declares in one virtual host, in the order of the file."""

    vhost: str
    version: str | None
    """Of the RabbitMQ that wrote it, as far as it is one: ``3.8.10`` of ``3.8.10+1551.dirty``."""
    exchanges: tuple[ExchangeDeclaration, ...]
    queues: tuple[QueueDeclaration, ...]
    bindings: tuple[BindingDeclaration, ...]
    descriptions: Mapping[Path, str]
    """By the path of the object in the definitions, which its declaration has too."""
    not_imported: tuple[str, ...]
    """A sentence for each thing that a topology cannot say."""


def read_definitions(
    data: bytes | str, vhost: str | None = None, *, file: str = "<definitions>"
) -> Definitions:
    """What ``data`` declares in ``vhost``. Without one: in the only virtual host that has
    objects, or in ``/`` where several have.

    Raises :class:`InvalidDefinitions` with all that is wrong.
    """
    top = read_object(data, file=file)
    problems: list[Problem] = []
    entries = list(_entries(top, file, problems))
    chosen = choose_vhost(entries, top, vhost, file=file)
    reader = _Reader()
    exchanges, queues, bindings = reader.objects(
        [entry for entry in entries if vhost_of(entry) in (None, chosen)]
    )
    if problems:
        raise InvalidDefinitions(list(dict.fromkeys(problems)))
    not_imported = (
        *reader.not_imported,
        *reader.leftovers.sentences(),
        *objects_of_other_vhosts(entries, chosen),
        *rest_of_vhost(top, chosen),
        *rest_of_cluster(top),
    )
    version = _version(top)
    descriptions = reader.descriptions
    return Definitions(chosen, version, exchanges, queues, bindings, descriptions, not_imported)


def _version(top: Mapping[str, Any]) -> str | None:
    written = top.get("rabbitmq_version", top.get("rabbit_version"))
    number = re.match(r"[0-9]+\.[0-9]+(\.[0-9]+)?", written if isinstance(written, str) else "")
    return number[0] if number else None


def _entries(top: Mapping[str, Any], file: str, problems: list[Problem]) -> Iterator[Entry]:
    for section in SECTIONS:
        listed = top.get(section)
        if listed is not None and not isinstance(listed, list):
            problems.append(Problem(Where(file, 0, 0, section), "a list", shown(listed)))
            continue
        for index, values in enumerate(listed or ()):
            path: Path = (section, index)
            if isinstance(values, Mapping):
                yield Entry(file, path, values, problems)
            else:
                where = Where(file, 0, 0, path_text(path))
                problems.append(Problem(where, "an object", shown(values)))


@dataclass
class _Reader:
    not_imported: list[str] = field(default_factory=list)
    leftovers: Leftovers = field(default_factory=Leftovers)
    descriptions: dict[Path, str] = field(default_factory=dict)

    def objects(self, entries: Iterable[Entry]) -> _Objects:
        read = [one for entry in entries if (one := self._object(entry)) is not None]
        exchanges = self._once([one for one in read if isinstance(one, ExchangeDeclaration)])
        queues = self._once([one for one in read if isinstance(one, QueueDeclaration)])
        bindings: dict[Hashable, BindingDeclaration] = {}
        for one in read:
            if isinstance(one, BindingDeclaration):
                bindings.setdefault(binding_identity(one), one)
        return exchanges, queues, self._between(bindings.values(), exchanges, queues)

    def _object(self, entry: Entry) -> Declaration | None:
        read = {"exchanges": self._exchange, "queues": self._queue, "bindings": self._binding}
        declaration: Declaration | None = read[str(entry.path[0])](entry)
        if declaration is not None:
            self._extras(entry, declaration.name)
        return declaration

    # one object each

    def _exchange(self, entry: Entry) -> ExchangeDeclaration | None:
        name, kind = entry.text("name"), entry.text("type")
        durable = entry.flag("durable", default=True)
        auto_delete = entry.flag("auto_delete", default=False)
        internal = entry.flag("internal", default=False)
        if name is None or kind is None:
            return None
        if name == "" or name in BUILT_IN_EXCHANGES:
            self.not_imported.append(f"exchange {name!r}: every virtual host has it by itself")
            return None
        if kind not in EXCHANGE_TYPES and not kind.startswith("x-"):
            self.not_imported.append(f"exchange {name!r}: its type {kind!r} is none that we know")
            return None
        arguments = self._arguments(entry, f"exchange {name!r}")
        return ExchangeDeclaration(
            name, kind, durable, auto_delete, internal, arguments, entry.path
        )

    def _queue(self, entry: Entry) -> QueueDeclaration | None:
        name = entry.text("name")
        durable = entry.flag("durable", default=True)
        auto_delete = entry.flag("auto_delete", default=False)
        if name is None:
            return None
        if name == "":
            self.not_imported.append(
                f"{entry.place}: a queue without a name, and what is bound to it"
            )
            return None
        arguments = self._arguments(entry, f"queue {name!r}")
        kind = entry.values.get("type")
        if kind not in (None, arguments.get(QUEUE_TYPE, "classic")):
            self.leftovers.add("queues", f"type: {kind}", name)
        if entry.flag("exclusive", default=False):
            self.leftovers.add("queues", "exclusive", name)
        return QueueDeclaration(name, durable, False, auto_delete, arguments, entry.path)

    def _binding(self, entry: Entry) -> BindingDeclaration | None:
        source, destination = entry.text("source"), entry.text("destination")
        routing_key = entry.text("routing_key", default="")
        kind = entry.text("destination_type", default="queue")
        if kind not in (None, "queue", "exchange"):
            entry.wrong("destination_type", "queue or exchange", kind)
            kind = None
        if source is None or destination is None or routing_key is None or kind is None:
            return None
        arguments = entry.arguments()
        binding = BindingDeclaration(source, destination, kind, routing_key, arguments, entry.path)
        for argument, value in arguments.items():
            why = unsayable(argument, value)
            if why:  # without it, it would be another binding
                self.not_imported.append(
                    f"binding {binding.name}: its argument {argument!r} cannot be said: {why}"
                )
                return None
        return binding

    def _arguments(self, entry: Entry, what: str) -> dict[str, Any]:
        sayable = {}
        for argument, value in entry.arguments().items():
            why = unsayable(argument, value)
            if why:
                self.not_imported.append(f"{what}: its argument {argument!r} cannot be said: {why}")
            else:
                sayable[argument] = value
        return sayable

    def _extras(self, entry: Entry, name: str) -> None:
        section = str(entry.path[0])
        description = entry.values.get("description")
        if isinstance(description, str) and description.strip():
            self.descriptions[entry.path] = description
            self.leftovers.add(section, "description", name)
        for extra in entry.values.keys() - _FIELDS[section] - _ALWAYS:
            self.leftovers.add(section, extra, name)

    # all objects of a kind

    def _once(self, read: list[D]) -> tuple[D, ...]:
        """Each name once. Of two RabbitMQ takes the first, and so do we."""
        first: dict[str, D] = {}
        for each in read:
            kept = first.setdefault(each.name, each)
            if _properties(kept) != _properties(each):
                again = f"{each.kind} {each.name!r}: declared again ({path_text(each.path)})"
                self.not_imported.append(f"{again} with other properties; the first counts")
        return tuple(first.values())

    def _between(
        self,
        bindings: Iterable[BindingDeclaration],
        exchanges: tuple[ExchangeDeclaration, ...],
        queues: tuple[QueueDeclaration, ...],
    ) -> tuple[BindingDeclaration, ...]:
        """Bindings both of whose ends are there. RabbitMQ silently skips the others."""
        sources = {each.name for each in exchanges} | BUILT_IN_EXCHANGES.keys()
        ends = {"queue": {each.name for each in queues}, "exchange": sources}
        kept = []
        for binding in bindings:
            kind = binding.destination_type
            if binding.source == "":
                why = "the default exchange binds each queue by itself, and nothing else"
            elif binding.source not in sources:
                why = f"there is no exchange {binding.source!r}"
            elif binding.destination not in ends[kind]:
                why = f"there is no {kind} {binding.destination!r}"
            else:
                kept.append(binding)
                continue
            self.not_imported.append(f"binding {binding.name}: {why}")
        return tuple(kept)


def _properties(declaration: Declaration) -> dict[str, Any]:
    return {name: value for name, value in vars(declaration).items() if name != "path"}
