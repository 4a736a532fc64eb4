"""A migration while one node of a cluster ends: that with its journal, or with the new queue.

Each knows another part of what was on its way. Nothing may be lost; that part may be there twice.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pika
import pytest

from attune_mq import BrokerSettings, Publisher, migrate, setup_infrastructure
from attune_mq.broker import EmbeddedBroker, EmbeddedCluster
from attune_mq.errors import AttuneError
from attune_mq.migration import Progress, Step
from attune_mq.migration.queue_reader import MOST_MESSAGES, QueueReader
from attune_mq.migration.temporary_topology import TemporaryNames
from tests.administration import virtual_host_of
from tests.executor.harness import eventually
from tests.messaging.bench import QUEUE, topology_of
from tests.migration.broker_deaths import MESSAGES, fill_queue, taken

RECOVERS_S = 120.0
"""A deadline against hanging, not a claim about speed."""
QUORUM = topology_of(type="quorum")
CLASSIC = topology_of(ttl="1h")
"""Another classic queue."""


def node_of(cluster: EmbeddedCluster, queue: str, vhost: str) -> EmbeddedBroker:
    """Where a queue of any type is, or its leader."""
    asked = ("--quiet", "list_queues", "--vhost", vhost, "--no-table-headers", "name", "pid")
    for row in cluster.running_node().rabbitmqctl(*asked).splitlines():
        name, _, process = row.partition("\t")
        if name == queue:
            return next(node for node in cluster.nodes if f"<{node.node_name}." in process)
    raise AssertionError(f"there is no queue '{queue}'")


class KilledNode:
    """Kills a node in the third batch of a step: while it is ``sent``, or when it is ``confirmed``.
    ``unanswered``: the node is paused before, so that all other queues have what it has not."""

    def __init__(self, step: Step, moment: str, find: Callable[[], EmbeddedBroker]) -> None:
        self.killed: EmbeddedBroker | None = None
        self._where, self._moment, self._find = step, moment, find
        self._step: Step | None = None
        self._batches = 0

    def see(self, progress: Progress) -> None:
        self._step = progress.step

    def patched(self, patch: pytest.MonkeyPatch) -> None:
        for owner, name, around in (
            (Publisher, "send", self._around_send),
            (QueueReader, "acknowledge", self._around_acknowledge),
        ):
            patch.setattr(owner, name, around(getattr(owner, name)))

    def _around_send(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(publisher: Publisher, copies: Any) -> Any:
            self._batches += self._step is self._where and len(copies) > 1
            if self._moment == "confirmed" or not self._is_now():
                return send(publisher, copies)
            node = self.killed = self._find()
            if self._moment == "unanswered":
                node.pause()
                outcomes = send(publisher, copies)
                node.kill()
                return outcomes
            killing = threading.Thread(target=node.kill)
            killing.start()
            outcomes = send(publisher, copies)
            killing.join()
            return outcomes

        return wrapped

    def _around_acknowledge(self, acknowledge: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> None:
            if self._moment == "confirmed" and self._is_now():
                self.killed = self._find()
                self.killed.kill()
            acknowledge(*arguments)

        return wrapped

    def _is_now(self) -> bool:
        return self._batches == 3 and self.killed is None


@pytest.mark.parametrize(
    ("wanted", "step", "moment", "victim"),
    [
        (QUORUM, Step.DRAIN, "confirmed", "journal"),
        (QUORUM, Step.REFILL, "sent", "new queue"),
        (CLASSIC, Step.REFILL, "sent", "journal"),
        (CLASSIC, Step.REFILL, "unanswered", "new queue"),
    ],
    ids=["quorum, emptying: journal", "quorum: queue", "classic: journal", "classic: queue"],
)
def test_nothing_is_lost_when_one_node_ends(
    cluster: EmbeddedCluster,
    urls: tuple[str, ...],
    step: Step,
    moment: str,
    victim: str,
    wanted: Any,
) -> None:
    """The old queue, the journal and a new classic queue are each on the node by which the call
    came that declared them."""
    vhost = virtual_host_of(urls[0])
    setup_infrastructure(topology_of(), urls[2])
    fill_queue(urls[2])
    queue = TemporaryNames(QUEUE).log_queue if victim == "journal" else QUEUE
    killing = KilledNode(step, moment, lambda: node_of(cluster, queue, vhost))
    ends_at(Step.DIVERT, wanted, urls[0])
    if step is Step.REFILL:
        ends_at(Step.REFILL, wanted, urls[1])

    with pytest.MonkeyPatch.context() as patch:
        killing.patched(patch)
        with suppress(AttuneError, pika.exceptions.AMQPError):
            migrate(wanted, settings(urls[2]), names=[QUEUE], on_progress=killing.see)
    assert killing.killed is not None, "no node was killed"
    cluster.start()
    cluster.wait_until_whole()
    eventually(lambda: is_migrated(wanted, urls[1]), RECOVERS_S)

    counts: Counter[str] = taken(urls[1])
    assert set(counts) == {str(number) for number in range(MESSAGES)}
    assert counts.total() - MESSAGES <= 2 * MOST_MESSAGES


def ends_at(step: Step, wanted: Any, url: str) -> None:
    """A call that is broken off at the beginning of a step."""

    def end(progress: Progress) -> None:
        if progress.step is step:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        migrate(wanted, url, names=[QUEUE], on_progress=end)


def settings(url: str) -> BrokerSettings:
    return BrokerSettings(urls=(url,), heartbeat_s=2, connect_timeout_s=3)


def is_migrated(wanted: Any, url: str) -> bool:
    """A node that has just come back refuses for a moment."""
    try:
        return not migrate(wanted, settings(url), names=[QUEUE]).has_differences
    except (AttuneError, pika.exceptions.AMQPError):
        return False
