"""The services of the suite, as another team would write them, each a process of its own.

    python -m tests.faults.programs counter DATABASE_URL
    python -m tests.faults.programs worker DATABASE_URL WORKER_ID
    python -m tests.faults.programs notifier DATABASE_URL

The broker, the topology and the port of their health come from the environment.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from attune_mq import HealthServer, Message, PublishError, Reject, RetryLater, Service
from attune_mq.payloads import (
    ExecutionCompleted,
    ExecutionDispatch,
    ExecutionRequested,
    ExecutionStatus,
    NotificationCreated,
    WorkerRegistered,
)
from attune_mq.transactional import (
    DatabaseWatch,
    Inbox,
    Outbox,
    OutboxRelay,
    create_database_engine,
    run_in_transaction_with_retry,
)
from tests.faults.effects import have_effect, messages
from tests.faults.numbers import fails_at_first, is_given_up

DRAIN_S = 10.0
LEASE_S = 15.0
ANNOUNCE_S = 5.0
WORK_S = 0.01
"""So that a process can be told to stop, or be killed, in the middle of a handler."""


class Books:
    """The database of one process: a message has its effect once."""

    def __init__(self, url: str, service: Service, kind: str) -> None:
        self.service = service
        self.kind = kind
        self._engine = create_database_engine(url)
        self._inbox = Inbox(messages.inbox, scope=kind)
        self.outbox = Outbox(messages.outbox, source_service=service.name)
        self._relay = OutboxRelay(self._engine, self.outbox, service.publisher, lease_s=LEASE_S)
        self._watch = DatabaseWatch(self._engine, [messages.inbox, messages.outbox])
        service.add_background_task(self._relay)
        service.add_background_task(self._watch)

    def trouble(self) -> str | None:
        return self._watch.trouble or self._relay.trouble

    def once(
        self,
        message: Message[Any],
        number: int,
        further: Callable[[Connection], object] = lambda _tx: None,
    ) -> None:
        threading.Event().wait(WORK_S)

        def transaction() -> None:
            with self._engine.begin() as tx:
                if self._inbox.accept(tx, message.message_id, consumer=message.consumer_tag):
                    have_effect(tx, self.kind, number, str(os.getpid()))
                    further(tx)

        run_in_transaction_with_retry(transaction)
        self._watch.worked()
        self._relay.wake()


def counter(database_url: str) -> Books:
    service = Service("counter", instance=str(os.getpid()), wait_s=60)
    books = Books(database_url, service, "request")

    @service.on(ExecutionRequested)
    def count(message: Message[ExecutionRequested]) -> None:
        number = message.payload.execution_id
        if is_given_up(number):
            raise Reject(f"{number} is one of those that nobody takes")
        if fails_at_first(number) and message.attempt == 1:
            raise RetryLater("not yet", delay_s=0.2)
        books.once(message, number)

    return books


class Announcer:
    """Says now and then that a worker is there: an executor may be new."""

    def __init__(self, service: Service, worker_id: int) -> None:
        self._service = service
        self._worker_id = worker_id
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="announcer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        self._stopping.set()
        self._thread.join(deadline_s)

    def _run(self) -> None:
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            pause_s = ANNOUNCE_S
            registration = WorkerRegistered(
                worker_id=self._worker_id,
                name=f"worker-{self._worker_id}",
                runtimes=("shell",),
                registered_at=datetime.now(UTC),
            )
            with suppress(PublishError):  # said again soon
                self._service.publisher.publish(registration, timeout_s=ANNOUNCE_S)


def worker(database_url: str, worker_id: str) -> Books:
    number = int(worker_id)
    service = Service("worker", wait_s=60, family="worker", worker_id=number)
    books = Books(database_url, service, "action")
    service.add_background_task(Announcer(service, number))

    @service.on(ExecutionDispatch)
    def act(message: Message[ExecutionDispatch]) -> None:
        dispatch = message.payload
        done = ExecutionCompleted(
            execution_id=dispatch.execution_id,
            action_id=1,
            action_ref=dispatch.action_ref,
            status=ExecutionStatus.COMPLETED,
            result={"by": number},
            completed_at=datetime.now(UTC),
        )
        books.once(message, dispatch.config["event"]["n"], lambda tx: books.outbox.add(tx, done))

    return books


def notifier(database_url: str) -> Books:
    service = Service("notifier", instance=str(os.getpid()), wait_s=60)
    books = Books(database_url, service, "notification")

    @service.on(NotificationCreated)
    def note(message: Message[NotificationCreated]) -> None:
        books.once(message, int(message.payload.entity))

    return books


PROGRAMS: dict[str, Callable[..., Books]] = {
    "counter": counter,
    "worker": worker,
    "notifier": notifier,
}


def main(name: str, *arguments: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    books = PROGRAMS[name](*arguments)
    with HealthServer(books.service, port=int(os.environ["ATTUNE_HEALTH_PORT"])) as health:
        health.watch("database", books.trouble)
        books.service.run(deadline_s=DRAIN_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
