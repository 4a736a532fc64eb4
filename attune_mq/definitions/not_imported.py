"""What stands in definitions and is no part of a topology, in a sentence each.

Names only: values of parameters hold URLs with passwords in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from attune_mq.definitions.json_text import OTHER_KEYS, SECTIONS, SILENT_KEYS

SHOWN_NAMES = 5


@dataclass
class Leftovers:
    """Fields of objects that RabbitMQ does not read, or that say nothing to it."""

    names: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, section: str, what: str, name: str) -> None:
        self.names.setdefault((section, what), []).append(name)

    def sentences(self) -> Iterator[str]:
        for (section, what), names in sorted(self.names.items()):
            if what == "description":
                yield f"the description of {len(names)} of the {section}; it is kept as a comment"
            else:
                yield f"{what!r} of the {section} {_some(names)}: RabbitMQ does not read it"


def rest_of_vhost(top: Mapping[str, Any], vhost: str) -> Iterator[str]:
    """Policies, parameters and properties of the virtual host that is imported."""
    for policy in _of_vhost(top, "policies", vhost):
        yield f"policy {_policy(policy, policy)}"
    for parameter in _of_vhost(top, "parameters", vhost):
        value = parameter.get("value")
        if parameter.get("component") == "operator_policy" and isinstance(value, Mapping):
            yield f"operator policy {_policy(parameter, value)}"
        else:
            yield f"parameter {parameter.get('name')!r} of {parameter.get('component')}"
    for entry in (top, *_entries(top, "vhosts")):  # definitions of a single one have them on top
        if entry.get("name", vhost) == vhost:
            yield from _properties(entry, vhost)


def rest_of_cluster(top: Mapping[str, Any]) -> Iterator[str]:
    """What belongs to no virtual host."""
    for key in sorted(top.keys() - {*SECTIONS, *SILENT_KEYS, *OTHER_KEYS}):
        yield f"the key {key!r}: RabbitMQ does not know it"
    users = [str(user.get("name")) for user in _entries(top, "users")]
    if users:
        yield f"users {_some(users)}: a topology does not say who may log in"
    for key in ("permissions", "topic_permissions"):
        holders = [str(each.get("user")) for each in _entries(top, key)]
        if holders:
            yield f"{key.replace('_', ' ')} of {_some(holders)}; `acl` tells what a service needs"
    parameters = [str(each.get("name")) for each in _entries(top, "global_parameters")]
    if parameters:
        yield f"global parameters {_some(parameters)}"


def _policy(named: Mapping[str, Any], policy: Mapping[str, Any]) -> str:
    definition = policy.get("definition")
    keys = ", ".join(sorted(definition)) if isinstance(definition, Mapping) else "nothing"
    applies = policy.get("apply-to", "all")
    kinds = "exchanges and queues" if applies == "all" else applies
    return f"{named.get('name')!r}: sets {keys} on {kinds} that match {policy.get('pattern')!r}"


def _properties(entry: Mapping[str, Any], vhost: str) -> Iterator[str]:
    metadata = entry.get("metadata")
    properties = {**(metadata if isinstance(metadata, Mapping) else {}), **entry}
    kind = properties.get("default_queue_type")
    if kind not in (None, "undefined", "classic"):
        yield f"virtual host {vhost!r}: its queues without a type are {kind}"
    for name in ("tracing", "limits"):
        if properties.get(name):
            yield f"virtual host {vhost!r}: its {name}"


def _of_vhost(top: Mapping[str, Any], key: str, vhost: str) -> Iterator[Mapping[str, Any]]:
    return (entry for entry in _entries(top, key) if entry.get("vhost", vhost) == vhost)


def _entries(top: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    entries = top.get(key)
    if not isinstance(entries, list):
        return []
    return [entry for entry in entries if isinstance(entry, Mapping)]


def _some(names: list[str]) -> str:
    listed = ", ".join(map(repr, names[:SHOWN_NAMES]))
    more = len(names) - SHOWN_NAMES
    return f"{listed} and {more} more" if more > 0 else listed
