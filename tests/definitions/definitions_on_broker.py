"""Definitions in and out of a real broker."""

from __future__ import annotations

import json
import tempfile
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from attune_mq.broker import EmbeddedBroker

SECTIONS = ("exchanges", "queues", "bindings")
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "exchanges": {"durable": True, "auto_delete": False, "internal": False},
    "queues": {"durable": True, "auto_delete": False},
    "bindings": {"destination_type": "queue", "routing_key": ""},
}
_READ = {
    "exchanges": {"name", "type"},
    "queues": {"name"},
    "bindings": {"source", "destination"},
}


def objects_of(definitions: Mapping[str, Any], vhost: str = "/") -> set[str]:
    """Each exchange, queue and binding of one virtual host, with all that RabbitMQ reads of it."""
    return {
        f"{section} {json.dumps(_canonical(entry, section), sort_keys=True)}"
        for section in SECTIONS
        for entry in definitions.get(section, ())
        if entry.get("vhost", vhost) == vhost
    }


def _canonical(entry: Mapping[str, Any], section: str) -> dict[str, Any]:
    fields = {
        **_DEFAULTS[section],
        **{key: value for key, value in entry.items() if value is not None},
    }
    read = _READ[section] | _DEFAULTS[section].keys()
    arguments = entry.get("arguments") or {}
    return {"arguments": arguments, **{key: value for key, value in fields.items() if key in read}}


def import_into(broker: EmbeddedBroker, definitions: Mapping[str, Any]) -> None:
    """As an operator does it: ``rabbitmqctl import_definitions FILE``."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "definitions.json"
        file.write_text(json.dumps(definitions), encoding="utf-8")
        file.parent.chmod(0o755)
        broker.rabbitmqctl("import_definitions", str(file))


def definitions_of(broker: EmbeddedBroker, vhost: str) -> dict[str, Any]:
    """From the HTTP API, since ``export_definitions`` of 3.10 leaves internal exchanges out."""
    address = urlsplit(broker.management_url or "")
    request = urllib.request.Request(
        f"http://{address.hostname}:{address.port}/api/definitions/{quote(vhost, safe='')}",
        headers={"Authorization": f"Basic {b64encode(b'guest:guest').decode()}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        read: dict[str, Any] = json.load(answer)
    return read
