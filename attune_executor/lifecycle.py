"""The states of an execution, and its transitions. Pure: no database, no clock.

``requested`` → ``scheduling`` → ``scheduled`` → ``running`` → (``canceling``) → one of the final
states. Messages arrive late, twice and out of order, so a state may be skipped (``completed``
before ``running`` was heard of), but an execution never goes back, and a final state is final.
One exception: from ``scheduled`` to ``requested``, when no worker can get its dispatch any more.
"""

from __future__ import annotations

from attune_mq.payloads import ExecutionStatus

_ON_THE_WAY = (
    ExecutionStatus.REQUESTED,
    ExecutionStatus.SCHEDULING,
    ExecutionStatus.SCHEDULED,
    ExecutionStatus.RUNNING,
    ExecutionStatus.CANCELING,
)

#: The states that nothing follows.
FINAL = frozenset(ExecutionStatus) - frozenset(_ON_THE_WAY)

#: The states in which an execution waits for the executor to choose a worker.
UNSCHEDULED = frozenset({ExecutionStatus.REQUESTED, ExecutionStatus.SCHEDULING})

#: The states in which a cancellation is for the worker to carry out: a dispatch is out.
DISPATCHED = frozenset({ExecutionStatus.SCHEDULED, ExecutionStatus.RUNNING})

#: The states in which an execution is a worker's to do: what a worker's load is made of.
WITH_WORKER = frozenset(_ON_THE_WAY) - UNSCHEDULED


def predecessors(new: ExecutionStatus) -> frozenset[ExecutionStatus]:
    """The states from which an execution may go to ``new``."""
    if new in FINAL:
        return frozenset(_ON_THE_WAY)
    return frozenset(_ON_THE_WAY[: _ON_THE_WAY.index(new)])
