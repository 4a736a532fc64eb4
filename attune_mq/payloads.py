"""What the messages say: one frozen class for each message type. See :class:`Payload`."""

from __future__ import annotations

from attune_mq.messaging.payloads import (
    PAYLOAD_TYPES as PAYLOAD_TYPES,
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
    WorkerRegistered as WorkerRegistered,
)
from attune_mq.messaging.payloads import (
    _MetadataChanged as _MetadataChanged,
)
