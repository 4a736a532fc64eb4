"""Attune's messages: one frozen class for each message type, and the words for its states.

A class names its fields as the wire does. A field without a default must be there; a field with
one is optional and written as ``null`` while it is unset, but for those named in
``left_out_when_unset``. Unknown fields are ignored. A message of your own is a class of your own::

    class InvoicePaid(Payload):
        message_type = "InvoicePaid"
        invoice_id: Id
        note: Text | None = None

There is no registry to enter it in: hand the class to the code that publishes or reads the message.
The rest of the library knows none of the classes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Self

from attune_mq.message.fields import (
    Flag as Flag,
    Id as Id,
    JsonData as JsonData,
    Secret as Secret,
    Text as Text,
    Texts as Texts,
    Timestamp as Timestamp,
)
from attune_mq.message.payload import Payload as Payload, PayloadTypes, by_message_type

_RELEASE: Final = frozenset({"release_id", "release_digest"})


class Status(StrEnum):
    """A status word. Read in any case, ``canceled`` as ``cancelled``; written in lower case."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        word = value.lower()
        word = "cancelled" if word == "canceled" else word
        return next((status for status in cls if status.value == word), None)


class ExecutionStatus(Status):
    """The last five are final, and ``canceling`` leads to ``cancelled``."""

    REQUESTED = "requested"
    SCHEDULING = "scheduling"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    CANCELING = "canceling"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"


class EnforcementStatus(Status):
    CREATED = "created"
    PROCESSED = "processed"
    DISABLED = "disabled"


class InquiryStatus(Status):
    PENDING = "pending"
    RESPONDED = "responded"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


class EventCreated(Payload):
    """A sensor observed an event."""

    message_type = "EventCreated"
    event_id: Id
    trigger_id: Id | None = None
    trigger_ref: Text
    sensor_id: Id | None = None
    sensor_ref: Text | None = None
    payload: JsonData
    config: JsonData = None


class EnforcementCreated(Payload):
    """A rule matched an event, which asks for an execution."""

    message_type = "EnforcementCreated"
    left_out_when_unset = _RELEASE
    enforcement_id: Id
    rule_id: Id | None = None
    rule_ref: Text
    event_id: Id | None = None
    trigger_ref: Text
    payload: JsonData
    release_id: Id | None = None
    release_digest: Text | None = None


class ExecutionRequested(Payload):
    """An execution waits for a worker. Shares its message type with :class:`ExecutionDispatch`."""

    message_type = "ExecutionRequested"
    left_out_when_unset = _RELEASE
    execution_id: Id
    action_id: Id | None = None
    action_ref: Text
    parent_id: Id | None = None
    enforcement_id: Id | None = None
    config: JsonData = None
    release_id: Id | None = None
    release_digest: Text | None = None

    @classmethod
    def claims(cls, data: Mapping[str, object]) -> bool:
        """True for what has none of the fields that only a dispatch has."""
        return not ExecutionDispatch.claims(data)


class ExecutionDispatch(Payload):
    """An execution is assigned to one worker. Its type on the wire is ``ExecutionRequested``."""

    message_type = "ExecutionRequested"
    execution_id: Id
    worker_id: Id
    action_ref: Text
    config: JsonData = None
    scheduled_attempt_updated_at: Timestamp

    @classmethod
    def claims(cls, data: Mapping[str, object]) -> bool:
        """True for what has a field that only a dispatch has.

        One is enough: a dispatch that lacks the other is malformed, not a request to schedule.
        """
        return "scheduled_attempt_updated_at" in data or "worker_id" in data


class ExecutionStatusChanged(Payload):
    """An execution changed its status."""

    message_type = "ExecutionStatusChanged"
    execution_id: Id
    action_ref: Text
    previous_status: ExecutionStatus
    new_status: ExecutionStatus
    changed_at: Timestamp


class ExecutionCompleted(Payload):
    """An execution reached a final status, of whatever kind."""

    message_type = "ExecutionCompleted"
    execution_id: Id
    action_id: Id
    action_ref: Text
    status: ExecutionStatus
    result: JsonData = None
    completed_at: Timestamp


