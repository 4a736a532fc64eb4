"""The two systems that the suite knows: consumers of the library with an inbox, and executors with
workers and a notifier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine, select

from attune_executor import tables
from attune_executor.migrations import migrate
from attune_mq import Envelope, Payload, Publisher, Topology, expand, load_topology
from attune_mq.broker import EmbeddedBroker
from attune_mq.payloads import EnforcementCreated, ExecutionRequested, ExecutionStatus
from attune_mq.transactional import create_database_engine, reading
from tests.executor.harness import RULES
from tests.faults import effects
from tests.faults.accounts import Account
from tests.faults.members import ROOT, Member
from tests.faults.numbers import is_given_up
from tests.faults.publishing import NumberedPublisher
from tests.faults.scene import Scene
from tests.faults.stores import Stores
from tests.messaging.proxy import Proxy

SHIPPED = ROOT / "topology.yaml"
SETTINGS = {"ATTUNE_MQ_HEARTBEAT_S": "4", "ATTUNE_MQ_CONNECT_TIMEOUT_S": "4"}
"""So that a frozen peer is found out within the time that a fault lasts."""

COUNTING = """
version: 1
dead_letter: {exchange: dlx, ttl: 24h}
exchanges:
  work: {name: work, type: direct}
  dlx: {name: dlx, type: fanout}
queues:
  work: %s
bindings:
  - {source: work, destination: work, routing_key: requested}
messages:
  ExecutionRequested: {exchange: work, routing_key: requested, publishers: [tests]}
consumers:
  counter: {service: counter, queue: work, prefetch: 10, concurrency: 3}
