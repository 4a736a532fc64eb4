"""Exchanges, queues and bindings as the commands show them: in JSON, and to people."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from attune_mq.broker.report import Conflict, Unknown
from attune_mq.topology.declarations import Declaration
from attune_mq.topology.source import Where


def named(declaration: Declaration) -> dict[str, Any]:
    return {"kind": declaration.kind, "name": declaration.name}


def in_conflict(conflict: Conflict) -> dict[str, Any]:
    return named(conflict.declaration) | {
        "field": conflict.field,
        "expected": conflict.expected,
        "found": conflict.found,
        "where": conflict.where._asdict(),
    }


def not_known(unknown: Unknown) -> dict[str, Any]:
    return named(unknown.declaration) | {"why": unknown.why, "detail": unknown.detail}


def printable(text: str) -> str:
    """Names on a broker may hold anything; nothing of it shall move the cursor of a terminal."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def place(where: Where) -> str:
    """File and line, the file as seen from the working directory."""
    path = Path(where.file)
    file = where.file
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        file = os.path.relpath(path)
    return f"{file}:{where.line}" if where.line else file
