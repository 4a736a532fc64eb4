"""Keys for objects of which only the broker's names are known."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from attune_mq.topology.objects import BUILT_IN_EXCHANGES

_LEVEL = re.compile(r"[.:/]")
_UNPLEASANT = re.compile(r"[^\w.:/-]+")


def common_prefix(names: Iterable[str]) -> str:
    """What all names begin with, in whole levels: ``attune.`` of ``attune.dlx``, ``attune.a.b``."""
    levels: list[str] | None = None
    for name in names:
        parts = [name[: found.end()] for found in _LEVEL.finditer(name)]
        levels = parts if levels is None else [part for part in levels if part in parts]
    return levels[-1] if levels else ""


def invent_keys(names: Sequence[str], noun: str, prefix: str = "") -> Mapping[str, str]:
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
