"""The rules file: which action a rule runs, and which runtime runs the action."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attune_executor.settings import load_mapping, problems_of
from attune_mq import InvalidInput


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Action(_Strict):
    """What a worker can run. ``entry`` is for the worker: a command line, a script."""

    id: int
    runtime: str
    entry: str = ""
    timeout_s: float = Field(default=60.0, gt=0)


class Rule(_Strict):
    """``config`` is passed to each execution, with the payload of its enforcement."""

    action: str
    enabled: bool = True
    config: Mapping[str, Any] = Field(default_factory=dict)


class Rules(_Strict):
    """All rules by their ref, all actions by theirs."""

    version: Literal[1]
    actions: Mapping[str, Action]
    rules: Mapping[str, Rule]


def load_rules(file: str | os.PathLike[str]) -> Rules:
    """Raises :class:`~attune_mq.InvalidInput` with all problems of the file."""
    path = Path(file)
    expected = "version, actions and rules (--rules, ATTUNE_RULES)"
    try:
        rules = Rules.model_validate(load_mapping(path, expected))
    except ValidationError as error:
        raise InvalidInput("\n".join(f"{path} {one}" for one in problems_of(error))) from None
    missing = [
        f"{path} rules.{ref}.action: expected an action of the file, got {rule.action!r}"
        for ref, rule in rules.rules.items()
        if rule.action not in rules.actions
    ]
    if missing:
        raise InvalidInput("\n".join(missing))
    return rules
