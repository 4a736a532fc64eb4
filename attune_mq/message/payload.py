"""What every payload class has in common, and which class reads which message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from attune_mq.errors import UnknownMessageType
from attune_mq.message.synchronous import check_synchronous


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
