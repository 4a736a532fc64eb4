"""Which virtual host of a definitions file is meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attune_mq.definitions.entries import Entry
from attune_mq.definitions.json_text import InvalidDefinitions
from attune_mq.topology.source import Problem, Where

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


def others(entries: Iterable[Entry], chosen: str) -> list[str]:
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