class ExecutionCancelRequested(Payload):
    """A worker is asked to stop an execution."""

    message_type = "ExecutionCancelRequested"
    execution_id: Id
    worker_id: Id


class InquiryCreated(Payload):
    """An execution asks people a question."""

    message_type = "InquiryCreated"
    inquiry_id: Id
    execution_id: Id
    prompt: Text
    response_schema: JsonData = None
    assigned_to: Id | None = None
    timeout_at: Timestamp | None = None


class InquiryResponded(Payload):
    """An inquiry was answered."""

    message_type = "InquiryResponded"
    inquiry_id: Id
    execution_id: Id
    response: JsonData
    responded_by: Id | None = None
    responded_at: Timestamp


class NotificationCreated(Payload):
    """A notification for users."""

    message_type = "NotificationCreated"
    notification_id: Id
    channel: Text
    entity_type: Text
    entity: Text
    activity: Text
    content: JsonData = None


class RuleCreated(Payload):
    message_type = "RuleCreated"
    rule_id: Id
    rule_ref: Text
    trigger_id: Id | None = None
    trigger_ref: Text
    action_id: Id | None = None
    action_ref: Text
    trigger_params: JsonData = None
    enabled: Flag


class RuleEnabled(Payload):
    message_type = "RuleEnabled"
    rule_id: Id
    rule_ref: Text
    trigger_ref: Text
    trigger_params: JsonData = None


class RuleDisabled(Payload):
    message_type = "RuleDisabled"
    rule_id: Id
    rule_ref: Text
    trigger_ref: Text


class RuleDeleted(Payload):
    message_type = "RuleDeleted"
    rule_id: Id
    rule_ref: Text
    trigger_id: Id | None = None
    trigger_ref: Text


class PackRegistered(Payload):
    message_type = "PackRegistered"
    pack_id: Id
    pack_ref: Text
    version: Text
    runtime_names: Texts


class PackDeleted(Payload):
    message_type = "PackDeleted"
    pack_id: Id
    pack_ref: Text


class PackTestRequested(Payload):
    """A pack's tests are to be run. ``candidate_access_token`` is a secret."""

    message_type = "PackTestRequested"
    left_out_when_unset = frozenset({"candidate_access_token"})
    pack_install_id: Id
    pack_ref: Text
    pack_version: Text
    candidate_path: Text | None = None
    candidate_access_token: Secret | None = None
    trigger_reason: Text
    required_runtimes: Texts
    worker_selector: JsonData
    worker_tolerations: JsonData
    worker_affinity: JsonData


class _MetadataChanged(Payload):
    """Caches of the object are stale: it was created, updated or deleted (``operation``, free
    text)."""

    operation: Text
    updated_at: Timestamp


class ActionChanged(_MetadataChanged):
    message_type = "ActionChanged"
    action_id: Id
    action_ref: Text
    pack_ref: Text


class TriggerChanged(_MetadataChanged):
    message_type = "TriggerChanged"
    trigger_id: Id
    trigger_ref: Text
    pack_ref: Text | None = None


class RuntimeChanged(_MetadataChanged):
    message_type = "RuntimeChanged"
    runtime_id: Id
    runtime_ref: Text
    pack_ref: Text | None = None


class PackChanged(_MetadataChanged):
    message_type = "PackChanged"
    pack_id: Id
    pack_ref: Text


class PermissionSetChanged(_MetadataChanged):
    message_type = "PermissionSetChanged"
    permission_set_id: Id
    permission_set_ref: Text


class IdentityAuthorizationChanged(_MetadataChanged):
    message_type = "IdentityAuthorizationChanged"
    identity_id: Id


class WorkerRegistered(Payload):
    """A worker announces the runtimes that it has. The Rust services lack this message type."""

    message_type = "WorkerRegistered"
    worker_id: Id
    name: Text
    runtimes: Texts
    registered_at: Timestamp


PAYLOAD_TYPES: Final[PayloadTypes] = by_message_type(
    one
    for one in tuple(globals().values())
    if isinstance(one, type) and issubclass(one, Payload) and hasattr(one, "message_type")
)
"""Every class of this module, by message type."""
