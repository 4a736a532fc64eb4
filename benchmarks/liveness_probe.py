"""What asking the broker twice a second whether it answers costs an idle consumer: processor time.

``python -m benchmarks.liveness_probe`` starts a private node and takes a minute.
"""

from __future__ import annotations

import logging
import time
from unittest import mock

from attune_mq import Consumer, Handlers, Topology, parse_topology
from attune_mq.broker import EmbeddedBroker
from attune_mq.consuming.registration import Registration

ROUNDS = 3
MEASURED_S = 10.0
TOPOLOGY = """
version: 1
queues: {work: {name: work}}
consumers: {worker: {service: bench, queue: work}}
"""


def main() -> None:
    logging.disable(logging.CRITICAL)
    topology = parse_topology(TOPOLOGY, file="bench.yaml", environment={})
    with EmbeddedBroker() as broker:
        for _ in range(ROUNDS):
            asking = milliseconds_a_second(topology, broker.url)
            with mock.patch.object(Registration, "tick"):
                silent = milliseconds_a_second(topology, broker.url)
            print(f"processor time a second: {asking:.2f} ms asking, {silent:.2f} ms without")


def milliseconds_a_second(topology: Topology, url: str) -> float:
    consumer = Consumer(topology, "worker", Handlers(), url)
    consumer.start()
    while consumer.status.state != "consuming":
        time.sleep(0.05)
    began_s = time.process_time()
    time.sleep(MEASURED_S)
    spent_s = time.process_time() - began_s
    consumer.stop(1)
    consumer.join()
    return 1000 * spent_s / MEASURED_S


if __name__ == "__main__":
    main()
