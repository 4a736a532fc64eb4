"""The types of the fields that topology models are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictInt,
    StrictStr,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

MAX_NAME_BYTES = 255
"""AMQP 0-9-1 sends names and routing keys as short strings."""

V = TypeVar("V")


class FrozenDict(dict[str, V]):
    """A dict that cannot be changed, so that a frozen model is frozen all the way down."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a topology cannot be changed; make another with model_copy(update=…)")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = __ior__ = _refuse

    def __hash__(self) -> int:  # type: ignore[override] # a dict has none
        return hash(frozenset(self.items()))

    def __deepcopy__(self, _: object) -> FrozenDict[V]:
        return self

    def __reduce__(self) -> tuple[type[FrozenDict[V]], tuple[dict[str, V]]]:
        return FrozenDict, (dict(self),)


def _short_string(value: str) -> str:
    size_bytes = len(value.encode("utf-8", "surrogatepass"))
    if size_bytes > MAX_NAME_BYTES:
        raise PydanticCustomError("expected", "{expected}", {"expected": "255 bytes at most"})
    return value


def _argument(value: Any) -> Any:
    if isinstance(value, float):
        expected = "a whole number, a string, a boolean, a list or a table (AMQP arguments)"
        raise PydanticCustomError("expected", "{expected}", {"expected": expected})
    if isinstance(value, list | tuple):
        return tuple(_argument(item) for item in value)
    if isinstance(value, Mapping):
        return FrozenDict({key: _argument(item) for key, item in value.items()})
    return value


def to_plain(value: Any) -> Any:
    """An argument as the plain lists and dicts that pika and JSON know."""
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value


FrozenMap = Annotated[Mapping[str, V], AfterValidator(FrozenDict), PlainSerializer(dict)]
ShortString = Annotated[StrictStr, AfterValidator(_short_string)]
Name = Annotated[ShortString, Field(min_length=1)]
Arguments = Annotated[
    Mapping[str, Any],
    AfterValidator(_argument),
    PlainSerializer(to_plain),
    WithJsonSchema({"type": "object", "additionalProperties": True}),
]
NO_ARGUMENTS: Mapping[str, Any] = FrozenDict()
PositiveInt = Annotated[StrictInt, Field(ge=1)]
Count = Annotated[StrictInt, Field(ge=0)]


class TopologyModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True)
