"""How long a migration takes, and for how long there is no queue or exchange in its midst.

    python -m benchmarks.migration [ROOT]

On a private node, of the Debian suite unpacked in ROOT if that is given. A prober publishes
straight to the queue, or to the exchange, some hundred messages a second, each confirmed and
mandatory; the gap is the time in which the broker would not take them.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pika
from pika import exceptions as pika_errors
from pika.adapters.blocking_connection import BlockingChannel

from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.infrastructure import setup_infrastructure
from attune_mq.messaging.outgoing import Outgoing
from attune_mq.messaging.publisher import Publisher
from attune_mq.migration.migrating import migrate
from attune_mq.migration.queue_migration import MigratedQueue
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import Topology

BACKLOG = 5_000
PAUSE_S = 0.005
BODY = b"x" * 450
FILE = """
version: 1
exchanges:
  work: {name: work, type: TYPE}
queues:
  work: {name: work.queue QUEUE}
bindings:
  - {source: work, destination: work, routing_key: requested}
"""


def topology(queue: str = "", exchange_type: str = "direct") -> Topology:
    return parse_topology(FILE.replace("QUEUE", queue).replace("TYPE", exchange_type))


class Change(NamedTuple):
    name: str
    before: Topology
    after: Topology
    address: tuple[str, str]
    """Exchange and routing key that the prober publishes to."""


TO_QUEUE, TO_EXCHANGE = ("", "work.queue"), ("work", "requested")
CHANGES = (
    Change("classic to quorum", topology(), topology(", type: quorum"), TO_QUEUE),
    Change("quorum to classic", topology(", type: quorum"), topology(), TO_QUEUE),
    Change("TTL of a classic queue", topology(), topology(", ttl: 1h"), TO_QUEUE),
    Change(
        "TTL of a quorum queue",
        topology(", type: quorum"),
        topology(", type: quorum, ttl: 1h"),
        TO_QUEUE,
    ),
    Change("exchange direct to topic", topology(), topology("", "topic"), TO_EXCHANGE),
)


class Prober:
    """``gap_s``: from the first message that was refused to the first that was taken again."""

    def __init__(self, url: str, address: tuple[str, str]) -> None:
        self._url = url
        self._address = address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._refused_at: float | None = None
        self.gap_s = 0.0
        self.refused = 0

    def __enter__(self) -> Prober:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(self._url))
        channel = connection.channel()
        while not self._stop.is_set():
            if not channel.is_open:
                channel = connection.channel()
            self._tell(self._is_taken(channel))
            time.sleep(PAUSE_S)
        connection.close()

    def _is_taken(self, channel: BlockingChannel) -> bool:
        try:
            channel.confirm_delivery()
            channel.basic_publish(*self._address, b"", mandatory=True)
        except (pika_errors.UnroutableError, pika_errors.ChannelClosedByBroker):
            return False
        return True

    def _tell(self, is_taken: bool) -> None:
        now = time.perf_counter()
        if not is_taken:
            self.refused += 1
            self._refused_at = self._refused_at or now
        elif self._refused_at is not None:
            self.gap_s = max(self.gap_s, now - self._refused_at)
            self._refused_at = None


def fill(url: str, wanted: Topology) -> None:
    with Publisher(wanted, url) as publisher:
        properties = pika.BasicProperties(delivery_mode=2, message_id="1")
        message = Outgoing("work", "requested", BODY, properties)
        for _ in range(BACKLOG // 500):
            publisher.send([message] * 500)


def measure(broker: EmbeddedBroker, change: Change) -> str:
    with broker.fresh_vhost() as url:
        setup_infrastructure(change.before, url)
        fill(url, change.before)
        with Prober(url, change.address) as prober:
            [done] = migrate(change.after, url).migrated
        moved = done.moved if isinstance(done, MigratedQueue) else 0
        return (
            f"| {change.name} | {moved:,} | {done.seconds:.1f} | {prober.refused} | "
            f"{prober.gap_s * 1000:.0f} |"
        )


def main(root: str | None) -> None:
    with EmbeddedBroker(root=Path(root) if root else None) as broker:
        print("| change | messages moved | seconds | refused to the prober | gap, ms |")
        print("|---|---|---|---|---|")
        for change in CHANGES:
            print(measure(broker, change), flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