"""
QUEUES = {
    "classic": "{name: work.queue}",
    "classic with retry queues": "{name: work.queue, retry: {backoff: [200ms]}}",
    "quorum": "{name: work.queue, type: quorum, delivery_limit: 100}",
}


class Build(Protocol):
    """Makes a scene on a broker and databases, in a folder for its files and logs."""

    def __call__(
        self, broker: EmbeddedBroker, stores: Stores, folder: Path, /
    ) -> AbstractContextManager[Scene]: ...


@contextmanager
def counting(
    broker: EmbeddedBroker, stores: Stores, folder: Path, *, queue: str, last: int | None = None
) -> Iterator[Scene]:
    """Three consumers of the library, each with an inbox, competing on one ``queue`` of these."""
    file = folder / "topology.yaml"
    file.write_text(COUNTING % QUEUES[queue])
    topology = load_topology(file)

    def accounts(confirmed: frozenset[int], dead: dict[int, str]) -> list[Account]:
        given_up = frozenset(filter(is_given_up, confirmed))
        counted = effects.counted(engine, "request")
        return [Account("messages", confirmed - given_up, given_up, counted, dead)]

    with ExitStack() as stack:
        cast = Cast(stack, broker, stores, folder, file)
        for name in ("counter-a", "counter-b", "counter-c"):
            cast.program(name, "counter", consumers=1)
        engine = cast.engine
        yield cast.scene(
            topology,
            _request,
            last=last,
            ingresses=["work.queue"],
            dead_letter_queue="work.queue.dlq",
            kind="request",
            number_of=lambda payload: int(payload["execution_id"]),
            accounts_of=accounts,
        )


@contextmanager
def executing(
    broker: EmbeddedBroker, stores: Stores, folder: Path, *, last: int | None = None
) -> Iterator[Scene]:
    """Two executors on one database, two workers and a notifier, on the shipped topology."""
    topology = load_topology(SHIPPED)

    def accounts(confirmed: frozenset[int], dead: dict[int, str]) -> list[Account]:
        given_up = frozenset(filter(is_given_up, confirmed))
        completed = _completed(executor_engine)
        ended = frozenset(completed.values())
        told = effects.counted(engine, "notification")
        return [
            Account(
                "enforcements", confirmed - given_up, given_up, Counter(completed.keys()), dead
            ),
            Account(
                "actions", confirmed - given_up, frozenset(), effects.counted(engine, "action")
            ),
            Account("notifications", ended, frozenset(), told),
        ]

    with ExitStack() as stack:
        cast = Cast(stack, broker, stores, folder, SHIPPED)
        engine = cast.engine
        executor_engine = stack.enter_context(_disposed(stores.url("executor")))
        migrate(executor_engine)
        (folder / "rules.yaml").write_text(RULES)
        for name in ("executor-a", "executor-b"):
            cast.executor(name)
        for number in ("1", "2"):
            cast.program(f"worker-{number}", "worker", number, consumers=1)
        cast.program("notifier", "notifier", consumers=1)
        yield cast.scene(
            topology,
            _enforcement,
            last=last,
            ingresses=["attune.executions.queue", "worker.1.executions", "worker.2.executions"],
            dead_letter_queue=expand(topology).queues["executions.dlq"].name,
            kind="notification",
            number_of=lambda payload: int(payload["enforcement_id"]),
            accounts_of=accounts,
        )


class Cast:
    """Who takes part in a scene: puts it together, and takes it apart by ``stack``."""

    def __init__(
        self, stack: ExitStack, broker: EmbeddedBroker, stores: Stores, folder: Path, topology: Path
    ) -> None:
        self._stack = stack
        self._broker = broker
        self._stores = stores
        self._folder = folder
        self._topology = topology
        self.url = stack.enter_context(broker.fresh_vhost())
        self.engine = stack.enter_context(_disposed(stores.url("effects")))
        effects.metadata.create_all(self.engine)
        self._members: list[Member] = []

    def program(self, name: str, program: str, *arguments: str, consumers: int) -> None:
        database = self._stores.url("effects")
        self._member(
            name, "tests.faults.programs", program, database, *arguments, consumers=consumers
        )

    def executor(self, name: str) -> None:
        arguments = ("run", "--instance", name, "--rules", str(self._folder / "rules.yaml"))
        database = ("--database-url", self._stores.url("executor"))
        self._member(name, "attune_executor", *arguments, *database, consumers=3)

    def scene(
        self,
        topology: Topology,
        message_of: Callable[[int], Payload],
        *,
        last: int | None,
        **more: Any,
    ) -> Scene:
        """Everybody is there and consumes, and the publisher publishes."""
        for member in self._members:
            member.start()
        for member in self._members:
            member.wait_until_consuming()
        proxy = Proxy(self.url)
        self._stack.callback(proxy.close)
        publisher = self._stack.enter_context(
            Publisher(topology, proxy.url, source_service="tests")
        )
        numbered = NumberedPublisher(
            publisher, lambda number: Envelope.of(message_of(number)), last=last
        )
        scene = Scene(
            self._broker,
            self.url,
            self._stores,
            self._members,
            publisher=numbered,
            proxy=proxy,
            engine=self.engine,
            **more,
        )
        numbered.start(scene.has_room)
        return scene

    def _member(self, name: str, module: str, *arguments: str, consumers: int) -> None:
        member = Member(
            name,
            ["-m", module, *arguments],
            broker_url=self.url,
            folder=self._folder,
            environment={**SETTINGS, "ATTUNE_MQ_TOPOLOGY": str(self._topology)},
            consumers=consumers,
        )
        self._stack.callback(member.close)
        self._members.append(member)


def _request(number: int) -> ExecutionRequested:
    return ExecutionRequested(execution_id=number, action_ref="core.echo")


def _enforcement(number: int) -> EnforcementCreated:
    return EnforcementCreated(
        enforcement_id=number,
        rule_ref="demo.unknown" if is_given_up(number) else "demo.greet",
        trigger_ref="demo.tick",
        payload={"n": number},
    )


def _completed(engine: Engine) -> dict[int, int]:
    """The execution of each enforcement that has one which is completed."""
    columns = tables.executions.c
    completed = select(columns.enforcement_id, columns.id).where(
        columns.status == ExecutionStatus.COMPLETED
    )
    with reading(engine) as tx:
        return {row[0]: row[1] for row in tx.execute(completed)}


@contextmanager
def _disposed(url: str) -> Iterator[Engine]:
    engine = create_database_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()
