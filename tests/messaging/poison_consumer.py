"""Processes of their own, one life after the other, each with three consumers of one queue. A
handler that meets execution 0 kills its process, as a defect in a C library would.

It says "died" for each life that ended so, and "handled <id>" for each other message. It ends
when a life is over by itself, because the dead letter is there.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from attune_mq import Consumer, Handlers, Message
from attune_mq.message import settlement
from attune_mq.payloads import ExecutionRequested
from tests.messaging.bench import DEAD, QUEUE, Bench, topology_of
from tests.waiting import wait_until

DEADLY = 0
LIMIT = 6
"""Returns, instead of MAX_REDELIVERIES: a life takes half a second or more."""


def live(url: str) -> None:
    handlers = Handlers()

    @handlers.on(ExecutionRequested)
    def handle(message: Message[Any]) -> None:
        if message.payload.execution_id == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        say(f"handled {message.payload.execution_id}")

    consumers = [
        Consumer(topology_of(), "worker", handlers, url, instance=instance, concurrency=2)
        for instance in ("a", "b", "c")
    ]
    for consumer in consumers:
        consumer.start()
    bench = Bench(url)
    wait_until(lambda: bench.depth(DEAD) > 0 and bench.depth(QUEUE) == 0, "it is given up")
    wait_until(lambda: not any(one.status.in_flight for one in consumers), "all is settled")
    for consumer in consumers:
        consumer.stop(5)
        consumer.join(5)


def say(text: str) -> None:
    """One write, which the end of the process does not tear."""
    os.write(sys.stdout.fileno(), f"{text}\n".encode())


def main(url: str) -> None:
    """The lives are forked from here, where no thread runs and no socket is open."""
    settlement.MAX_REDELIVERIES = LIMIT
    while True:
        life = os.fork()
        if life == 0:
            live(url)
            os._exit(0)
        _, status = os.waitpid(life, 0)
        if not os.WIFSIGNALED(status):
            return
        say("died")


if __name__ == "__main__":
    main(sys.argv[1])
