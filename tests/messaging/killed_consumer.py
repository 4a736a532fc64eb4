"""A process of its own that consumes, says on standard output that its handler was called, and is
killed there by the test that started it."""

from __future__ import annotations

import sys
import threading
from typing import Any

from attune_mq import Consumer, Handlers, Message
from attune_mq.payloads import ExecutionRequested
from tests.messaging.bench import topology_of
from tests.waiting import wait_until


def main(url: str) -> None:
    handlers = Handlers()

    @handlers.on(ExecutionRequested)
    def handle(message: Message[Any]) -> None:
        # The original of a copy is acknowledged by now; otherwise both would be there again.
        wait_until(lambda: consumer.status.in_flight == 1, "nothing else is unsettled")
        print(f"attempt {message.attempt}", flush=True)  # noqa: T201 - what the test waits for
        threading.Event().wait()

    consumer = Consumer(topology_of(), "worker", handlers, url, instance="dying")
    consumer.run()


if __name__ == "__main__":
    main(sys.argv[1])
