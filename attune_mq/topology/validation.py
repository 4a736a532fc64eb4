"""Pydantic's errors as problems with a line, in words for the person who edits the file."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from attune_mq.topology import objects
from attune_mq.topology.contracts import ConsumerSpec, Family, MessageContract
from attune_mq.topology.document import Document
from attune_mq.topology.fields import TopologyModel
from attune_mq.topology.model import BrokerExpectation, Defaults, QueueDefaults, Topology
from attune_mq.topology.source import Path, Problem

_EXPECTED = {
    "string_type": "a text",
    "string_too_short": "a text that is not empty",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "too_short": "at least {min_length} item",
    "literal_error": "{expected}",
    "expected": "{expected}",
    "string_pattern_mismatch": 'a text such as "4.3"',
}

_MODELS: Mapping[Path, type[TopologyModel]] = {
    (): Topology,
    ("broker",): BrokerExpectation,
    ("defaults",): Defaults,
    ("defaults", "queue"): QueueDefaults,
    ("exchanges", "*"): objects.Exchange,
    ("queues", "*"): objects.Queue,
    ("queues", "*", "retry"): objects.Retry,
    ("bindings", "*"): objects.Binding,
    ("messages", "*"): MessageContract,
    ("consumers", "*"): ConsumerSpec,
    ("families", "*"): Family,
}


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """``did you mean 'executions'?`` where something valid is spelt much like ``name``."""
    matches = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return f"did you mean {matches[0]!r}?" if matches else None


def shown(value: Any) -> str:
    """A value of the file as people wrote it, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def model_problems(error: ValidationError, document: Document) -> list[Problem]:
    """All of a validation's errors, each with its place in the document."""
    return [_problem(detail, document) for detail in error.errors(include_url=False)]


def _problem(detail: Any, document: Document) -> Problem:
    tags = [step for step in detail["loc"] if str(step).startswith("<")]
    path = tuple(step for step in detail["loc"] if step not in tags)
    if detail["type"] == "missing":
        where = document.sources.where(*path[:-1])
        return Problem(where, f"the key {path[-1]!r}", "none")
    where = document.sources.where(*path)
    if detail["type"] == "extra_forbidden":
        keys = _keys_at(path[:-1], tags)
        expected = f"one of the keys {', '.join(keys)}"
        return Problem(where, expected, f"{path[-1]!r}", nearest(str(path[-1]), keys))
    template = _EXPECTED.get(detail["type"])
    expected = template.format(**detail.get("ctx", {})) if template else str(detail["msg"])
    found = detail["input"]
    hint = document.traps.get(path) or _nearest_literal(found, expected)
    return Problem(where, expected, shown(found), hint)


def _nearest_literal(found: Any, expected: str) -> str | None:
    words = [word.strip("',") for word in expected.split() if word.strip("',") != "or"]
    return nearest(found, words) if isinstance(found, str) else None


def _keys_at(path: Path, tags: Sequence[str | int]) -> list[str]:
    model = _model_at(path, tags)
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(path: Path, tags: Sequence[str | int]) -> type[TopologyModel]:
    if path and path[0] == "families" and len(path) > 2:
        return _model_at(path[2:], tags)
    if path and path[-1] == "dead_letter":
        if "<to>" in tags:
            return objects.DeadLetterTo
        return objects.DeadLetterQueue if len(path) == 1 else objects.OwnDeadLetterQueue
    general = tuple(
        "*" if index == 1 and path[0] != "defaults" else step for index, step in enumerate(path)
    )
    return _MODELS.get(general, Topology)
