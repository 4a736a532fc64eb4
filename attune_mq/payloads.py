"""What the messages say: one frozen class for each message type. See :class:`Payload`.

``Id``, ``Text``, ``Timestamp`` and the other kinds of fields are for the payloads of messages of
your own.
"""

from __future__ import annotations

from attune_mq.messaging.fields import (
    Flag as Flag,
)
from attune_mq.messaging.fields import (
    Id as Id,
)
from attune_mq.messaging.fields import (
    JsonData as JsonData,
)
from attune_mq.messaging.fields import (
    Secret as Secret,
)
from attune_mq.messaging.fields import (
    Text as Text,
)
from attune_mq.messaging.fields import (
    Texts as Texts,
)
from attune_mq.messaging.fields import (
    Timestamp as Timestamp,
)
from attune_mq.messaging.payloads import (
    PAYLOAD_TYPES as PAYLOAD_TYPES,
)
from attune_mq.messaging.payloads import (
    ActionChanged as ActionChanged,
)
from attune_mq.messaging.payloads import (
    EnforcementCreated as EnforcementCreated,
)
from attune_mq.messaging.payloads import (
    EnforcementStatus as EnforcementStatus,
)
from attune_mq.messaging.payloads import (
    EventCreated as EventCreated,
)
from attune_mq.messaging.payloads import (
    ExecutionCancelRequested as ExecutionCancelRequested,
)
from attune_mq.messaging.payloads import (
    ExecutionCompleted as ExecutionCompleted,
)
from attune_mq.messaging.payloads import (
    ExecutionDispatch as ExecutionDispatch,
)
from attune_mq.messaging.payloads import (
    ExecutionRequested as ExecutionRequested,
)
from attune_mq.messaging.payloads import (
    ExecutionStatus as ExecutionStatus,
)
from attune_mq.messaging.payloads import (
    ExecutionStatusChanged as ExecutionStatusChanged,
)
from attune_mq.messaging.payloads import (
    IdentityAuthorizationChanged as IdentityAuthorizationChanged,
)
from attune_mq.messaging.payloads import (
    InquiryCreated as InquiryCreated,
)
from attune_mq.messaging.payloads import (
    InquiryResponded as InquiryResponded,
)
from attune_mq.messaging.payloads import (
    InquiryStatus as InquiryStatus,
)
from attune_mq.messaging.payloads import (
    NotificationCreated as NotificationCreated,
)
from attune_mq.messaging.payloads import (
    PackChanged as PackChanged,
)
from attune_mq.messaging.payloads import (
    PackDeleted as PackDeleted,
)
from attune_mq.messaging.payloads import (
    PackRegistered as PackRegistered,
)
from attune_mq.messaging.payloads import (
    PackTestRequested as PackTestRequested,
)
from attune_mq.messaging.payloads import (
    Payload as Payload,
)
from attune_mq.messaging.payloads import (
    PermissionSetChanged as PermissionSetChanged,
)
from attune_mq.messaging.payloads import (
    RuleCreated as RuleCreated,
)
from attune_mq.messaging.payloads import (
    RuleDeleted as RuleDeleted,
)
from attune_mq.messaging.payloads import (
    RuleDisabled as RuleDisabled,
)
from attune_mq.messaging.payloads import (
    RuleEnabled as RuleEnabled,
)
from attune_mq.messaging.payloads import (
    RuntimeChanged as RuntimeChanged,
)
from attune_mq.messaging.payloads import (
    TriggerChanged as TriggerChanged,
)
from attune_mq.messaging.payloads import (
    WorkerRegistered as WorkerRegistered,
)
