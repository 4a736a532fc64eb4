"""The JSON Schema of a topology file, for editors that complete and check while one types.

It is of draft 7, which editors know best: https://json-schema.org/draft-07. What it cannot say
(references, names given once, what goes with what) is checked when the file is loaded.
"""

from __future__ import annotations

import ast
import inspect
import warnings
from itertools import pairwise
from typing import Any

from pydantic.json_schema import PydanticJsonSchemaWarning

from attune_mq.topology.durations import format_duration
from attune_mq.topology.fields import TopologyModel
from attune_mq.topology.model import Topology

VARIABLE = {"type": "string", "pattern": r"\$\{"}
"""``${NAME}`` or ``${NAME:-default}`` may stand for any single value."""


def topology_schema() -> dict[str, Any]:
    """A JSON Schema that takes every topology file that can be loaded.

    It allows an environment variable wherever a number, a duration, a choice or ``true`` may
    stand. A value of null, which is most often a forgotten one, it does not take.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)  # defaults are left out below
        schema = Topology.model_json_schema(by_alias=True, ref_template="#/definitions/{model}")
    definitions = schema.pop("$defs")
    for model in TopologyModel.__subclasses__():
        _describe(model, schema if model is Topology else definitions.get(model.__name__, {}))
    cleaned: dict[str, Any] = _cleaned(schema)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "attune-mq topology",
        **cleaned,
        "definitions": {name: _cleaned(each) for name, each in sorted(definitions.items())},
    }


def _describe(model: type[TopologyModel], schema: dict[str, Any]) -> None:
    """pydantic could do so when the class is made, which doubles what it takes to start."""
    texts = _texts_beneath_fields(model)
    for name, field in model.model_fields.items():
        described = schema.get("properties", {}).get(field.alias or name)
        if described is not None and name in texts:
            described.setdefault("description", texts[name])


def _texts_beneath_fields(model: type[TopologyModel]) -> dict[str, str]:
    (tree,) = ast.parse(inspect.getsource(model)).body
    assert isinstance(tree, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(tree.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _cleaned(schema: dict[str, Any]) -> dict[str, Any]:
    """Without what pydantic adds for itself; with environment variables where they may stand."""
    kept = {key: value for key, value in schema.items() if key not in ("title", "default")}
    for key in ("properties", "definitions"):
        if key in kept:
            kept[key] = {name: _property(inner) for name, inner in kept[key].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = _cleaned(kept[key])
    if "description" in kept:
        kept["description"] = " ".join(kept["description"].replace("``", "`").split())
    choices = kept.pop("oneOf", kept.pop("anyOf", None))
    if choices is not None:
        return _one_of(choices, kept)
    return _or_variable(kept)


def _property(schema: dict[str, Any]) -> dict[str, Any]:
    cleaned = _cleaned(schema)
    default = schema.get("default")
    if isinstance(default, int) and _is_duration(schema):
        default = format_duration(default)
    if isinstance(default, bool | int | str) and default != "":
        cleaned["default"] = default
    return cleaned


def _one_of(choices: list[dict[str, Any]], around: dict[str, Any]) -> dict[str, Any]:
    flat: list[dict[str, Any]] = []
    for choice in choices:
        if choice.get("type") == "null":
            continue
        cleaned = _cleaned(choice)
        inner = cleaned.get("anyOf", [cleaned])
        flat += [each for each in inner if each not in flat]
    return {**around, **(flat[0] if len(flat) == 1 else {"anyOf": flat})}


def _or_variable(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("const") == 1:  # the version of the format, which no variable should decide
        return schema
    is_single = schema.get("type") in ("integer", "boolean") or "enum" in schema
    if is_single or ("pattern" in schema and not _allows_variable(schema)):
        described = {key: schema.pop(key) for key in ("description",) if key in schema}
        return {**described, "anyOf": [schema, dict(VARIABLE)]}
    return schema


def _allows_variable(schema: dict[str, Any]) -> bool:
    return str(schema.get("pattern", "")).endswith(VARIABLE["pattern"])


def _is_duration(schema: dict[str, Any]) -> bool:
    return "(ms|s|m|h|d)" in str(schema)
