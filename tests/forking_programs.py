"""Programs that fork: ``python -m tests.forking_programs NAME URL FOLDER``. Each of the processes
says a line of JSON."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy import MetaData

from attune_mq import (
    AttuneError,
    BrokerSettings,
    Consumer,
    Handlers,
    HealthServer,
    Message,
    Publisher,
    Service,
)
from attune_mq.broker import EmbeddedBroker, QueueInspector
from attune_mq.health.topology_watch import TopologyWatch
from attune_mq.payloads import ExecutionRequested
from attune_mq.transactional import Outbox, OutboxRelay, create_database_engine, define_tables
from tests.messaging.bench import QUEUE, request, topology_of
from tests.waiting import wait_until

CHILDREN = 3
MESSAGES = 20


def say(**what: Any) -> None:
    os.write(1, json.dumps({"pid": os.getpid(), **what}).encode() + b"\n")


def publish(publisher: Publisher, first: int) -> None:
    """Says which messages got a receipt, and what the others raised."""
    receipts, errors = [], []
    for number in range(first, first + MESSAGES):
        try:
            receipts.append(publisher.publish(request(number), timeout_s=20).message_id)
        except AttuneError as error:
            errors.append(f"{type(error).__name__}: {error}")
    say(receipts=receipts, errors=errors)


def fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    finally:
        os._exit(0)


def publish_in_forks(url: str, _folder: str) -> None:
    """While other threads are in the midst of a call, whose locks the children find taken."""
    publisher = Publisher(topology_of(), url)
    publish(publisher, 0)
    over = threading.Event()

    def keep_publishing() -> None:
        while not over.is_set():
            publish(publisher, 1_000)

    others = [threading.Thread(target=keep_publishing) for _ in range(2)]
    for other in others:
        other.start()
    children = [
        fork(lambda number=number: publish(publisher, number * 100))  # type: ignore[misc]
        for number in range(1, 1 + CHILDREN)
    ]
    publish(publisher, 5_000)
    over.set()
    for other in others:
        other.join()
    for child in children:
        os.waitpid(child, 0)
    publish(publisher, 6_000)
    say(connections=publisher.connections, unexpected=publisher.unexpected_confirms)
    publisher.close()


def publish_by_multiprocessing(url: str, _folder: str) -> None:
    publisher = Publisher(topology_of(), url)
    publish(publisher, 0)
    context = multiprocessing.get_context("fork")
    children = [
        context.Process(target=publish, args=(publisher, number * 100))
        for number in range(1, 1 + CHILDREN)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    publish(publisher, 5_000)
    publisher.close()


def close_in_a_fork(url: str, _folder: str) -> None:
    """``with Publisher(...)`` is left by the child as well."""
    with Publisher(topology_of(), url) as publisher:
        publish(publisher, 0)
        pid = os.fork()
        if not pid:
            publisher.close()
            say(closed=True)
            os._exit(0)
        os.waitpid(pid, 0)
        publish(publisher, 100)
        say(connections=publisher.connections)


def error_of(call: Callable[[], object]) -> str | None:
    try:
        call()
    except AttuneError as error:
        return type(error).__name__
    return None


def started(url: str, folder: str) -> dict[str, Any]:
    """One of everything that runs, by its name."""
    handlers = Handlers()
    handlers.on(ExecutionRequested)(lambda message: None)
    consumer = Consumer(topology_of(), "worker", handlers, url, instance="a")
    consumer.start()
    service = Service("tests", topology_of(), url, instance="b")
    service.on(ExecutionRequested)(lambda message: None)
    service.start()
    health = HealthServer(service, port=0)
    health.start()
    engine = create_database_engine(f"sqlite:///{folder}/outbox.db")
    metadata = MetaData()
    outbox = Outbox(define_tables(metadata).outbox)
    metadata.create_all(engine)
    relay = OutboxRelay(engine, outbox, service.publisher)
    relay.start()
    watch = TopologyWatch(topology_of(), BrokerSettings.of(url), "tests")
    watch.start()
    wait_until(lambda: watch.trouble is None, "the topology is verified")
    return {
        "consumer": consumer,
        "service": service,
        "health": health,
        "relay": relay,
        "watch": watch,
    }


def use_what_the_parent_started(url: str, folder: str) -> None:
    parts = started(url, folder)
    consumer, service = parts["consumer"], parts["service"]
    inspector = QueueInspector(url)
    wait_until(lambda: inspector.consumer_count(QUEUE) == 2, "both consume")

    def in_child() -> None:
        errors = {name: error_of(one.start) for name, one in parts.items()}
        states = [consumer.status.state, *(one.state for one in service.consumers)]
        for one in parts.values():
            one.stop(0.0)
        consumers = inspector.consumer_count(QUEUE)
        receipt = service.publisher.publish(request(1), timeout_s=20)
        say(
            errors=errors,
            states=states,
            consumers=consumers,
            receipt=receipt.message_id,
            verified=parts["watch"].trouble is None,
        )

    child = fork(in_child)
    os.waitpid(child, 0)
    states = [consumer.status.state, *(one.state for one in service.consumers)]
    say(states=states, consumers=inspector.consumer_count(QUEUE), phase=service.phase)
    for name in ("watch", "health", "relay", "service", "consumer"):
        parts[name].stop(1.0)
    consumer.join()


def consume_in_forks(url: str, _folder: str) -> None:
    """What was not started yet can be started in each, under the tag of the parent's."""
    handlers = Handlers()
    handlers.on(ExecutionRequested)(lambda message: None)

    def consumer() -> Consumer:
        return Consumer(topology_of(), "worker", handlers, url)

    first, not_started = consumer(), consumer()
    first.start()
    inspector = QueueInspector(url)
    wait_until(lambda: inspector.consumer_count(QUEUE) == 1, "the parent's consumes")

    def in_child() -> None:
        not_started.start()
        wait_until(lambda: not_started.status.state == "consuming", "the child's consumes")
        wait_until(lambda: inspector.consumer_count(QUEUE) == 2, "the broker counts both")
        not_started.stop(1)
        say(ended=not_started.join(20))

    os.waitpid(fork(in_child), 0)
    first.stop(1)
    say(ended=first.join(20))


def leave_a_child_behind(url: str, _folder: str) -> None:
    """It lives on when its parent is killed, which holds a message."""
    taken = threading.Event()

    def take(_message: Message[ExecutionRequested]) -> None:
        taken.set()
        threading.Event().wait()

    handlers = Handlers()
    handlers.on(ExecutionRequested)(take)
    Consumer(topology_of(), "worker", handlers, url).start()
    taken.wait()
    child = fork(lambda: threading.Event().wait())  # type: ignore[arg-type]
    say(child=child)
    os.kill(os.getpid(), signal.SIGKILL)


def use_a_node_of_the_parent(_url: str, _folder: str) -> None:
    with EmbeddedBroker() as broker:

        def in_child() -> None:
            say(error=error_of(broker.kill))
            broker.stop()

        os.waitpid(fork(in_child), 0)
        say(running=broker.running)


PROGRAMS = {
    one.__name__: one
    for one in (
        publish_in_forks,
        publish_by_multiprocessing,
        close_in_a_fork,
        use_what_the_parent_started,
        consume_in_forks,
        leave_a_child_behind,
        use_a_node_of_the_parent,
    )
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
