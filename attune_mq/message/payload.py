"""What every payload class has in common, which class reads which message, and a payload as the
JSON object of the wire, and back.

What is written was read back first: a payload whose class would not read its JSON as an equal value
is refused, before anything is sent. Reading is pydantic's JSON mode, in which a class with
``strict=True`` takes the strings and arrays that JSON has for a time, a UUID or a set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic_core import PydanticSerializationError, from_json, to_json

from attune_mq.errors import MalformedMessage, UnknownMessageType
from attune_mq.message.synchronous import check_synchronous
from attune_mq.message.validation_errors import MAX_PROBLEMS, json_type, malformed, name_of

WITHIN: Final = "payload"
_SURROGATE: Final = "expected text that UTF-8 can hold, found a lone surrogate"


class Payload(BaseModel):
    """What every payload is: frozen, lenient about unknown fields, silent about its values.

    Making one with wrong values raises :class:`pydantic.ValidationError`, whose text names fields
    and types, not values. ``model_dump_json()`` is the object that the wire carries; it shows
    secrets, so it is not for logs. JSON values inside are shared, not copied: leave them alone.

    Any field type and configuration of pydantic may be used. What is published is what its class
    reads back from JSON as an equal value (``==``); what it would not read back equal is refused
    with :class:`~attune_mq.errors.MalformedMessage` before anything is sent. So NaN, which equals
    nothing, is never published; a :class:`~pydantic.SecretStr` is to be a ``Secret``, and a time
    that has a zone is best a ``Timestamp``: Python has no two equal times of different zones in the
    hour in which clocks are set back.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, serialize_by_alias=True
    )

    message_type: ClassVar[str]
    left_out_when_unset: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def claims(cls, data: Mapping[str, object]) -> bool:
        """Whether *data*, sent with this class's message type, is for this class to read.

        True, unless several classes share one message type and tell their own by its fields.
        """
        return True

    @model_serializer(mode="wrap")
    def _leave_out_what_is_unset(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = write(self)
        for name in self.left_out_when_unset:
            if written.get(name) is None:
                written.pop(name, None)
        return written


PayloadTypes = Mapping[str, tuple[type[Payload], ...]]
"""The classes that read a message type, by its name. Several tell their own by :meth:`claims`."""


def by_message_type(classes: Iterable[type[Payload]]) -> PayloadTypes:
    """Orders *classes* by message type; within one, their order is kept and decides.

    Raises :class:`~attune_mq.errors.NotSynchronous` where ``claims`` is a coroutine function, whose
    coroutine is true of all data.
    """
    found: dict[str, tuple[type[Payload], ...]] = {}
    for payload_type in classes:
        check_synchronous(payload_type.claims, f"claims of {payload_type.__name__}")
        message_type = payload_type.message_type
        found[message_type] = (*found.get(message_type, ()), payload_type)
    return MappingProxyType(found)


def payload_class(
    message_type: str, data: Mapping[str, object], known: PayloadTypes
) -> type[Payload]:
    """The class of *known* that reads a payload with these *data*.

    Raises :class:`~attune_mq.errors.UnknownMessageType` when none does.
    """
    for payload_type in known.get(message_type, ()):
        if payload_type.claims(data):
            return payload_type
    raise UnknownMessageType(message_type)


_P = TypeVar("_P", bound=Payload)


def write_payload(payload: Payload) -> dict[str, Any]:
    """What the wire carries of *payload*. Its class reads an equal value (``==``) from it.

    So the validators of the class run once more; what they do besides is done once more, too.

    Raises :class:`~attune_mq.errors.MalformedMessage`, which names the fields, where there is no
    such JSON: NaN, text with a lone surrogate, bytes that are no UTF-8 (but see pydantic's
    ``ser_json_bytes``), what is hidden on the wire (``SecretStr``, ``exclude``), what JSON turns
    into something else (a tuple in a field of type ``Any``), private attributes that the wire
    does not carry, a value that its own field refuses.
    """
    if not isinstance(payload, Payload):
        raise MalformedMessage(f"{WITHIN}: expected a Payload, found {json_type(payload)}")
    try:
        body, written = _as_json(payload)
    except Exception as error:
        _reraise_interruption(error)
        reason = error
    else:
        return _read_back(payload, body, written)
    raise MalformedMessage(*islice(_not_written(payload, reason), MAX_PROBLEMS))


def read_payload(payload_type: type[_P], data: Mapping[str, Any]) -> _P:
    """*data*, as it came, as a value of *payload_type*.

    Raises :class:`~attune_mq.errors.MalformedMessage` if a field is missing or wrong, and whatever
    a validator of that class raises that is no ``ValueError``.
    """
    try:
        # As model_validate_json does, without a microsecond of what that does before.
        read: _P = payload_type.__pydantic_validator__.validate_json(to_json(data))
    except ValidationError as error:
        problem = malformed(error, within=WITHIN)
    except PydanticSerializationError:  # of an envelope that was made by hand
        problem = MalformedMessage(f"{WITHIN}: {_SURROGATE}")
    else:
        return read
    raise problem


def _as_json(payload: Payload) -> tuple[bytes, dict[str, Any]]:
    """Not at once, by pydantic's ``model_dump_json``: that forgets what a signal raised in it."""
    written: dict[str, Any] = payload.model_dump(mode="json", warnings=False)
    inf_nan_mode = type(payload).model_config.get("ser_json_inf_nan", "null")
    body = to_json(written, inf_nan_mode=inf_nan_mode)
    return body, written if inf_nan_mode == "null" else from_json(body, allow_inf_nan=False)


def _read_back(payload: Payload, body: bytes, written: dict[str, Any]) -> dict[str, Any]:
    kind = type(payload)
    try:
        read = kind.__pydantic_validator__.validate_json(body)
        if read == payload and kind.claims(written):
            return written
        problems = tuple(islice(_differences(payload, read), MAX_PROBLEMS))
    except ValidationError as error:
        problems = malformed(error, within=WITHIN).problems
        if error.errors()[0]["type"] == "json_invalid":  # a number that no reader takes
            problems = tuple(islice(_not_written(payload, error), MAX_PROBLEMS))
    except Exception as error:  # of a validator, of ``claims``, of ``==``
        _reraise_interruption(error)
        problems = (f"found {type(error).__name__} in reading it back",)
    raise MalformedMessage(
        f"{WITHIN}: expected JSON that {kind.__name__} reads as an equal value, found other JSON",
        *problems,
    )


def _reraise_interruption(error: BaseException | None) -> None:
    """pydantic makes an error of its own of what is raised within a serializer in Python, also of
    what a signal raises there (Ctrl-C): that is no word about the message."""
    while error is not None:
        if isinstance(error, MemoryError) or not isinstance(error, Exception):
            raise error
        error = error.__cause__


def _is_lone_surrogate(error: BaseException) -> bool:
    """Whether text that UTF-8 cannot hold is what could not be written."""
    return "surrogates not allowed" in str(error)


def _differences(payload: Payload, read: Payload) -> Iterator[str]:
    mine, other = _parts(payload), _parts(read)
    names = [name for name in {**mine, **other} if not _are_equal(mine, other, name)]
    for name in names:
        was = json_type(mine[name]) if name in mine else "nothing"
        back = json_type(other[name]) if name in other else "nothing"
        yield (
            f"{WITHIN}.{name_of(name)}: expected a value that is read back equal, "
            f"found {was}, read back as {back}"
        )
    if not names:
        yield f"{WITHIN}: `claims` of {type(payload).__name__} does not take it"


def _parts(payload: Payload) -> dict[str, Any]:
    """By name, also those that pydantic keeps elsewhere: extra fields, private attributes."""
    fields = type(payload).model_fields
    return {
        **{name: value for name, value in payload.__dict__.items() if name in fields},
        **(payload.__pydantic_extra__ or {}),
        **(payload.__pydantic_private__ or {}),
    }


def _are_equal(mine: Mapping[str, Any], other: Mapping[str, Any], name: str) -> bool:
    return name in mine and name in other and bool(mine[name] == other[name])


def _not_written(payload: Payload, reason: Exception) -> Iterator[str]:
    """pydantic's text quotes values and names no field: so each field is tried by itself."""
    found = False
    for name, value in _parts(payload).items():
        try:
            from_json(to_json(payload.model_dump(mode="json", include={name}, warnings=False)))
        except Exception as error:
            found = True
            yield f"{WITHIN}.{name_of(name)}: {_expected(error, value)}"
    if not found:
        yield f"{WITHIN}: {_expected(reason, payload)}"


def _expected(error: Exception, value: object) -> str:
    if _is_lone_surrogate(error):
        return _SURROGATE
    return f"expected a value that JSON can hold, found {json_type(value)}"
