"""The words for the states of executions, enforcements and inquiries."""

from __future__ import annotations

from enum import StrEnum
from typing import Self


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
    """Where an execution is. The last five are final, and ``canceling`` leads to ``cancelled``."""

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
    """Where an enforcement is."""

    CREATED = "created"
    PROCESSED = "processed"
    DISABLED = "disabled"


class InquiryStatus(Status):
    """Where an inquiry is."""

    PENDING = "pending"
    RESPONDED = "responded"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
