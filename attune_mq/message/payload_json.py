"""A payload as the JSON object of the wire, and back.

What is written was read back first: a payload whose class would not read its JSON as an equal value
is refused, before anything is sent. Reading is pydantic's JSON mode, in which a class with
``strict=True`` takes the strings and arrays that JSON has for a time, a UUID or a set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from attune_mq.errors import MalformedMessage
from attune_mq.message.payload import Payload
from attune_mq.message.validation_errors import MAX_PROBLEMS, json_type, malformed, name_of

P = TypeVar("P", bound=Payload)

WITHIN: Final = "payload"
_SURROGATE: Final = "expected text that UTF-8 can hold, found a lone surrogate"


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


def read_payload(payload_type: type[P], data: Mapping[str, Any]) -> P:
    """*data*, as it came, as a value of *payload_type*.

    Raises :class:`~attune_mq.errors.MalformedMessage` if a field is missing or wrong, and whatever
    a validator of that class raises that is no ``ValueError``.
    """
    try:
        # As model_validate_json does, without a microsecond of what that does before.
        read: P = payload_type.__pydantic_validator__.validate_json(to_json(data))
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
