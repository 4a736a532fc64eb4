"""An executor at work for a test: a real broker, a real database, a worker that does as told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from attune_executor import store
from attune_executor.service import Executor
from attune_executor.settings import ExecutorSettings
from attune_mq import (
    BrokerUnavailable,
    Envelope,
    Message,
    NotConfirmed,
    Publisher,
    Service,
    Telemetry,
    Topology,
    expand,
)
from attune_mq.payloads import (
    EnforcementCreated,
    ExecutionCancelRequested,
    ExecutionCompleted,
    ExecutionDispatch,
    ExecutionStatus,
    ExecutionStatusChanged,
    NotificationCreated,
    Payload,
    WorkerRegistered,
)
from attune_mq.transactional import reading
from tests import secret_canaries
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "topology.yaml"

RULES = """\
version: 1
actions:
  core.echo: {id: 1, runtime: shell}
rules:
  demo.greet: {action: core.echo, config: {message: hello}}
  demo.off: {action: core.echo, enabled: false}
"""


def settings_for(
    folder: Path, url: str, topology: Path, database_url: str | None = None, **more: Any
) -> ExecutorSettings:
    """On an SQLite file in ``folder`` unless another database is given."""
    rules = folder / "rules.yaml"
    rules.write_text(RULES)
    return ExecutorSettings(
        url=SecretStr(url),
        topology=topology,
        rules=rules,
        database_url=SecretStr(database_url or f"sqlite:///{folder / 'attune.db'}"),
        scheduling_delay_s=0.1,
        **{"health_port": 0, "dispatch_grace_s": 1.0, **more},
    )


def eventually(holds: Callable[[], bool], within_s: float = 30.0) -> None:
    """Polls, since the database tells nobody that it changed."""
    wait_until(holds, "it is as expected", deadline_s=within_s)


def enforcement(number: int, rule: str = "demo.greet") -> EnforcementCreated:
    return EnforcementCreated(
        enforcement_id=number,
        rule_ref=rule,
        trigger_ref="demo.tick",
        payload={"n": number, "token": secret_canaries.PAYLOAD},
    )


def running_report(dispatch: ExecutionDispatch) -> ExecutionStatusChanged:
    return ExecutionStatusChanged(
        execution_id=dispatch.execution_id,
        action_ref=dispatch.action_ref,
        previous_status=ExecutionStatus.SCHEDULED,
        new_status=ExecutionStatus.RUNNING,
        changed_at=datetime.now(UTC),
    )


def report(service: Service, payload: Payload) -> None:
    """Until it is confirmed, although connections are cut."""
    envelope = Envelope.of(payload, source_service="worker")

    def is_confirmed() -> bool:
        try:
            service.publisher.publish(envelope)
        except (BrokerUnavailable, NotConfirmed):
            return False
        return True

    eventually(is_confirmed)


class Seen:
    """What happened so far; :meth:`until` waits for what is to happen."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.notifications: list[NotificationCreated] = []
        self.dispatches: list[ExecutionDispatch] = []
        self.cancels: list[ExecutionCancelRequested] = []

    def note(self, kind: list[Any], payload: Any) -> None:
        with self._changed:
            kind.append(payload)
            self._changed.notify_all()

    def until(self, holds: Callable[[], bool], within_s: float = 30.0) -> None:
        with self._changed:
            assert self._changed.wait_for(holds, within_s), vars(self)


@dataclass
class Harness:
    executor: Executor
    url: str
    seen: Seen = field(default_factory=Seen)
    telemetry: Telemetry | None = None
    """Of the services beside the executor."""

    @property
    def topology(self) -> Topology:
        return self.executor.service.full_topology

    def executions(self) -> dict[str, int]:
        with reading(self.executor.engine) as tx:
            return {status.value: n for status, n in store.execution_counts(tx).items()}

    def enforcements(self) -> dict[str, int]:
        with reading(self.executor.engine) as tx:
            return {status.value: n for status, n in store.enforcement_counts(tx).items()}

    @contextmanager
    def publisher(self) -> Iterator[Publisher]:
        with Publisher(
            self.topology, self.url, source_service="test", telemetry=self.telemetry
        ) as publisher:
            yield publisher

    @contextmanager
    def notifier(self) -> Iterator[None]:
        service = Service("notifier", self.topology, self.url, telemetry=self.telemetry)

        @service.on(NotificationCreated)
        def tell(message: Message[NotificationCreated]) -> None:
            self.seen.note(self.seen.notifications, message.payload)

        service.start()
        yield
        service.stop(5)

    @contextmanager
    def worker(
        self,
        worker_id: int = 1,
        *,
        work: Callable[[ExecutionDispatch], ExecutionStatus] = lambda _: ExecutionStatus.COMPLETED,
        reports_running: bool = False,
        url: str | None = None,
    ) -> Iterator[Service]:
        """``url``: another way to the broker, such as a proxy."""
        service = Service(
            "worker",
            self.topology,
            url or self.url,
            family="worker",
            worker_id=worker_id,
            telemetry=self.telemetry,
        )

        @service.on(ExecutionDispatch)
        def run(message: Message[ExecutionDispatch]) -> None:
            dispatch = message.payload
            self.seen.note(self.seen.dispatches, dispatch)
            if reports_running:
                report(service, running_report(dispatch))
            report(
                service,
                ExecutionCompleted(
                    execution_id=dispatch.execution_id,
                    action_id=1,
                    action_ref=dispatch.action_ref,
                    status=work(dispatch),
                    result={"by": worker_id},
                    completed_at=datetime.now(UTC),
                ),
            )

        @service.on(ExecutionCancelRequested)
        def cancel(message: Message[ExecutionCancelRequested]) -> None:
            self.seen.note(self.seen.cancels, message.payload)

        service.start()
        service.publisher.publish(
            WorkerRegistered(
                worker_id=worker_id, name="w", runtimes=("shell",), registered_at=datetime.now(UTC)
            )
        )
        yield service
        service.stop(5)


@contextmanager
def running(settings: ExecutorSettings) -> Iterator[Harness]:
    assert settings.url is not None
    executor = Executor(settings)
    executor.start()
    try:
        yield Harness(executor, settings.url.get_secret_value())
    finally:
        executor.stop()


def dead_letter_queue(topology: Topology, key: str) -> str:
    return expand(topology).queues[f"{key}.dlq"].name


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        return int(listening.getsockname()[1])


def ready(harness: Harness) -> bool:
    assert harness.executor.health is not None
    return harness.executor.health.monitor.ready().is_good


def is_red(harness: Harness, check: str) -> bool:
    assert harness.executor.health is not None
    return check in [one.check for one in harness.executor.health.monitor.ready().troubles]
