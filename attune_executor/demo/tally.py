"""What the demonstration counts: in the database, in the queues, in what the notifier printed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Engine

from attune_executor import store
from attune_executor.demo.processes import Processes
from attune_executor.lifecycle import FINAL
from attune_executor.tables import messages
from attune_mq import BrokerSettings, QueueInspector, Topology
from attune_mq.payloads import ExecutionStatus
from attune_mq.transactional import Inbox, reading


@dataclass(frozen=True)
class Tally:
    """One look at the whole."""

    enforcements: int = 0
    executions: dict[str, int] = field(default_factory=dict)
    """By status."""
    notifications: int = 0
    dead_letters: int = 0
    by_consumer: dict[str, int] = field(default_factory=dict)

    @property
    def completed(self) -> int:
        return self.executions.get(ExecutionStatus.COMPLETED, 0)

    @property
    def finished(self) -> int:
        return sum(self.executions.get(status, 0) for status in FINAL)

    @property
    def messages_handled(self) -> int:
        return sum(self.by_consumer.values())

    @property
    def failed(self) -> int:
        """All that ended otherwise than well: failed, timed out."""
        return self.finished - self.completed

    def as_json(self, seconds: float) -> dict[str, Any]:
        counted = asdict(self)
        counted["executions"] = {"completed": self.completed, "failed": self.failed}
        return {**counted, "seconds": round(seconds, 1)}


class Counter:
    """Looks at everything, now."""

    def __init__(
        self, engine: Engine, topology: Topology, settings: BrokerSettings, processes: Processes
    ) -> None:
        self._engine = engine
        self._inbox = Inbox(messages.inbox)
        self._inspector = QueueInspector(settings)
        self._dead_letter_queues = [
            queue.name for queue in topology.queues.values() if queue.purpose == "dead_letter"
        ]
        self._processes = processes

    def count(self) -> Tally:
        with reading(self._engine) as tx:
            executions = {status.value: n for status, n in store.execution_counts(tx).items()}
            enforcements = sum(store.enforcement_counts(tx).values())
            by_consumer = dict(self._inbox.counts_by_consumer(tx))
        return Tally(
            enforcements=enforcements,
            executions=executions,
            notifications=self._processes.lines("notifier"),
            dead_letters=sum(
                self._inspector.message_count(name) or 0 for name in self._dead_letter_queues
            ),
            by_consumer=by_consumer,
        )

    def close(self) -> None:
        self._inspector.close()
