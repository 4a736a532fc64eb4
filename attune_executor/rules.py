"""The file that says which action a rule runs, and what runs the action."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from attune_mq import InvalidInput


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Action(_Strict):
    """Something that a worker can run. ``entry`` is the worker's: a command line, a script."""

    id: int
    runtime: str
    entry: str = ""
    timeout_s: float = Field(default=60.0, gt=0)


class Rule(_Strict):
    """``config`` is given to each execution, together with the payload of its enforcement."""

    action: str
    enabled: bool = True
    config: Mapping[str, Any] = Field(default_factory=dict)


class Rules(_Strict):
    """All rules by their ref, all actions by theirs."""

    version: Literal[1]
    actions: Mapping[str, Action]
    rules: Mapping[str, Rule]


def load_rules(file: str | os.PathLike[str]) -> Rules:
    """Raises :class:`~attune_mq.InvalidInput` with all that is wrong in the file."""
    path = Path(file)
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(said, dict):
            raise InvalidInput(f"{path}: expected a mapping with version, actions and rules")
        rules = Rules.model_validate(said)
    except FileNotFoundError:
        hint = "name one with --rules or ATTUNE_RULES"
        raise InvalidInput(
            f"{path}: expected a file of rules and actions, found none; {hint}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path}: expected YAML, got an error in it: {error}") from None
    except ValidationError as error:
        lines = (
            f"{path} {'.'.join(str(step) for step in detail['loc'])}: {detail['msg']}"
            for detail in error.errors(include_url=False, include_input=False)
        )
        raise InvalidInput("\n".join(lines)) from None
    missing = [
        f"{path} rules.{ref}.action: expected an action of the file, got {rule.action!r}"
        for ref, rule in rules.rules.items()
        if rule.action not in rules.actions
    ]
    if missing:
        raise InvalidInput("\n".join(missing))
    return rules
