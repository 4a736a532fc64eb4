"""Programs that fork, as processes of their own: ``python -m tests.forking_programs NAME URL``.
Each process says a line of JSON."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from attune_mq.errors import AttuneError
from attune_mq.messaging.publisher import Publisher
from tests.messaging.bench import request, topology_of

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


def publish_in_forks(url: str) -> None:
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


def publish_by_multiprocessing(url: str) -> None:
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


def close_in_a_fork(url: str) -> None:
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


PROGRAMS = {
    one.__name__: one for one in (publish_in_forks, publish_by_multiprocessing, close_in_a_fork)
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](sys.argv[2])
