"""How many dispatches are lost when the broker is killed while they expire.

python -m tests.faults.expiring               # as topology.yaml has the workers' queues
python -m tests.faults.expiring --classic     # from classic queues
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from attune_mq import Publisher, Topology, instantiate, parse_topology, setup_infrastructure
from attune_mq.broker import EmbeddedBroker
from attune_mq.message import decode
from attune_mq.payloads import ExecutionDispatch
from tests.messaging.bench import Bench

SHIPPED = Path(__file__).parents[2] / "topology.yaml"
TTL = {"ATTUNE_DISPATCH_TTL": "2s"}
QUORUM_ONLY = ("type: quorum", "overflow: reject-publish", "delivery_limit: 20")
QUIET_S = 30.0
"""When nothing has come back for so long, nothing will."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="expiring", description=__doc__)
    parser.add_argument("--dispatches", type=int, default=20_000)
    parser.add_argument("--classic", action="store_true", help="the workers' queues are classic")
    options = parser.parse_args()
    topology = _topology(classic=options.classic)
    with EmbeddedBroker() as broker:
        back = _killed_while_they_expire(broker, topology, options.dispatches)
    lost = options.dispatches - len(back)
    twice = back.total() - len(back)
    sys.stdout.write(f"{options.dispatches} dispatches: {lost} lost, {twice} came back twice\n")
    return int(lost > 0)


def _topology(*, classic: bool) -> Topology:
    text = SHIPPED.read_text(encoding="utf-8")
    if classic:
        text = text.replace(", strategy: at-least-once", "")
        lines = text.splitlines()
        text = "\n".join(line for line in lines if not line.strip().startswith(QUORUM_ONLY))
    return parse_topology(text, file="topology.yaml", environment=TTL)


def _killed_while_they_expire(
    broker: EmbeddedBroker, topology: Topology, count: int
) -> Counter[int]:
    """Of the executions whose dispatches are back, how often each."""
    worker = instantiate(topology, "worker", worker_id=1)
    for one in (topology, worker):
        setup_infrastructure(one, broker.url)
    queue = topology.queues["executions"].name
    with Publisher(worker, broker.url, source_service="tests") as publisher:
        publisher.publish_many(_dispatch(number) for number in range(count))
    bench = Bench(broker.url)
    while not bench.depth(queue):
        pass
    broker.kill()
    broker.start()
    bench = Bench(broker.url)
    _wait_until_quiet(bench, queue)
    back = [decode(message.body).payload["execution_id"] for message in bench.take_all(queue)]
    bench.close()
    return Counter(back)


def _dispatch(number: int) -> ExecutionDispatch:
    return ExecutionDispatch(
        execution_id=number,
        worker_id=1,
        action_ref="core.echo",
        scheduled_attempt_updated_at=datetime.now(UTC),
    )


def _wait_until_quiet(bench: Bench, queue: str) -> None:
    depth, since_s = -1, time.monotonic()
    while time.monotonic() - since_s < QUIET_S:
        if bench.depth(queue) != depth:
            depth, since_s = bench.depth(queue), time.monotonic()
        time.sleep(0.5)


if __name__ == "__main__":
    raise SystemExit(main())
