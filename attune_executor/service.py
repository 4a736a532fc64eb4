"""The executor as a whole: composition, start, drain."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

from sqlalchemy import Engine

from attune_executor.enforcement import EnforcementProcessor
from attune_executor.ledger import Ledger
from attune_executor.manager import ExecutionManager
from attune_executor.migrations import migrate
from attune_executor.presence import WorkerQueues
from attune_executor.rules import load_rules
from attune_executor.scheduler import ExecutionScheduler
from attune_executor.settings import ExecutorSettings
from attune_mq import QueueInspector, Service
from attune_mq.transactional import create_database_engine

logger = logging.getLogger(__name__)

NAME = "executor"


class Executor:
    """Three components on one topology. Each of the service's consumers can reach all of them, so
    which queue a message comes by is the topology's to say.

    Several executors run side by side on one broker and one database.
    """

    def __init__(self, settings: ExecutorSettings) -> None:
        self.settings = settings
        rules = load_rules(settings.rules)
        self.engine: Engine = create_database_engine(settings.database_url.get_secret_value())
        url = settings.url.get_secret_value() if settings.url else None
        self.service = Service(
            NAME,
            settings.topology,
            url,
            instance=settings.instance,
            wait_s=settings.broker_wait_s,
        )
        self._inspector = QueueInspector(self.service.settings)
        workers = WorkerQueues(self.service.whole, self._inspector)
        ledger = Ledger(self.engine, self.service.publisher, service=NAME)
        for component in (
            EnforcementProcessor(ledger, rules),
            ExecutionScheduler(
                ledger,
                rules,
                workers,
                attempts=settings.scheduling_attempts,
                delay_s=settings.scheduling_delay_s,
            ),
            ExecutionManager(ledger, workers),
        ):
            component.register(self.service)
        self.service.run_beside(ledger.relay)
        self.service.run_beside(Housekeeping(ledger, timedelta(days=settings.inbox_keep_days)))

    def run(self) -> None:
        """Until SIGTERM or SIGINT; then what runs may finish, and what it says is published."""
        migrate(self.engine)
        try:
            self.service.run(deadline_s=self.settings.drain_s)
        finally:
            self._close()

    def start(self) -> None:
        """In threads of this process, for tests and for programs that hold an executor."""
        migrate(self.engine)
        self.service.start()

    def stop(self) -> None:
        self.service.stop(self.settings.drain_s)
        self._close()

    def _close(self) -> None:
        self._inspector.close()
        self.engine.dispose()


class Housekeeping:
    """Forgets, every hour, the ids of messages that can no longer come again."""

    INTERVAL_S = 3_600.0

    def __init__(self, ledger: Ledger, keep: timedelta) -> None:
        self._ledger = ledger
        self._keep = keep
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        self._stopping.set()
        self._thread.join(deadline_s)

    def _run(self) -> None:
        while not self._stopping.wait(self.INTERVAL_S):
            try:
                self._ledger.forget(self._keep)
            except Exception:  # it is tried again in an hour; the executor goes on
                logger.exception("Old message ids could not be forgotten")
