"""What the messages say: one frozen class for each message type. See :class:`Payload`.

``Id``, ``Text``, ``Timestamp`` and the other kinds of fields are for the payloads of messages of
your own.
"""

from __future__ import annotations

from attune_mq.message.fields import (
    Flag as Flag,
    Id as Id,
    JsonData as JsonData,
    Secret as Secret,
    Text as Text,
    Texts as Texts,
    Timestamp as Timestamp,
)
from attune_mq.message.payloads import (
    PAYLOAD_TYPES as PAYLOAD_TYPES,
    ActionChanged as ActionChanged,
    EnforcementCreated as EnforcementCreated,
    EnforcementStatus as EnforcementStatus,
    EventCreated as EventCreated,
    ExecutionCancelRequested as ExecutionCancelRequested,
    ExecutionCompleted as ExecutionCompleted,
    ExecutionDispatch as ExecutionDispatch,
    ExecutionRequested as ExecutionRequested,
    ExecutionStatus as ExecutionStatus,
    ExecutionStatusChanged as ExecutionStatusChanged,
    IdentityAuthorizationChanged as IdentityAuthorizationChanged,
    InquiryCreated as InquiryCreated,
    InquiryResponded as InquiryResponded,
    InquiryStatus as InquiryStatus,
    NotificationCreated as NotificationCreated,
    PackChanged as PackChanged,
    PackDeleted as PackDeleted,
    PackRegistered as PackRegistered,
    PackTestRequested as PackTestRequested,
    Payload as Payload,
    PermissionSetChanged as PermissionSetChanged,
    RuleCreated as RuleCreated,
    RuleDeleted as RuleDeleted,
    RuleDisabled as RuleDisabled,
    RuleEnabled as RuleEnabled,
    RuntimeChanged as RuntimeChanged,
    TriggerChanged as TriggerChanged,
    WorkerRegistered as WorkerRegistered,
)
