"""One object of a definitions file, its fields as they are meant, and its virtual host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attune_mq.definitions.json_text import InvalidDefinitions
from attune_mq.topology.fields import MAX_NAME_BYTES
from attune_mq.topology.source import Path, Problem, Where, path_text
from attune_mq.topology.validation import shown


@dataclass(frozen=True)
class Entry:
    """``values`` stand at ``path`` of ``file``. What is wrong with them goes to ``problems``."""

    file: str
    path: Path
    values: Mapping[str, Any]
    problems: list[Problem]

    @property
    def place(self) -> str:
        return path_text(self.path)

    def wrong(self, name: str, expected: str, found: object) -> None:
        where = Where(self.file, 0, 0, path_text((*self.path, name)))
        self.problems.append(Problem(where, expected, shown(found)))

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.values.get(name)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        self.wrong(name, "true or false", value)
        return default

    def text(self, name: str, *, default: str | None = None) -> str | None:
        """A text that AMQP can carry as a name or key. ``None``: a problem was reported."""
        value = self.values.get(name)
        if value is None:
            value = default
        if not isinstance(value, str):
            self.wrong(name, "a text", value)
        elif len(value.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
            self.wrong(name, f"{MAX_NAME_BYTES} bytes at most", value)
        elif has_surrogates(value):
            self.wrong(name, "a text in Unicode", ascii(value))
        else:
            return value
        return None

    def arguments(self) -> dict[str, Any]:
        """Missing, null, ``{}`` and, as PHP writes an empty table, ``[]`` are none."""
        value = self.values.get("arguments")
        if isinstance(value, Mapping):
            return dict(value)
        if value is not None and value != []:
            self.wrong("arguments", "an object", value)
        return {}


def has_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def unsayable(argument: str, value: object) -> str | None:
    """Why an argument cannot be said in a topology file, if so."""
    if len(argument.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES or has_surrogates(argument):
        return "AMQP cannot carry its name"
    if isinstance(value, float):
        return f"{value} (numbers are whole numbers here)"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return f"{shown(value)} (a number has 64 bits at most)"
    if value is None:
        return "null (RabbitMQ refuses to import it)"
    if isinstance(value, str):
        return "a text that is not Unicode" if has_surrogates(value) else None
    inner: list[tuple[str, object]] = []
    if isinstance(value, Mapping):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = [("", each) for each in value]
    return next(filter(None, (unsayable(name, each) for name, each in inner)), None)


DEFAULT_VHOST = "/"


def choose_vhost(
    entries: Sequence[Entry], top: Mapping[str, Any], wanted: str | None, *, file: str
) -> str:
    """``wanted``, else the only virtual host that has objects, else ``/``.

    Raises :class:`InvalidDefinitions` when it is not there, and when several have objects and
    none of them is ``/``.
    """
    holding = list(dict.fromkeys(filter(None, map(vhost_of, entries))))
    declared = [name for name in _declared(top) if name not in holding]
    if wanted is not None:
        if holding and wanted not in [*holding, *declared]:
            raise _invalid(file, f"the virtual host {wanted!r}", [*holding, *declared])
        return wanted
    if DEFAULT_VHOST in holding:
        return DEFAULT_VHOST
    if len(holding) > 1:
        raise _invalid(file, "the name of the virtual host to import", holding)
    if holding:
        return holding[0]
    return declared[0] if len(declared) == 1 else DEFAULT_VHOST


def objects_of_other_vhosts(entries: Iterable[Entry], chosen: str) -> list[str]:
    """What the other virtual hosts hold, a sentence for each."""
    held: dict[str, Counter[str]] = {}
    for entry in entries:
        vhost = vhost_of(entry)
        if vhost is not None and vhost != chosen:
            held.setdefault(vhost, Counter())[str(entry.path[0])] += 1
    return [
        f"virtual host {vhost!r}: its {_counted(counts)}; name it to import it"
        for vhost, counts in held.items()
    ]


def vhost_of(entry: Entry) -> str | None:
    """None: it does not say, and is of the one that is meant."""
    vhost = entry.values.get("vhost")
    if vhost is not None and not isinstance(vhost, str):
        entry.wrong("vhost", "a text", vhost)
        return None
    return vhost


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(
        f"{number} {section if number > 1 else section[:-1]}" for section, number in counts.items()
    )


def _declared(top: Mapping[str, Any]) -> list[str]:
    """Names of virtual hosts. Definitions of a single one have its name at their top (4.x)."""
    vhosts = top.get("vhosts")
    listed = [
        {"name": top.get("original_vhost_name")},
        *(vhosts if isinstance(vhosts, list) else []),
    ]
    names = [each.get("name") for each in listed if isinstance(each, Mapping)]
    return [name for name in names if isinstance(name, str)]


def _invalid(file: str, expected: str, found: Iterable[str]) -> InvalidDefinitions:
    where = Where(file, 0, 0, "vhosts")
    return InvalidDefinitions([Problem(where, expected, ", ".join(map(repr, found)))])
