"""How long a migration takes, and how long the queue or exchange does not exist meanwhile.

    python -m benchmarks.migration [ROOT]

On a private node, of the Debian suite unpacked in ROOT if that is given. The gap is the time in
which a passive declaration, sent again and again, does not find the queue, or the exchange; 0 where
none came in between.
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
from attune_mq.message.outgoing import Outgoing
from attune_mq.migration.migrating import migrate
from attune_mq.migration.report import MigratedQueue
from attune_mq.publishing.publisher import Publisher
from attune_mq.topology.loading import parse_topology
from attune_mq.topology.model import Topology

BACKLOG = 5_000
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
    of_queue: bool = True


CHANGES = (
    Change("classic to quorum", topology(), topology(", type: quorum")),
    Change("quorum to classic", topology(", type: quorum"), topology()),
    Change("TTL of a classic queue", topology(), topology(", ttl: 1h")),
    Change(
        "TTL of a quorum queue",
        topology(", type: quorum"),
        topology(", type: quorum, ttl: 1h"),
    ),
    Change("exchange direct to topic", topology(), topology("", "topic"), of_queue=False),
)


class Prober:
    """``gap_s``: from the last time that it was there to the first that it was there again."""

    def __init__(self, url: str, *, of_queue: bool) -> None:
        self._url = url
        self._of_queue = of_queue
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.gap_s = 0.0

    def __enter__(self) -> Prober:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(self._url))
        channel = connection.channel()
        seen_at, was_there = time.perf_counter(), True
        while not self._stop.is_set():
            channel = channel if channel.is_open else connection.channel()
            is_there = self._is_there(channel)
            now = time.perf_counter()
            if is_there and not was_there:
                self.gap_s = max(self.gap_s, now - seen_at)
            seen_at, was_there = (now if is_there else seen_at), is_there
        connection.close()

    def _is_there(self, channel: BlockingChannel) -> bool:
        try:
            if self._of_queue:
                channel.queue_declare("work.queue", passive=True)
            else:
                channel.exchange_declare("work", passive=True)
        except pika_errors.ChannelClosedByBroker:
            return False
        return True


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
        with Prober(url, of_queue=change.of_queue) as prober:
            [done] = migrate(change.after, url).migrated
        moved = done.moved if isinstance(done, MigratedQueue) else 0
        return f"| {change.name} | {moved:,} | {done.seconds:.1f} | {prober.gap_s * 1000:.0f} |"


def main(root: str | None) -> None:
    with EmbeddedBroker(root=Path(root) if root else None) as broker:
        print("| change | messages moved | seconds | gap, ms |")
        print("|---|---|---|---|")
        for change in CHANGES:
            print(measure(broker, change), flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
