"""What is wrong with a message, said without any of its values.

pydantic's own texts and errors carry the values that they refuse. A payload may hold a secret, and
what is said here ends up in logs and in the headers of dead letters, so only names of fields,
what was expected, and the *type* of what was found come through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import ValidationError

from attune_mq.errors import MalformedMessage

MAX_PROBLEMS: Final = 5
"""How many problems of one message are listed; the rest are counted."""

_MAX_NAME_LENGTH: Final = 64

_EXPECTED: Final[Mapping[str, str]] = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "datetime_type": "a time",
    "dict_type": "an object",
    "enum": "one of {expected}",
    "expected": "{what}",
    "float_type": "a number",
    "greater_than_equal": "a number of at least {ge}",
    "int_from_float": "an integer",
    "int_parsing": "an integer",
    "int_type": "an integer",
    "less_than_equal": "a number of at most {le}",
    "list_type": "an array",
    "mapping_type": "an object",
    "model_type": "an object",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_type": "a string",
    "tuple_type": "an array",
}
"""By pydantic's name for the error. These texts hold nothing of the input; others might."""


def malformed(error: ValidationError, *, within: str = "") -> MalformedMessage:
    """What pydantic found, as our error. *within* is where the validated value stands.

    Raise it outside of the ``except`` block: pydantic's error knows the values and must not travel
    along as its context.
    """
    return MalformedMessage(*_problems(error, within))


def _problems(error: ValidationError, within: str) -> Iterator[str]:
    found = error.errors(include_url=False)
    for details in found[:MAX_PROBLEMS]:
        yield _problem(
            details["loc"], details["type"], details["input"], details.get("ctx"), within
        )
    if len(found) > MAX_PROBLEMS:
        yield f"{len(found) - MAX_PROBLEMS} more"


def _problem(
    location: tuple[int | str, ...],
    error_type: str,
    value: object,
    context: Mapping[str, Any] | None,
    within: str,
) -> str:
    path = ".".join([within] * bool(within) + [name_of(part) for part in location])
    if error_type == "missing":
        return f"{path}: required, and missing"
    context = context or {}
    template = _EXPECTED.get(error_type, f"a value that passes its check ({error_type})")
    found = context.get("found", json_type(value))
    return f"{path}: expected {template.format_map(context)}, found {found}"


def name_of(part: int | str) -> str:
    """As it may stand in a log: short and printable, or else not at all."""
    name = str(part)
    return name if len(name) <= _MAX_NAME_LENGTH and name.isprintable() else "(another key)"


def json_type(value: object) -> str:
    """The JSON type of *value*, with its article; for what JSON does not know, Python's name."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a number"
        case str():
            return "a string"
        case list() | tuple():
            return "an array"
        case Mapping():
            return "an object"
        case _:
            return f"a Python {type(value).__name__}"
