"""RabbitMQ's definitions JSON as a topology, and as the file that says it."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from attune_mq.definitions.reading import Definitions, read_definitions
from attune_mq.topology.arguments import (
    ALTERNATE_EXCHANGE,
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_ROUTING_KEY,
    DEAD_LETTER_STRATEGY,
    QUEUE_ARGUMENTS,
    has_key,
)
from attune_mq.topology.declaration import (
    BindingDeclaration,
    ExchangeDeclaration,
    QueueDeclaration,
)
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import BrokerExpectation, Topology
from attune_mq.topology.objects import BUILT_IN_EXCHANGES, Binding, DeadLetterTo, Exchange, Queue
from attune_mq.topology.source import Path
from attune_mq.topology.writing import WIDTH, write_topology

_LEVEL = re.compile(r"[.:/]")
_UNPLEASANT = re.compile(r"[^\w.:/-]+")


class Imported(NamedTuple):
    topology: Topology
    """What the definitions declare; it knows where in ``yaml_text`` each thing stands."""
    yaml_text: str
    """The topology file that says so, with what it cannot say in comments at its top."""
    not_imported: tuple[str, ...]
    """A sentence for each thing in the definitions that a topology file cannot express."""


def import_definitions(
    data: bytes | str, vhost: str | None = None, *, file: str = "<definitions>"
) -> Imported:
    """The topology of one virtual host of RabbitMQ's definitions JSON.

    ``vhost``: by default the only one that has objects, or ``/`` where several have. ``file``
    names ``data`` in messages. Keys are made of the broker's names: ``events`` of
    ``attune.events.queue``. Exporting the result gives the same objects again, without those that
    ``not_imported`` names: an object of another virtual host, a second one of the same name, a
    binding to something that is not declared (RabbitMQ skips it, too), a floating-point argument.
    Policies and parameters are no part of a topology: a dead letter exchange that a policy sets is
    named, and not imported.

    Raises :class:`~attune_mq.definitions.InvalidDefinitions` with all that is wrong.
    """
    definitions = read_definitions(data, vhost, file=file)
    importing = _Importing.of(definitions)
    text = write_topology(
        importing.topology(), comments=importing.comments, header=_header(definitions)
    )
    return Imported(parse_topology(text, file=file), text, definitions.not_imported)


def _header(definitions: Definitions) -> str:
    version = f" of RabbitMQ {definitions.version}" if definitions.version else ""
    lines = [f"From the definitions{version}, virtual host {definitions.vhost!r}."]
    if definitions.not_imported:
        lines.append("Not said here:")
    for sentence in definitions.not_imported:
        lines += textwrap.wrap(f"- {_one_line(sentence)}", WIDTH - 2, subsequent_indent="  ")
    return "\n".join(lines)


def _prefix(names: list[str], others: list[str]) -> str:
    """What need not be in the keys of ``names``. A single name alone tells nothing."""
    return _common_prefix(names if len(names) > 1 else [*names, *others])


def _one_line(text: str) -> str:
    """Text as a comment may hold it, whatever characters a name has."""
    return "".join(character if character.isprintable() else " " for character in text).strip()


@dataclass
class _Importing:
    definitions: Definitions
    exchange_keys: Mapping[str, str]
    queue_keys: Mapping[str, str]
    comments: dict[Path, str] = field(default_factory=dict)

    @classmethod
    def of(cls, definitions: Definitions) -> _Importing:
        exchanges = [exchange.name for exchange in definitions.exchanges]
        queues = [queue.name for queue in definitions.queues]
        return cls(
            definitions,
            _invent_keys(exchanges, "exchange", _prefix(exchanges, queues)),
            _invent_keys(queues, "queue", _prefix(queues, exchanges)),
        )

    def topology(self) -> Topology:
        version = self.definitions.version
        return Topology(
            version=1,
            broker=BrokerExpectation(version=version) if version else None,
            exchanges={
                self.exchange_keys[each.name]: self._exchange(each)
                for each in self.definitions.exchanges
            },
            queues={
                self.queue_keys[each.name]: self._queue(each) for each in self.definitions.queues
            },
            bindings=tuple(self._bindings()),
        )

    def _exchange(self, declared: ExchangeDeclaration) -> Exchange:
        self._comment(("exchanges", self.exchange_keys[declared.name]), [declared.path])
        arguments = dict(declared.arguments)
        alternate = self._exchange_key(arguments.get(ALTERNATE_EXCHANGE))
        if alternate is not None:
            del arguments[ALTERNATE_EXCHANGE]
        return Exchange(
            name=declared.name,
            type=declared.type,
            durable=declared.durable,
            auto_delete=declared.auto_delete,
            internal=declared.internal,
            alternate_exchange=alternate,
            arguments=arguments,
        )

    def _exchange_key(self, name: object) -> str | None:
        """What a file refers to the exchange by, if it can."""
        if not isinstance(name, str):
            return None
        return self.exchange_keys.get(name, name if name in BUILT_IN_EXCHANGES else None)

    def _queue(self, declared: QueueDeclaration) -> Queue:
        self._comment(("queues", self.queue_keys[declared.name]), [declared.path])
        arguments = dict(declared.arguments)
        keyed = {
            argument: arguments.pop(argument)
            for argument in declared.arguments
            if has_key(argument, declared.arguments, self.exchange_keys)
        }
        fields = {QUEUE_ARGUMENTS[argument].field: value for argument, value in keyed.items()}
        return Queue.model_validate(
            {
                "name": declared.name,
                "durable": declared.durable,
                "auto_delete": declared.auto_delete,
                **fields,
                "dead_letter": self._dead_letter(keyed),
                "arguments": arguments,
            }
        )

    def _dead_letter(self, keyed: Mapping[str, Any]) -> DeadLetterTo | None:
        exchange = keyed.get(DEAD_LETTER_EXCHANGE)
        if exchange is None:
            return None
        return DeadLetterTo(
            to=self._exchange_key(exchange) or "",
            routing_key=keyed.get(DEAD_LETTER_ROUTING_KEY),
            strategy=keyed.get(DEAD_LETTER_STRATEGY),
        )

    def _bindings(self) -> Iterable[Binding]:
        """Bindings that differ in the key alone are one entry with several keys."""
        groups: dict[str, list[BindingDeclaration]] = {}
        for each in self.definitions.bindings:
            ends = (each.source, each.destination, each.destination_type, each.arguments)
            described = self.definitions.descriptions.get(each.path)
            groups.setdefault(repr((*ends, described)), []).append(each)
        for index, group in enumerate(groups.values()):
            self._comment(("bindings", index), [each.path for each in group])
            yield self._binding(group)

    def _binding(self, group: list[BindingDeclaration]) -> Binding:
        first = group[0]
        to_queue = first.destination_type == "queue"
        single = len(group) == 1
        return Binding.model_validate(
            {
                "source": self._exchange_key(first.source),
                "destination": (
                    self.queue_keys[first.destination]
                    if to_queue
                    else self._exchange_key(first.destination)
                ),
                "destination_type": first.destination_type,
                "routing_key": first.routing_key if single else "",
                "routing_keys": () if single else tuple(each.routing_key for each in group),
                "arguments": first.arguments,
            }
        )

    def _comment(self, path: Path, written_at: Iterable[Path]) -> None:
        texts = [self.definitions.descriptions.get(each) for each in written_at]
        lines = dict.fromkeys(_one_line(text) for text in texts if text)
        if lines:
            self.comments[path] = "\n".join(lines)


def _common_prefix(names: Iterable[str]) -> str:
    """What all names begin with, in whole levels: ``attune.`` of ``attune.dlx``, ``attune.a.b``."""
    levels: list[str] | None = None
    for name in names:
        parts = [name[: found.end()] for found in _LEVEL.finditer(name)]
        levels = parts if levels is None else [part for part in levels if part in parts]
    return levels[-1] if levels else ""


def _invent_keys(names: Sequence[str], noun: str, prefix: str = "") -> Mapping[str, str]:
    """A key for each name: short, readable, and unique among them.

    ``prefix`` is left off, and so is ``noun`` at either end: the key of the queue
    ``attune.events.queue`` is ``events``. Names whose short forms would be the same keep the
    long ones.
    """
    short = {name: _short(name, noun, prefix) for name in names}
    count = Counter(short.values())
    keys: dict[str, str] = {}
    taken = set(BUILT_IN_EXCHANGES)
    for name in names:
        wanted = short[name] if count[short[name]] == 1 else _cleaned(name)
        keys[name] = _free(wanted, taken)
        taken.add(keys[name])
    return keys


def _short(name: str, noun: str, prefix: str) -> str:
    inner = name.removeprefix(prefix) or name
    bare = re.sub(rf"^{noun}[._:-]+(?=.)|(?<=.)[._:-]+{noun}$", "", inner)
    return _cleaned(bare)


def _cleaned(name: str) -> str:
    return _UNPLEASANT.sub("-", name).strip("-") or "unnamed"


def _free(wanted: str, taken: set[str]) -> str:
    key, number = wanted, 2
    while key in taken:
        key, number = f"{wanted}-{number}", number + 1
    return key
