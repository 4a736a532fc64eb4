"""The names that instances of a family have, as regular expressions.

``worker.{worker_id}.executions`` is ``worker\\.[^.]+\\.executions``: a parameter stands for one
word, since a dot parts the words of names and routing keys.
"""

from __future__ import annotations

import re

from attune_mq.topology.contracts import Family

ONE_WORD = "[^.]+"


def name_pattern(name: str, family: Family) -> str:
    """``name`` with each of the family's parameters as a pattern, the rest taken literally."""
    placeholders = "|".join(re.escape(f"{{{parameter}}}") for parameter in family.parameters)
    parts = re.split(f"({placeholders})", name)
    return "".join(ONE_WORD if index % 2 else literal(part) for index, part in enumerate(parts))


def literal(name: str) -> str:
    """A name as a regular expression that matches it alone, for Python as for RabbitMQ."""
    return re.sub(r"([.^$*+?()\[\]{}|\\])", r"\\\1", name)
